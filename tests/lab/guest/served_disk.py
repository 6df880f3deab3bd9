"""Inside a guest: direct reads and writes of served disks, what they hold, and fio's word on them.

`served_disk.py DISK ...`: of each a document of digests, by what was read; of /dev/hwrng where its numbers come from,
and how many different ones of 64 bytes there were.
"""

import hashlib
import json
import mmap
import os
import sys

SIZES = 4096, 1 << 20
"""Bytes of a request, direct: no page cache of the guest's between."""


def block(seed: int, size: int) -> bytes:
    """As the other side makes it, too."""
    return hashlib.shake_128(seed.to_bytes(8, "little")).digest(size)


def loads(path: str) -> dict[str, object]:
    """Digest of the first MiB as it came, then blocks written at 8 MiB and on, and read again."""
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    buffer = mmap.mmap(-1, 1 << 20)
    os.preadv(fd, [buffer], 0)
    found: dict[str, object] = {"first": hashlib.sha256(buffer).hexdigest(), "wrong": 0}
    place = 8 << 20
    for size in SIZES:
        view = memoryview(buffer)[:size]
        for seed in range(16 if size == 4096 else 4):
            view[:] = block(seed + size, size)
            os.pwritev(fd, [view], place)
            view[:] = bytes(size)
            os.preadv(fd, [view], place)
            found["wrong"] = int(str(found["wrong"])) + (bytes(view) != block(seed + size, size))
            place += size
    os.fsync(fd)
    os.close(fd)
    return found


RANDOM, NUMBERS = "/dev/hwrng", 64


def numbers() -> dict[str, object]:
    """From the device that gives them out, and how many of them differ."""
    with open("/sys/class/misc/hw_random/rng_current") as current, open(RANDOM, "rb", buffering=0) as source:
        found = {source.read(64) for _ in range(NUMBERS)}
        return {"from": current.read().strip(), "different": len(found)}


if __name__ == "__main__":
    print(json.dumps({path: numbers() if path == RANDOM else loads(path) for path in sys.argv[1:]}))
