"""A VMM's own snapshot of its memory, sealed: what the host keeps of it from then on it can neither read nor change."""

import errno
import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pagewarden.keep.seal import BATCH, wipe
from pagewarden.keep.snapshot import Manifest, write_snapshot
from pagewarden.kernel.door import SIZE_MAX, Descriptor
from pagewarden.memory.leaving import file_runs
from pagewarden.vocab import PAGE_SIZE, Refused, UserMistake
from pagewarden.vocab.progress import Advance
from pagewarden.vocab.runs import runs_of_pages


class SealedPages(NamedTuple):
    """pages: that the memory has; sealed: those of them that are not all zeroes, which alone lie in the file."""

    pages: int
    sealed: int


def seal_plain(
    path: str | os.PathLike[str], out: str | os.PathLike[str], key: bytes, tell: Advance = lambda done, total: None
) -> SealedPages:
    """Seal a plain snapshot into `out`, which is there whole or not at all, as of write_snapshot; tell: pages. The
    plain file stays as it is. UserMistake for one that is no memory, Refused(EBUSY) where it changes meanwhile."""
    file = Descriptor(path, "r")
    buffer = memoryview(bytearray(BATCH * PAGE_SIZE))
    try:
        before = os.fstat(file.fd)
        size = before.st_size
        if not 0 < size <= SIZE_MAX or size % PAGE_SIZE:
            raise UserMistake(
                f"{os.fspath(path)} has {size:,} bytes, which is no memory: give one of whole pages ({PAGE_SIZE} bytes)"
            )
        total, done = size // PAGE_SIZE, 0
        present = np.zeros(total, np.bool_)
        for start, end in file_runs(file.fd, size):
            for first in range(start // PAGE_SIZE, -(-end // PAGE_SIZE), BATCH):
                pages = np.arange(first, min(first + BATCH, -(-end // PAGE_SIZE)))
                _read(file.fd, pages, buffer)
                words = np.frombuffer(buffer, np.uint64, len(pages) * PAGE_SIZE // 8).reshape(len(pages), -1)
                present[pages] = words.any(1)

        def copy(pages: "NDArray[np.int64]", plain: memoryview) -> None:
            nonlocal done
            _read(file.fd, pages, plain)
            now = os.fstat(file.fd)
            if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise _changed()
            done += len(pages)
            tell(done, sealed)

        sealed = int(present.sum())
        write_snapshot(out, key, Manifest(present, np.zeros(total, np.bool_), b""), copy)
        return SealedPages(total, sealed)
    finally:
        wipe(buffer)
        file.close()


def _read(fd: int, pages: "NDArray[np.int64]", out: memoryview) -> None:
    """Ascending pages, one after the other."""
    for first, stop in runs_of_pages(pages):
        part, at = out[first * PAGE_SIZE : stop * PAGE_SIZE], int(pages[first]) * PAGE_SIZE
        while part:
            done = os.preadv(fd, [part], at)
            if not done:
                raise _changed()
            part, at = part[done:], at + done


def _changed() -> Refused:
    return Refused(errno.EBUSY, "the plain snapshot changes while it is sealed: wait until its VMM has written it")
