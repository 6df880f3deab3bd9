"""Inside a guest: direct reads and writes of served disks, what they hold, and fio's word on them.

`served_disk.py DISK ...`: of each a document of digests, by what was read; status 1 where something read is not what
was written.
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


if __name__ == "__main__":
    print(json.dumps({path: loads(path) for path in sys.argv[1:]}))
