"""Regions of address space: reserved, a file placed in them, advised, barred, and what a fork makes of them."""

import ctypes
import errno
import mmap
import os
import weakref
from collections.abc import Callable
from contextlib import suppress

from pagewarden.abi import memory as uapi
from pagewarden.kernel.causes import CallFailed
from pagewarden.kernel.door import syscall
from pagewarden.vocab import HUGE_PAGE, PAGE_SIZE

_OWN = uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS | uapi.MAP_NORESERVE
PRESENT = 1 << 63
"""In an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst)."""


def zeroes(size: int) -> mmap.mmap:
    """Ordinary memory of this process, for which nobody asks huge pages. MemoryError."""
    try:
        return mmap.mmap(-1, size, uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError from error


class Region:
    """Reserved addresses that a file is placed in. They stay reserved until `close`, whatever is placed.

    Python's own mmap object owns the range, so exported memoryviews and arrays keep it alive: after `close` they lead
    to nothing (SIGSEGV), never to somebody else's memory.

    Nothing of a reservation counts as private writable memory (RLIMIT_DATA). In a forked child a region that was kept
    to its process is reserved again, so that nothing else comes to lie where its buffers and its `close` reach.

    The start never lies on a 2 MiB boundary: a page of the file then cannot be mapped by a huge entry, which
    madvise(MADV_COLLAPSE) would install over a userfaultfd guard, neighbours included (seen on Linux 6.18).
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._alone = False
        """No forked child has it."""
        flags = uapi.MAP_SHARED | uapi.MAP_ANONYMOUS | uapi.MAP_NORESERVE
        try:
            self._owner = mmap.mmap(-1, size + PAGE_SIZE, flags, uapi.PROT_READ | uapi.PROT_WRITE)
        except OSError as error:
            raise CallFailed("mmap", error.errno or errno.EIO) from error
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._owner))
        self._skew = 0 if base % HUGE_PAGE else PAGE_SIZE
        self.address = base + self._skew
        self.memory = memoryview(self._owner)[self._skew : self._skew + size]
        """The mapping itself, a writable buffer of bytes."""
        _regions.add(self)

    def fill(self) -> None:
        """Put ordinary memory of this process there, zeroes; OSError."""
        syscall("mmap", self.address, self.size, uapi.PROT_READ | uapi.PROT_WRITE, _OWN | uapi.MAP_FIXED, -1, 0)

    def place(
        self,
        fd: int,
        prot: int = uapi.PROT_READ | uapi.PROT_WRITE,
        offset: int = 0,
        length: int | None = None,
        at: int = 0,
        shared: bool = True,
    ) -> None:
        """Map the file from the offset on over the region, or `length` bytes of it from `at` on; OSError. shared: what
        is written goes to the file, else to a frame of this mapping alone."""
        size = self.size if length is None else length
        kind = uapi.MAP_SHARED if shared else uapi.MAP_PRIVATE | uapi.MAP_NORESERVE
        syscall("mmap", self.address + at, size, prot, kind | uapi.MAP_FIXED, fd, offset)

    def bar(self, length: int | None = None, at: int = 0) -> None:
        """Nothing is reachable through the region, or these bytes of it, any more; OSError."""
        size = self.size if length is None else length
        try:
            syscall("mmap", self.address + at, size, uapi.PROT_NONE, _OWN | uapi.MAP_FIXED, -1, 0)
        except BaseException as error:  # no room for a fresh mapping: what is there must not answer any more
            self.protect(uapi.PROT_NONE, at, size)
            if not isinstance(error, OSError):
                raise

    def advise(self, advice: int, offset: int, length: int) -> None:
        """madvise(2) on a part, in bytes; OSError."""
        self._owner.madvise(advice, self._skew + offset, length)

    def adviser(self, advice: int) -> Callable[[int, int], None]:
        """`advise` with this advice, of (offset, length): the quickest way from Python."""
        madvise, skew = self._owner.madvise, self._skew

        def advise(offset: int, length: int) -> None:
            madvise(advice, skew + offset, length)

        return advise

    def advise_all(self, *advices: int) -> None:
        """Several madvise(2) on the whole region; OSError."""
        for advice in advices:
            self.advise(advice, 0, self.size)
            self._alone |= advice == uapi.MADV_DONTFORK

    def keep_to_this_process(self, at: int = 0, length: int | None = None) -> None:
        """No forked child and no core dump gets at the region, or this part of it, and no huge page closes what was
        opened singly."""
        part = at, self.size if length is None else length
        self.advise(uapi.MADV_DONTFORK, *part)
        self._alone |= length is None
        self.advise(uapi.MADV_DONTDUMP, *part)
        try:
            self.advise(uapi.MADV_NOHUGEPAGE, *part)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a kernel without huge pages does not know the advice
                raise

    def best_zap(self) -> int:
        """The advice that drops page-table entries, also under mlockall where the kernel has that."""
        try:
            self.advise_all(uapi.MADV_DONTNEED_LOCKED)
        except OSError:
            return uapi.MADV_DONTNEED
        return uapi.MADV_DONTNEED_LOCKED

    def lock_when_touched(self, at: int = 0, length: int | None = None) -> bool:
        """Keep pages, or those of this part, in memory from their first touch on; False where RLIMIT_MEMLOCK does not
        allow it. Reclaim would shut a shared page that is mapped nowhere else; the window's accessors open it again."""
        with suppress(OSError):
            syscall("mlock2", self.address + at, self.size if length is None else length, uapi.MLOCK_ONFAULT)
            return True
        return False

    def is_mapped(self, offset: int, length: int) -> bool:
        """Whether this process's page table has an entry for every page of a part, whatever that allows."""
        first, count = (self.address + offset) // PAGE_SIZE, length // PAGE_SIZE
        with open("/proc/self/pagemap", "rb", buffering=0) as table:
            entries = memoryview(os.pread(table.fileno(), 8 * count, 8 * first)).cast("Q")
        return len(entries) == count and min(entries, default=PRESENT) >= PRESENT

    def protect(self, prot: int, offset: int, length: int) -> None:
        """mprotect(2) on a part; OSError, perhaps with the first pages of it changed."""
        syscall("mprotect", self.address + offset, length, prot)

    def close(self) -> None:
        """Bar the region; its addresses go back with the last exported buffer. Twice is once."""
        if self._owner.closed:
            return
        try:
            self.bar()
        finally:
            with suppress(BufferError):  # arrays of the caller refer to it: it goes with the last of them
                self.memory.release()
                self._owner.close()

    def forked(self) -> None:
        """In a forked child: see the class."""
        if not self._alone or self._owner.closed:
            return
        try:
            syscall("mmap", self.address, self.size, uapi.PROT_NONE, _OWN | uapi.MAP_FIXED_NOREPLACE, -1, 0)
        except OSError:  # something of the child's lies there already: the owner must never unmap it
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._owner))
            self.close = lambda: None  # type: ignore[method-assign]


_regions: "weakref.WeakSet[Region]" = weakref.WeakSet()


def _in_the_child() -> None:
    for region in list(_regions):
        region.forked()


os.register_at_fork(after_in_child=_in_the_child)
