"""Which pages of a memory are shared, and how that changes: run by run, all or nothing, counted."""

import errno
from typing import TYPE_CHECKING

from pagewarden.memory.backing import Backing
from pagewarden.memory.uffd_window import UffdWindow
from pagewarden.vocab import PAGE_SIZE, Event, PageRange, Refused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_STATES = b"\0", b"\1"
Run = tuple[int, int]
"""Contiguous pages, first and one past the last."""


def runs_of(states: bytes | bytearray, start: int, stop: int, state: int) -> list[Run]:
    """The contiguous pages of the range that are in the state."""
    found = []
    while (start := states.find(state, start, stop)) >= 0:
        end = states.find(1 - state, start, stop)
        if end < 0:
            end = stop
        found.append((start, end))
        start = end
    return found


class Conversions:
    """The shareability of a memory's pages over one backing. Its owner serializes everything."""

    def __init__(self, backing: Backing, pages: int, shared: bool = False) -> None:
        self.backing = backing
        self.shared = bytearray(_STATES[shared] * pages)
        """A byte a page: 1 where the host may see it."""
        self._acts = backing.shut, backing.open
        self._tallies = [0, 0], [0, 0], [0, 0]  # pages and runs that were shut, opened, punched

    def convert(self, start: int, stop: int, to: int) -> None:
        """Convert what of the range is in the other state; Refused with the kernel's errno, and nothing has changed."""
        shared = self.shared
        first = shared.find(1 - to, start, stop)
        if first < 0:
            return
        if stop - first > 1 and shared.find(to, first, stop) >= 0:
            self._convert_runs(runs_of(shared, first, stop, 1 - to), to)
            return
        pages = stop - first
        try:
            self._acts[to](first * PAGE_SIZE, pages * PAGE_SIZE)
        except OSError as error:
            raise Refused(
                error.errno or errno.EIO, f"{'share' if to else 'unshare'}: {error.strerror}", first * PAGE_SIZE
            ) from error
        shared[first:stop] = _STATES[to] * pages
        tally = self._tallies[to]
        tally[0] += pages
        tally[1] += 1

    def _convert_runs(self, runs: list[Run], to: int) -> None:
        for i, run in enumerate(runs):
            try:
                self.convert(*run, to)
            except Refused:
                for done in runs[:i]:
                    self.convert(*done, 1 - to)
                raise

    def convert_all(self, vectors: "tuple[tuple[int, NDArray[np.int64]], ...]") -> None:
        """Convert (direction, ranges of shape (n, 2)) after each other; Refused, and nothing has changed."""
        before = bytes(self.shared)
        try:
            for to, ranges in vectors:
                for start, stop in ranges[self._compiled(ranges, to) :].tolist():
                    self.convert(start, stop, to)
        except Refused:
            for to in (0, 1):
                for start, stop in runs_of(before, 0, len(before), to):
                    self.convert(start, stop, to)
            raise

    def _compiled(self, ranges: "NDArray[np.int64]", to: int) -> int:
        """Convert as many of the ranges as compiled code can; how many those are."""
        backing = self.backing
        if not isinstance(backing, UffdWindow) or not len(ranges):
            return 0
        from pagewarden.memory import batch

        done, pages, runs = batch.change(backing.guard.fd, backing.window.address, backing.zap, self.shared, ranges, to)
        self._tallies[to][0] += pages
        self._tallies[to][1] += runs
        return done

    def punch(self, pages: PageRange) -> None:
        """Give pages back; they are private then, unless the state belongs to the file as a whole. Refused."""
        try:
            self.backing.punch(pages.start * PAGE_SIZE, pages.count * PAGE_SIZE)
        except OSError as error:
            raise Refused(error.errno or errno.EIO, f"punch: {error.strerror}", pages.start * PAGE_SIZE) from error
        if not self.backing.whole_file:
            self.shared[pages.start : pages.stop] = bytes(pages.count)
        self._tallies[2][0] += pages.count
        self._tallies[2][1] += 1

    def reopen(self, page: int) -> bool:
        """Open a shared page again whose entry reclaim took; False when it is private."""
        if not self.shared[page]:
            return False
        self.backing.open(page * PAGE_SIZE, PAGE_SIZE)
        return True

    def events(self) -> list[int]:
        """Counts by Event, of all changes so far."""
        counts = [0] * len(Event)
        backing = self.backing
        prices_of = backing.shutting, backing.opening, backing.punching
        for price, (pages, runs) in zip(prices_of, self._tallies, strict=True):
            for prices, times in ((price.page, pages), (price.run, runs)):
                for event, each in prices.items():
                    counts[event] += each * times
        return counts
