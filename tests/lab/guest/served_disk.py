"""Inside a guest: direct reads and writes of served disks, what they hold, and fio's word on them.

`served_disk.py DISK ...`: of each a document of digests, by what was read. With /dev/hwrng also where its numbers come
from, how many different ones of 64 bytes there were, and what became of writes while the host killed its back ends.
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


MARK, ROUNDS_AT = 62 << 20, 32 << 20
"""Where the host marks that its back ends are others by now; where blocks are written until then."""


def until_marked(paths: list[str]) -> dict[str, int]:
    """How many blocks were not what had been written, until each disk has its mark: whoever serves it is killed
    meanwhile, and another takes its place."""
    with open("/dev/console", "w") as console:
        console.write("pagewarden: 1 of 1\n")
    fds = [os.open(path, os.O_RDWR | os.O_DIRECT) for path in paths]
    page, wrong, rounds, waiting = mmap.mmap(-1, 4096), 0, 0, set(fds)
    while waiting:
        for fd in fds:
            place, page[:] = ROUNDS_AT + rounds % 64 * 4096, block(rounds, 4096)
            os.pwritev(fd, [page], place)
            page[:] = bytes(4096)
            os.preadv(fd, [page], place)
            wrong += page[:] != block(rounds, 4096)
            os.preadv(fd, [page], MARK)
            if page[:64] == bytes([1]) * 64:
                waiting.discard(fd)
        rounds += 1
    return {"wrong": wrong}


RANDOM, NUMBERS = "/dev/hwrng", 64


def numbers() -> dict[str, object]:
    """From the device that gives them out, and how many of them differ."""
    with open("/sys/class/misc/hw_random/rng_current") as current, open(RANDOM, "rb", buffering=0) as source:
        found = {source.read(64) for _ in range(NUMBERS)}
        return {"from": current.read().strip(), "different": len(found)}


if __name__ == "__main__":
    disks = [path for path in sys.argv[1:] if path != RANDOM]
    first: dict[str, object] = {}
    if RANDOM in sys.argv:
        first = {"until marked": until_marked(disks), RANDOM: numbers()}
    print(json.dumps({**first, **{path: loads(path) for path in disks}}))
