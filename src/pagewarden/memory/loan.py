"""Shared pages lent to code of this process that loads and stores them without a guard: a device's rings.

They are mapped once more from the file of the memory, and only while all of them are shared: a conversion or a punch
takes them back before it changes anything, so no private page is ever reachable through a loan. Or they are used where
they stand in the window, by one whose lender takes the loan back before it closes them.
"""

import errno
import threading
import time
from collections.abc import Sequence

import numpy as np

from pagewarden.kernel.files import zeroes
from pagewarden.kernel.guarded import SHUT, shut
from pagewarden.kernel.region import Region
from pagewarden.memory.own_process import OwnProcess
from pagewarden.memory.scatter_gather import ScatterGather
from pagewarden.vocab import PAGE_SIZE, PageRange, Refused

WAIT = 20e-6
"""Seconds between two looks at a gate that somebody is inside, for some microseconds at most times."""


class DirectLoan(OwnProcess):
    """port.Loan. Its memory calls `take_back`, its borrower `close`."""

    def __init__(self, places: tuple[tuple[int, int], ...], copies: ScatterGather) -> None:
        """Good once `open` has mapped the pages, or they `stand`."""
        super().__init__()
        self.good = False
        self._gate = np.zeros(1, np.int64)
        self.gate = self._gate.ctypes.data
        self._ending, self._under_way = threading.RLock(), False
        self.ranges = tuple(PageRange.covering(*place) for place in places)
        self.addresses: tuple[int, ...] = ()
        self.window, self.scratch, self.table = copies.window, copies.place, 0
        self._zeroes = zeroes()
        self.zeroes = self.scratch[0] if self._zeroes is None else self._zeroes.fd
        self.places = places
        self._copies: ScatterGather | None = copies
        self._lent: dict[int, DirectLoan] = {}
        self._regions: list[Region] = []

    def open(self, file: int, lent: "dict[int, DirectLoan]") -> None:
        """Map the pages of this file; OSError, then they are not lent. lent: the loans of its memory, by identity: it
        knows of this one before the first page is mapped."""
        lent[id(self)], self._lent = self, lent
        for pages in self.ranges:
            region = Region(pages.count * PAGE_SIZE)
            self._regions.append(region)
            region.keep_to_this_process()
            region.place(file, offset=pages.start * PAGE_SIZE)
            region.keep_to_this_process()  # what is placed does not take the reservation's advice over
        places = zip(self._regions, self.places, strict=True)
        self.addresses = tuple(region.address + start % PAGE_SIZE for region, (start, _) in places)
        self.good = True

    def stand(self, offsets: Sequence[int], lent: "dict[int, DirectLoan]", table: int = 0) -> None:
        """The places are used where they stand in the window, at these offsets. lent: as for `open`."""
        lent[id(self)], self._lent = self, lent
        self.addresses, self.table = tuple(self.window[0] + offset for offset in offsets), table
        self.good = True

    def meets(self, start: int, stop: int) -> bool:
        """Is one of these pages lent?"""
        return any(lent.start < stop and start < lent.stop for lent in self.ranges)

    def take_back(self) -> None:
        """Nothing is reachable through the loan afterwards; waits for who is inside the gate. OSError: it still is, and
        the memory goes on counting it. Twice is once; Refused(EDEADLK) where a signal handler asks in the midst of
        it."""
        with self._ending:
            if self._under_way:
                why = "this thread is just taking these pages back: not from a signal handler in between"
                raise Refused(errno.EDEADLK, why, self.ranges[0].start * PAGE_SIZE)
            self._under_way = True
            try:
                self.good = False
                while not shut(self.gate):
                    time.sleep(WAIT)
                for region in self._regions:
                    region.close()
                self._lent.pop(id(self), None)
            finally:
                self._under_way = False

    def close(self) -> None:
        """Give the pages back. Twice is once."""
        self.take_back()
        copies, self._copies = self._copies, None
        if copies is not None:
            copies.close()
        self._drop_zeroes()

    def _drop_zeroes(self) -> None:
        if self._zeroes is not None:
            self._zeroes.close()

    def forked(self) -> None:
        """In a forked child: the pages are not there (MADV_DONTFORK)."""
        self.good, self._regions, self._lent = False, [], {}
        self._gate[0] = SHUT  # the child's own copy
        self._ending, self._under_way = threading.RLock(), False
        if self._copies is not None:
            self._copies.forked()
            self._copies = None
        self._drop_zeroes()
