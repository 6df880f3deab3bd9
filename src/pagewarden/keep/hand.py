"""Which pages a guest has not used since the last look: by what its page table has of them."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pagewarden.kernel.door import opened_path
from pagewarden.kernel.region import PRESENT, Region
from pagewarden.vocab import PAGE_SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

SCAN = 2048
"""Pages that are looked at together for one that nobody has touched."""


class ClockHand:
    """Second chance without a table of its own: a page that a round of the hand leaves is taken out of the guest's page
    table and stays in the file, so whoever uses it again maps it again (a minor fault, no userfaultfd's), which
    /proc/self/pagemap tells (Documentation/admin-guide/mm/pagemap.rst, bit 63); one that nobody mapped by the next
    round goes. With write protection registered no neighbour is mapped along (mm/memory.c, should_fault_around).
    """

    def __init__(self, guest: Region) -> None:
        self._guest, self._at = guest, 0
        self._zap = guest.best_zap()
        self._pagemap = opened_path("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self.close = self._pagemap.close

    def oldest(self, count: int, may_go: "Callable[[int, int], Mask]") -> "NDArray[np.int64]":
        """Ascending, at most `count` of those that may go, by the first and one past the last; none where none may."""
        pages = self._guest.size // PAGE_SIZE
        for _ in range(2 * -(-pages // SCAN) + 1):
            start = self._at
            stop = min(start + SCAN, pages)
            may = may_go(start, stop)
            if may.any():
                idle = start + np.flatnonzero(may & ~self.mapped(start, stop))[:count]
                stop = int(idle[-1]) + 1 if len(idle) else stop
                self.unmap(start, stop)
                if len(idle):
                    self._at = stop % pages
                    return idle
            self._at = stop % pages
        return np.flatnonzero(may_go(0, pages))[:count]

    def mapped(self, start: int, stop: int) -> "Mask":
        """Which pages have an entry."""
        place = 8 * (self._guest.address // PAGE_SIZE + start)
        entries = np.frombuffer(os.pread(self._pagemap.fd, 8 * (stop - start), place), np.uint64)
        found: Mask = np.greater_equal(entries, np.uint64(PRESENT))
        return found

    def unmap(self, start: int, stop: int) -> None:
        """No page has one any more."""
        self._guest.advise(self._zap, start * PAGE_SIZE, (stop - start) * PAGE_SIZE)
