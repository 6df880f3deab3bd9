"""A window of another process on a front end's memory: opened from here, closed there, and looked at from here."""

import os
from contextlib import suppress
from struct import Struct

import numpy as np

from pagewarden.abi import uffd
from pagewarden.kernel.door import Descriptor
from pagewarden.kernel.region import Region
from pagewarden.kernel.uffd import YIELDING
from pagewarden.memory.backings.uffd_window import share_window
from pagewarden.memory.isolated.keeper import HostKeeper
from pagewarden.memory.isolated.process import HostProcess
from pagewarden.vocab import PAGE_SIZE, Refused, Unavailable
from pagewarden.vocab.runs import in_runs

_ENTRY = Struct("<Q")
_PRESENT = 1 << 63
"""Of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst)."""


class LentWindow(HostKeeper):
    """The file of the memory, whose open mapping is this process's, and the host side that has the window.

    Offsets are bytes, whole pages. A page is open from `open` until the host side closed it.
    """

    def __init__(self, file: Descriptor, size: int) -> None:
        super().__init__()
        self._take(file, size)
        self._guest = self.own(Region(size))
        self._guest.place(self.file)
        self._guest.keep_to_this_process()
        self._pagemap: Descriptor | None = None
        self._keep_apart()

    def _open(self, host: HostProcess, runs: list[tuple[int, int]]) -> None:
        if host.guard is not None and not runs:
            host.guard.register(host.address, self.size, YIELDING)  # so that pages can be opened for reading alone
        try:
            self._pagemap = Descriptor(os.open(f"/proc/{host.pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise Unavailable(
                f"whether the device's process closed a page cannot be seen: /proc/PID/pagemap: {error.strerror}",
                "run as root, with /proc of the PID namespace",
            ) from error

    def open(self, offset: int, writable: bool) -> None:
        """The page answers from now on, for reading or for both; one that answered stays. OSError. To a host side that
        died meanwhile nothing is opened (fs/userfaultfd.c: ESRCH once its memory is gone)."""
        host = self._host
        if host is None or host.guard is None:
            return
        mode = 0 if writable else uffd.UFFDIO_CONTINUE_MODE_WP
        with suppress(ProcessLookupError):
            share_window(host.guard, host.address, self._guest, offset, PAGE_SIZE, mode)

    def widen(self, offset: int) -> None:
        """A page that answers for reading may be written, too, from now on. OSError."""
        if self._host is not None and self._host.guard is not None:
            with suppress(ProcessLookupError):
                self._host.guard.write_protect(self._host.address + offset, PAGE_SIZE, on=False)

    def answers(self, offset: int, pages: int = 1) -> bool:
        """Is one of these pages mapped in the host side?"""
        if self._host is None or self._pagemap is None or self._host.dead:
            return False
        at = (self._host.address + offset) // PAGE_SIZE * _ENTRY.size
        entries = os.pread(self._pagemap.fd, _ENTRY.size * pages, at)
        if len(entries) < _ENTRY.size * pages:
            raise Refused(0, "the address space of the device's process is not to be seen", offset)
        return any(entry & _PRESENT for (entry,) in _ENTRY.iter_unpack(entries))

    def any_open(self, pages: list[int]) -> bool:
        """Does one of these ascending pages answer the host side, or can that not be seen?"""
        try:
            if len(pages) == 1:
                return self.answers(pages[0] * PAGE_SIZE)
            runs = in_runs(np.array(pages, np.int64))
            return any(self.answers(first * PAGE_SIZE, stop - first) for first, stop in runs)
        except (OSError, Refused):
            return True

    def _forget_host(self) -> None:
        pagemap, self._pagemap = self._pagemap, None
        if pagemap is not None:
            pagemap.close()
        super()._forget_host()
