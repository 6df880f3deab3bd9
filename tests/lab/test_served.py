"""A stock guest under stock QEMU on served disks: what it wrote is in the file, what it read was."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from pagewarden.lab import fetch, qemu
from served_guest import INSIDE, LIMIT, block, served


def test_a_stock_guest_reads_and_writes(kernel: fetch.Kernel, tmp_path: Path) -> None:
    content = np.random.default_rng(1).bytes(64 << 20)
    (tmp_path / "open").write_bytes(content)
    with served(tmp_path / "open", tmp_path, "open") as (process, words):
        shape = qemu.GuestShape(words=(*words, "-device", "vhost-user-blk-pci,chardev=open,addr=0x1a"))
        answer = qemu.run(kernel, [sys.executable, str(INSIDE), "/dev/vdd"], LIMIT, shape=shape)
        assert answer.status == 0, answer.stderr
        document = json.loads(process.communicate(timeout=LIMIT)[0])
        assert process.returncode == 0, "QEMU's end is no error"
    (found,) = json.loads(answer.stdout).values()
    assert found == {"first": hashlib.sha256(content[: 1 << 20]).hexdigest(), "wrong": 0}
    written, place = (tmp_path / "open").read_bytes(), 8 << 20
    for size, count in ((4096, 16), (1 << 20, 4)):
        for seed in range(count):
            assert written[place : place + size] == block(seed + size, size)
            place += size
    assert document["requests"] >= 40 and not document["refused"]
