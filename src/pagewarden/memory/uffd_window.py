"""A memfd mapped twice, the host's view guarded by userfaultfd: in place, contents kept, on a stock kernel."""

import errno
import os
from contextlib import ExitStack, suppress

from pagewarden.abi import memory as uapi
from pagewarden.abi.uffd import UFFDIO_CONTINUE
from pagewarden.kernel.door import Region, ioctl_inplace, memfd, syscall
from pagewarden.kernel.uffd import CONTINUE, CONTINUE_MODE_DONTWAKE, GUARD, GUARD_FEATURES, Userfault
from pagewarden.memory.backing import Price, keep_to_this_process, punch_hole
from pagewarden.vocab import PAGE_SIZE, Event

PATIENCE = 1000
"""Tries in a row at one page before an EAGAIN without progress (the address space is changing) is passed on."""


def open_window(guard: Userfault, address: int, guest: Region, offset: int, length: int) -> None:
    """Map [offset, offset + length) into the window that starts at `address`; OSError, some perhaps done.

    Pages that are mapped already stay; holes are filled first, through the guest's view (a window page cannot be
    continued from a hole: EFAULT). Source: mm/userfaultfd.c, mfill_atomic_pte_continue.
    """
    end, filled, tries = offset + length, -1, 0
    while offset < end:
        done, code = guard.map_present(address + offset, end - offset)
        offset += done
        tries = 0 if done else tries + 1
        if code == errno.EEXIST:
            offset += PAGE_SIZE
        elif code == errno.EFAULT and filled < offset:
            guest.advise(uapi.MADV_POPULATE_WRITE, offset, end - offset)
            filled = offset
        elif code not in (0, errno.EAGAIN) or tries > PATIENCE:
            raise OSError(code, f"UFFDIO_CONTINUE: {os.strerror(code)}")


def best_zap(region: Region) -> int:
    """The advice that drops page-table entries, also under mlockall where the kernel has that."""
    try:
        region.advise_all(uapi.MADV_DONTNEED_LOCKED)
    except OSError:
        return uapi.MADV_DONTNEED
    return uapi.MADV_DONTNEED_LOCKED


def lock_when_touched(region: Region) -> None:
    """Keep pages in memory from their first touch on. Reclaim would shut a shared page that is mapped nowhere else;
    beyond RLIMIT_MEMLOCK that may happen, and the window's accessors then open the page again."""
    with suppress(OSError):
        syscall("mlock2", region.address, region.size, uapi.MLOCK_ONFAULT)


class UffdWindow:
    """The cooperating host: guard, window and open mapping in one process.

    The ledger counts one invalidation a run; the kernel flushes once for each page table (2 MiB) that a run touches
    (mm/memory.c, zap_pte_range: dirty pages of a file are flushed before the table's lock is dropped).
    """

    name = "uffd-window"
    whole_file = False
    opening = Price({Event.HYP_PTE_SET: 1})
    shutting = Price({Event.HYP_PTE_CLEAR: 1}, {Event.TLBI: 1})
    punching = Price({}, {Event.TLBI: 1})

    def __init__(self, size: int) -> None:
        with ExitStack() as undo:
            self.file = memfd("pagewarden", size)
            undo.callback(os.close, self.file)
            self.guest = Region(size)
            undo.callback(self.guest.close)
            self.guest.place(self.file)
            keep_to_this_process(self.guest)
            self.guard = Userfault(GUARD_FEATURES)
            undo.callback(self.guard.close)
            self.window = Region(size)
            undo.callback(self.window.close)  # barred before the guard goes
            self.window.place(self.file)
            keep_to_this_process(self.window)
            self.guard.register(self.window.address, size, GUARD)
            self.zap = best_zap(self.window)
            self._advise = self.window.advise
            self._start, self._fd = self.window.address, self.guard.fd
            lock_when_touched(self.guest)
            self._release = undo.pop_all()

    def open(self, offset: int, length: int) -> None:
        request = bytearray(CONTINUE.pack(self._start + offset, length, CONTINUE_MODE_DONTWAKE, 0))
        try:
            ioctl_inplace(self._fd, UFFDIO_CONTINUE, request)
        except OSError:
            self._open_slowly(offset, length)

    def _open_slowly(self, offset: int, length: int) -> None:
        try:
            open_window(self.guard, self.window.address, self.guest, offset, length)
        except OSError:
            self.shut(offset, length)
            raise

    def shut(self, offset: int, length: int) -> None:
        self._advise(self.zap, offset, length)

    def punch(self, offset: int, length: int) -> None:
        punch_hole(self.file, offset, length)

    def close(self) -> None:
        self._release.close()
