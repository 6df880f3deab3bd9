"""Which pages of a memory are shared, and how that changes: run by run, all or nothing, counted.

The ledger says at least what is open, whatever exception arrives wherever: it widens before a page is shared and
narrows after one is unshared. What cannot be closed again is made unreachable, and the memory is over: close or die.
"""

import errno
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from pagewarden.memory.backings.protocol import Backing, Single
from pagewarden.memory.bolts import BUSY, Bolts
from pagewarden.vocab import PAGE_SIZE, Event, InternalError, PageRange, Refused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_STATES = b"\0", b"\1"
WARM = 50_000
"""Changes of one page, or of longer ranges, until compiled code is loaded: they took about as long as that takes."""
CLOSE = 1000
"""States that are copied about as fast as one more piece of them is made."""
PageRun = tuple[int, int]
"""Contiguous pages, first and one past the last."""


def runs_of(states: bytes | bytearray, start: int, stop: int, state: int) -> list[PageRun]:
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

    def __init__(self, backing: Backing, pages: int, bolts: Bolts, shared: bool = False) -> None:
        self.backing, self._bolts = backing, bolts
        self.shared = bytearray(_STATES[shared] * pages)
        """A byte a page: 1 where the host may see it."""
        self.over: Callable[[], Exception] | None = None
        """What to raise instead of doing anything, once this memory cannot be used any more (`finish`)."""
        self._share, self._unshare, self._idle_unshare = backing.share, backing.unshare, backing.idle_unshare
        self._unshared, self._shared, self._punched = [0, 0], [0, 0], [0, 0]  # pages and calls
        self._tariff, self._before = backing.unsharing, [0] * len(Event)
        self._single: Single | None = None
        self.at = 0
        """What the next two take first (protocol.Single); 0 while there are none."""
        self.share_single: Callable[[int, int, int], int]
        self.unshare_single: Callable[[int, int, int], int]
        self._single_shares = self._single_unshares = 0  # of one page each, not in those

    # -- one range -----------------------------------------------------------------------------------------------------

    def share(self, start: int, stop: int) -> None:
        """Share what of the range is private; Refused with the kernel's errno, and nothing has changed."""
        shared = self.shared
        if stop - start == 1:  # most of all conversions: the short way
            if shared[start]:
                return
            try:
                shared[start] = 1
                self._share(start * PAGE_SIZE, PAGE_SIZE)
            except BaseException as error:
                self._undo_share(start, stop, error)
                raise
            self._single_shares += 1
            if self._single_shares == WARM:
                self._warm()
            return
        start = shared.find(0, start, stop)
        if start < 0:
            return
        if shared.find(1, start, stop) >= 0:
            self._share_runs(runs_of(shared, start, stop, 0))
            return
        pages = stop - start
        try:
            shared[start:stop] = b"\1" * pages
            self._share(start * PAGE_SIZE, pages * PAGE_SIZE)
        except BaseException as error:
            self._undo_share(start, stop, error)
            raise
        tally = self._shared
        tally[0] += pages
        tally[1] += 1
        if tally[1] == WARM:
            self._warm()

    def finish(self, over: Callable[[], Exception]) -> None:
        """Nothing is converted any more."""
        self._bolts.words[BUSY] += 1
        self.at, self.over = 0, over

    def _undo_share(self, start: int, stop: int, error: BaseException) -> None:
        self._close_again([(start, stop)])
        if isinstance(error, OSError):
            raise _refused("share", error, start) from error

    def _share_runs(self, runs: list[PageRun]) -> None:
        try:
            for first, end in runs:
                self.share(first, end)
        except BaseException:
            if self.over is None:
                self._close_again(runs)
            raise

    def unshare(self, start: int, stop: int) -> None:
        """Unshare what of the range is shared; Refused with the kernel's errno, and nothing has changed."""
        shared = self.shared
        if stop - start == 1:
            if not shared[start]:
                return
            try:
                self._unshare(start * PAGE_SIZE, PAGE_SIZE)
            except BaseException as error:
                self._undo_unshare(start, stop, error)
                raise
            shared[start] = 0
            self._single_unshares += 1
            return
        start = shared.find(1, start, stop)
        if start < 0:
            return
        stop = shared.rfind(1, start, stop) + 1
        pages = shared.count(1, start, stop)
        calls = [(start, stop)] if self._idle_unshare else runs_of(shared, start, stop, 1)
        try:
            for first, end in calls:
                self._unshare(first * PAGE_SIZE, (end - first) * PAGE_SIZE)
        except BaseException as error:
            self._undo_unshare(start, stop, error)
            raise
        shared[start:stop] = bytes(stop - start)
        tally = self._unshared
        tally[0] += pages
        tally[1] += len(calls)

    def _undo_unshare(self, start: int, stop: int, error: BaseException) -> None:
        self._open_again(runs_of(self.shared, start, stop, 1))
        if isinstance(error, OSError):
            raise _refused("unshare", error, start) from error

    def _close_again(self, runs: list[PageRun]) -> None:
        """A change did not come off: what it may have opened is private, on every way out of here."""
        try:
            for first, end in runs:
                self._unshare(first * PAGE_SIZE, (end - first) * PAGE_SIZE)
        except OSError as error:
            self._break(error)
        for first, end in runs:
            self.shared[first:end] = bytes(end - first)

    def _open_again(self, runs: list[PageRun]) -> None:
        """It may have shut these, which stay shared: where they cannot be opened now, the next access does that."""
        with suppress(OSError):
            for first, end in runs:
                self._share(first * PAGE_SIZE, (end - first) * PAGE_SIZE)

    def _break(self, error: OSError) -> NoReturn:
        """Pages that must be private could not be closed: nothing is shared from now on, and nothing else is done."""
        why = f"pages could not be taken back from the host ({error.strerror}), so its whole view was taken away"
        advice = "this memory can only be closed; what the guest holds is intact"
        refusal = partial(Refused, errno.EIO, f"{why}; {advice}")
        self.finish(refusal)
        try:
            self.backing.bar()
        except OSError as worse:
            raise InternalError(f"{why}, but that failed ({worse}): end this process") from error
        self.shared[:] = bytes(len(self.shared))
        raise refusal() from error

    # -- many ranges ---------------------------------------------------------------------------------------------------

    def convert_all(self, to_private: "NDArray[np.int64]", to_shared: "NDArray[np.int64]") -> None:
        """Unshare, then share ranges of shape (n, 2), one after the other; Refused, and nothing has changed."""
        before = self._states_of(to_private, to_shared)
        try:
            for to, ranges, change in ((0, to_private, self.unshare), (1, to_shared, self.share)):
                for start, stop in ranges[self._compiled(ranges, to) :].tolist():
                    change(start, stop)
        except BaseException:
            if self.over is None:
                self._restore(before)
            raise

    def _states_of(self, *vectors: "NDArray[np.int64]") -> list[tuple[int, bytes]]:
        """The states of all pages of the ranges, first page and bytes; in one piece where they lie close together."""
        found = []
        for ranges in vectors:
            pieces = [(int(ranges[:, 0].min()), int(ranges[:, 1].max()))] if len(ranges) > 1 else []
            if not pieces or pieces[0][1] - pieces[0][0] > CLOSE * len(ranges):
                pieces = ranges.tolist()
            found += [(first, bytes(self.shared[first:end])) for first, end in pieces]
        return found

    def _compiled(self, ranges: "NDArray[np.int64]", to: int) -> int:
        """Convert as many of the ranges as compiled code can; how many those are."""
        compiled = self.backing.compiled
        if compiled is None:
            return 0
        self._equip()
        if not len(ranges):
            return 0
        done, pages, calls = compiled(self.shared, ranges, to)
        tally = self._shared if to else self._unshared
        tally[0] += pages
        tally[1] += calls
        return done

    def _equip(self) -> None:
        """From now on single ranges are converted in compiled code too, where there is some."""
        if self._single is None and self.backing.single is not None:
            self._single = single = self.backing.single(self.shared, self._bolts.address)
            if single is not None:
                self.share_single, self.unshare_single, self.at = single.share, single.unshare, single.at

    def _warm(self) -> None:
        """The same without being asked for; where it cannot be had (no room, no right to open files), it goes on as it
        is."""
        with suppress(Exception):
            self._equip()

    def _restore(self, before: list[tuple[int, bytes]]) -> None:
        """The states that the ranges had: first private what was private, then shared what was shared."""
        for first, states in before:
            self._close_again([(first + a, first + b) for a, b in runs_of(states, 0, len(states), 0)])
        for first, states in before:
            for a, b in runs_of(states, 0, len(states), 1):
                self.shared[first + a : first + b] = b"\1" * (b - a)
                self._open_again([(first + a, first + b)])

    # -- the rest ------------------------------------------------------------------------------------------------------

    def punch(self, pages: PageRange) -> None:
        """Give pages back; they are private then, unless the state belongs to the file as a whole. Refused."""
        try:
            self.backing.punch(pages.start * PAGE_SIZE, pages.count * PAGE_SIZE)
        except OSError as error:
            raise _refused("punch", error, pages.start) from error
        if not self.backing.whole_file:
            self.shared[pages.start : pages.stop] = bytes(pages.count)
        self._punched[0] += pages.count
        self._punched[1] += 1

    def reopen(self, page: int) -> bool:
        """Open a shared page again whose entry reclaim took; False when it is private."""
        if self.over is not None or not self.shared[page]:
            return False
        self.backing.share(page * PAGE_SIZE, PAGE_SIZE)
        return True

    def reprice(self) -> None:
        """To unshare may cost something else from here on; what was done keeps its price."""
        if self._tariff is not self.backing.unsharing:
            self._before = self.events()
            self._unshared, self._shared, self._punched = [0, 0], [0, 0], [0, 0]
            self._single_shares = self._single_unshares = 0
            self._tariff = self.backing.unsharing

    def events(self) -> list[int]:
        """Counts by Event, of all changes so far."""
        counts = self._before.copy()
        tariffs = self._tariff, self.backing.sharing, self.backing.punching
        single = ((0, 0),) * 3 if self._single is None else (*self._single.done(), (0, 0))
        alone = self._single_unshares, self._single_shares, 0
        tallies = zip(tariffs, (self._unshared, self._shared, self._punched), single, alone, strict=True)
        for tariff, *taken, one in tallies:
            pages, calls = (sum(each) + one for each in zip(*taken, strict=True))
            for prices, times in ((tariff.page, pages), (tariff.call, calls)):
                for event, each in prices.items():
                    counts[event] += each * times
        return counts


def _refused(verb: str, error: OSError, page: int) -> Refused:
    """The kernel's no."""
    return Refused(error.errno or errno.EIO, f"{verb}: {error.strerror}", page * PAGE_SIZE)
