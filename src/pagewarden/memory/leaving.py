"""A memory whose VM leaves for another process: nothing of it changes hands meanwhile, and nothing of it stays."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from pagewarden.kernel.door import punch_hole
from pagewarden.memory.private import PrivateMemory
from pagewarden.vocab import PAGE_SIZE, PageRange, Refused

_CHUNK = 1 << 20


def data_runs(memory: PrivateMemory) -> Iterator[tuple[int, int]]:
    """The parts of its file that have bytes, first and end in bytes, whole pages; all of it where the file does not
    say."""
    return file_runs(memory.file, memory.size)


def file_runs(file: int, size: int) -> Iterator[tuple[int, int]]:
    """The same of the first `size` bytes of a file (lseek(2), SEEK_DATA)."""
    at = 0
    try:
        while at < size:
            start = os.lseek(file, at, os.SEEK_DATA)
            at = os.lseek(file, start, os.SEEK_HOLE)
            yield start, min(at, size)
    except OSError as error:
        if error.errno != errno.ENXIO:  # which says: a hole up to the end
            yield at, size


@contextmanager
def frozen(memory: PrivateMemory) -> Iterator[bytes]:
    """Conversions wait meanwhile; the ledger, a byte a page, 1 where it is shared. Loans are taken back before.
    Refused(EBUSY) by the page that somebody holds, and how much they hold."""
    with memory._lock, memory._bolts:
        memory._alive()
        for ranges in list(memory._consumers.present.values()):
            for held in ranges:
                why = (
                    f"pages [{held.start}, {held.stop}) are held by who does I/O there: let it end, or release the hold"
                )
                raise Refused(errno.EBUSY, why, held.start * PAGE_SIZE)
        memory._consumers.take_back(PageRange(0, memory._pages))
        yield bytes(memory._state.shared)


def scrub(file: int, size: int, view: memoryview | None = None) -> None:
    """The first `size` bytes are overwritten with zeroes, and their frames go back; by the view where the file is
    reached by its mapping alone (memfd_secret). OSError, and again is allowed."""
    zeroes = bytes(_CHUNK)
    for start, end in list(file_runs(file, size)):
        for at in range(start, end, _CHUNK):
            length = min(_CHUNK, end - at)
            try:
                os.pwrite(file, zeroes[:length], at)
            except OSError:
                if view is None:
                    raise
                view[at : at + length] = zeroes[:length]
    with suppress(OSError):  # memfd_secret has no holes: zeroes they are
        punch_hole(file, 0, size)


def relinquish(memory: PrivateMemory, why: str) -> None:
    """Nothing answers the host any more, every byte of the file is zeroes and its frames go back; who uses the memory
    from now on is Refused(ESTALE) with that reason. It is still to be closed. OSError, and again is allowed."""
    with memory._lock:
        memory._backing.bar()
        scrub(memory._backing.file, memory.size, memory._backing.guest.memory)
        memory._state.finish(partial(Refused, errno.ESTALE, why))
