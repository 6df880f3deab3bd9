"""A stock guest under stock QEMU on served disks, one without a guard, one behind the guest's own IOMMU, and on the
entropy device of the worked example: what it wrote is in the files, what it read was, also where the back ends were
killed in the midst and QEMU came to others; and the devices' processes saw nothing that was not mapped."""

import hashlib
import json
import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from live import require
from pagewarden.lab import fetch, qemu
from served_guest import BEHIND_IOMMU, INSIDE, LIMIT, RANDOM, block, random_numbers, served

STRICT = "intel_iommu=on iommu.strict=1 iommu.passthrough=0"
MARK = 62 << 20
"""Where a disk says that it is served by another back end by now."""
SLOTS = 2048
"""Of a small bounce pool, 4 MiB."""


def test_a_stock_guest_reads_and_writes(kernel: fetch.Kernel, tmp_path: Path) -> None:
    content = np.random.default_rng(1).bytes(64 << 20)
    for mode in ("open", "iommu"):
        (tmp_path / mode).write_bytes(content)
    with ExitStack() as opened, random_numbers(tmp_path) as (source, words):
        backs: dict[str, Any] = {}

        def begin() -> None:
            for mode in ("open", "iommu"):
                more = ["--probe"] if mode == "iommu" else []
                backs[mode] = opened.enter_context(served(tmp_path / mode, tmp_path, mode, *more))

        def kill(*_: int) -> None:
            """Both, once, while the guest writes: it goes on until it reads the mark."""
            if killed:
                return
            for process, _ in backs.values():
                process.kill()
                killed.append(process.wait())
            begin()
            for mode in backs:
                with (tmp_path / mode).open("r+b") as disk:
                    disk.seek(MARK)
                    disk.write(bytes([1]) * 64)

        killed: list[int] = []
        begin()
        for _, (chardev, name) in backs.values():
            words += [chardev, f"{name},reconnect=1"]
        devices = ["-device", "vhost-user-blk-pci,chardev=open,addr=0x1a", *BEHIND_IOMMU, *RANDOM]
        shape = qemu.GuestShape(STRICT, words=(*words, *devices))
        disks = "/dev/vdd", "/dev/vde"
        answer = qemu.run(
            kernel, [sys.executable, str(INSIDE), *disks, "/dev/hwrng"], LIMIT, shape=shape, progress=kill
        )
        assert answer.status == 0, answer.stderr
        documents = []
        for process, _ in backs.values():
            out, err = process.communicate(timeout=LIMIT)
            require("cannot be kept apart" not in err, err)
            assert process.returncode == 0, "QEMU's end is no error"
            documents.append(json.loads(out))
        out, err = source.communicate(timeout=LIMIT)
        assert source.returncode == 0 and not re.search("refused|reset", err), err
    drawn = json.loads(answer.stdout)
    assert drawn.pop("until marked") == {"wrong": 0} and killed == [-9, -9]
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
    assert lent["probed"] > 1000 and lent["violations"] == 0 and lent["device_restarts"] == 0


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
