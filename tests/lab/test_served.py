"""A stock guest under stock QEMU on served disks, one without a guard, one behind the guest's own IOMMU, and on the
entropy device of the worked example: what it wrote is in the files, what it read was, and the devices' processes saw
nothing that was not mapped."""

import hashlib
import json
import re
import sys
from pathlib import Path

import numpy as np

from live import require
from pagewarden.lab import fetch, qemu
from served_guest import BEHIND_IOMMU, INSIDE, LIMIT, RANDOM, block, random_numbers, served

STRICT = "intel_iommu=on iommu.strict=1 iommu.passthrough=0"
SLOTS = 2048
"""Of a small bounce pool, 4 MiB."""


def test_a_stock_guest_reads_and_writes(kernel: fetch.Kernel, tmp_path: Path) -> None:
    content = np.random.default_rng(1).bytes(64 << 20)
    for mode in ("open", "iommu"):
        (tmp_path / mode).write_bytes(content)
    with (
        served(tmp_path / "open", tmp_path, "open") as (plain, words),
        served(tmp_path / "iommu", tmp_path, "iommu", "--probe") as (guarded, more),
        random_numbers(tmp_path) as (source, most),
    ):
        devices = ["-device", "vhost-user-blk-pci,chardev=open,addr=0x1a", *BEHIND_IOMMU, *RANDOM]
        shape = qemu.GuestShape(STRICT, words=(*words, *more, *most, *devices))
        disks = "/dev/vdd", "/dev/vde"
        answer = qemu.run(kernel, [sys.executable, str(INSIDE), *disks, "/dev/hwrng"], LIMIT, shape=shape)
        assert answer.status == 0, answer.stderr
        documents = []
        for process in (plain, guarded):
            out, err = process.communicate(timeout=LIMIT)
            require("cannot be kept apart" not in err, err)
            assert process.returncode == 0, "QEMU's end is no error"
            documents.append(json.loads(out))
        out, err = source.communicate(timeout=LIMIT)
        assert source.returncode == 0 and not re.search("refused|reset", err), err
    drawn = json.loads(answer.stdout)
    numbers = drawn.pop("/dev/hwrng")
    assert numbers == {"from": "virtio_rng.0", "different": 64}
    given = re.fullmatch(
        r"(\d+) requests, (\d+) bytes, (\d+) pages open at most, 0 refused\n\d+ closed .* which 0 answered\n", out
    )
    assert given is not None and int(given[2]) >= 64 * 64 and int(given[3]) < 16
    for found in drawn.values():
        assert found == {"first": hashlib.sha256(content[: 1 << 20]).hexdigest(), "wrong": 0}
    for mode in ("open", "iommu"):
        written, place = (tmp_path / mode).read_bytes(), 8 << 20
        for size, count in ((4096, 16), (1 << 20, 4)):
            for seed in range(count):
                assert written[place : place + size] == block(seed + size, size)
                place += size
    everything, lent = documents
    assert everything["requests"] >= 40 and not everything["refused"] and not lent["refused"]
    assert lent["requests"] >= 40 and lent["pages_opened"] > 1000
    assert lent["max_open"] < 600 < everything["max_open"]
    assert lent["probed"] > 10_000 and lent["violations"] == 0 and lent["device_restarts"] == 0


def test_a_guest_that_bounces_lends_its_pool_alone(kernel: fetch.Kernel, tmp_path: Path) -> None:
    content = np.random.default_rng(2).bytes(64 << 20)
    (tmp_path / "pool").write_bytes(content)
    device = ["-device", "vhost-user-blk-pci,chardev=pool,addr=0x1a,iommu_platform=on,disable-legacy=on"]
    with served(tmp_path / "pool", tmp_path, "pool", "--probe") as (process, words):
        shape = qemu.GuestShape(f"swiotlb={SLOTS},force", words=(*words, *device))
        answer = qemu.run(kernel, [sys.executable, str(INSIDE), "/dev/vdd"], LIMIT, shape=shape)
        assert answer.status == 0, answer.stderr
        out, err = process.communicate(timeout=LIMIT)
        require("cannot be kept apart" not in err, err)
        assert process.returncode == 0 and not re.search("refused|reset", err)
    (found,) = json.loads(answer.stdout).values()
    assert found == {"first": hashlib.sha256(content[: 1 << 20]).hexdigest(), "wrong": 0}
    lent = json.loads(out)
    pool, rings = SLOTS * 2048 // 4096, 4
    assert pool // 2 <= lent["max_open"] <= pool + rings, "what is opened is the pool, most of it, and nothing else"
    assert lent["refused"] == lent["violations"] == lent["device_restarts"] == 0 and lent["probed"] > 10_000
