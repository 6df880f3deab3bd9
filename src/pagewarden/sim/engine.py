"""The compiled loop: requests run through their procedures, page states by table look-up, events by counting rows."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pagewarden.designs import RowKind
from pagewarden.law import Table
from pagewarden.sim.pages import Ints, Pages, Rules, apply_range, fill, run_of
from pagewarden.vocab.events import ENTRIES, RANGED, Event
from pagewarden.vocab.hot import compile_hot, hot, making

_DO, _JUMP, _TAKE, _GIVE = int(RowKind.DO), int(RowKind.JUMP), int(RowKind.TAKE), int(RowKind.GIVE)
_EACH, _NEXT, _STOP = int(RowKind.EACH), int(RowKind.NEXT), int(RowKind.STOP)
INTERPRETED = 500
"""Requests that take less time interpreted than the compiler takes to load."""
PAGES_A_REQUEST = 4
"""Pages of a procedure that goes page by page that take as long as a request that does not."""
ORDER = [*sorted(RANGED), *ENTRIES]
"""The events of the bits of `ranged`: counted once a call, and those of which a call has a part that it pays once."""


class Procedures(NamedTuple):
    """rows: int32[R, 4] as designs.programs makes them; starts: the first row of each procedure."""

    rows: NDArray[np.int32]
    starts: Ints


class Requests(NamedTuple):
    """which: the procedure of each; firsts, counts: its pages; times: how often it counts; sizes: the bytes of all."""

    which: NDArray[np.int32]
    firsts: Ints
    counts: Ints
    sizes: Ints
    times: Ints

    def one(self, number: int) -> "Requests":
        part = slice(number, number + 1)
        return Requests(self.which[part], *(column[part] for column in self[1:]))


class Tally(NamedTuple):
    """What a run counted. R rows, S states.

    ran: int64[R], executions of each row; moved: int64[R], bytes of the requests that executed it;
    hits: int64[R, S, 2], pages by the state that a row's operation found, and calls that found all their pages in it;
    mixed: int64[R, K], calls on pages of several states in which event ORDER[k] happened;
    refusal: int64[3], the row, outcome and page at which the first request failed, or -1;
    ended: int64[2], requests that failed and that completed.
    """

    ran: Ints
    moved: Ints
    hits: Ints
    mixed: Ints
    refusal: Ints
    ended: Ints

    @classmethod
    def empty(cls, rows: int, states: int) -> "Tally":
        ran, moved = np.zeros((2, rows), np.int64)
        hits, mixed = np.zeros((rows, states, 2), np.int64), np.zeros((rows, len(ORDER)), np.int64)
        return cls(ran, moved, hits, mixed, np.full(3, -1), np.zeros(2, np.int64))

    def events(self, table: Table, rows: NDArray[np.int32]) -> tuple[Ints, Ints]:
        """int64[R, E]: the events of each row's operations; int64[R, K]: calls in which event ORDER[k] happened."""
        found, once = np.zeros((len(rows), len(Event)), np.int64), self.mixed.copy()
        did = np.flatnonzero(rows[:, 0] == _DO)
        which, states = np.nonzero(self.hits[did, :, 0])
        row = did[which]
        pages, calls = self.hits[row, states].T[..., np.newaxis]
        events = table.events[states, rows[row, 1]].astype(np.int64)
        np.add.at(found, row, pages * events)
        np.add.at(once, row, calls * (events[:, ORDER] > 0))
        ranged = sorted(RANGED)
        found[:, ranged] = once[:, : len(ranged)]
        return found, once


def rules_of(table: Table) -> Rules:
    """The table for loops; bit k of `ranged` where event ORDER[k] happens."""
    bits = (table.events[:, :, ORDER] > 0) << np.arange(len(ORDER))
    return Rules(table.next, table.outcome, np.ascontiguousarray(bits.sum(2), dtype=np.uint16))


@hot
def _uniform(memory: Pages, first: int, stop: int) -> int:
    """The state that all pages of a range have, or -1."""
    if first == stop:
        return -1
    state, end = run_of(memory, first, stop)
    while end < stop:
        further, end = run_of(memory, end, stop)
        if further != state:
            return -1
    return state


@making
def execute(
    program: Procedures, requests: Requests, memory: Pages, rules: Rules, free: Ints, pool: int, tally: Tally
) -> None:
    """Requests one after the other, each to its end. free: what is left of each bounded resource; pool: the pool's
    first page.

    A range whose pages are all alike is held as one state while a request runs on it, and written back once. The hot
    branch stands here, on arrays with names of their own: in a function on the records it took four times as long.
    """
    rows, starts = program
    which, firsts, counts, sizes, times = requests
    following, outcome = rules.following, rules.outcome
    ran, moved, hits, mixed, refusal, ended = tally
    held = np.zeros(free.size, np.int64)
    lows, highs = np.zeros(2, np.int64), np.zeros(2, np.int64)  # the request's own range, and the pool's
    alike, found = np.zeros(2, np.int64), np.zeros(2, np.int64)  # the state of all its pages now, and as found; or -1
    for request in range(which.size):
        low, high, size = firsts[request], firsts[request] + counts[request], sizes[request]
        many = times[request]
        lows[0], highs[0] = low, high
        lows[1], highs[1] = pool, pool + counts[request]
        alike[:] = found[:] = -2
        held[:] = 0
        row = starts[which[request]]
        while True:
            kind, argument, target = rows[row, 0], rows[row, 1], rows[row, 2]
            ran[row] += many
            moved[row] += size
            here = row
            row += 1
            if kind == _DO:
                k = rows[here, 3]
                if alike[k] == -2:
                    alike[k] = found[k] = _uniform(memory, lows[k], highs[k])
                state, page = alike[k], lows[k]
                if state < 0:
                    bad, page = apply_range(memory, rules, argument, page, highs[k], hits[here], mixed[here], many)
                    alike[k] = -2
                else:
                    bad = outcome[state, argument]
                    hits[here, state, 0] += many if bad else many * (highs[k] - page)
                    hits[here, state, 1] += many
                    alike[k] = following[state, argument]
                if not bad:
                    row = rows[row, 2] if target >= 0 else row  # over the branch of the refusal
                elif target >= 0:
                    row = target
                else:
                    if refusal[0] < 0:
                        refusal[0], refusal[1], refusal[2] = here, bad, page
                    ended[0] += many
                    break
            elif kind == _JUMP:
                row = target
            elif kind == _TAKE:
                if free[argument] < high - low:
                    row = target
                else:
                    held[argument] = high - low
                    free[argument] -= held[argument]
            elif kind == _GIVE:
                free[argument] += held[argument]
                held[argument] = 0
            elif kind in (_EACH, _NEXT):
                if alike[0] != found[0] and alike[0] >= 0:
                    fill(memory, lows[0], highs[0], alike[0], found[0])
                alike[0] = found[0] = -2
                if kind == _EACH and low == high:
                    row = target
                elif kind == _EACH:
                    highs[0] = low + 1
                elif highs[0] < high:
                    lows[0], highs[0], row = highs[0], highs[0] + 1, target
                else:
                    lows[0] = low
            elif kind == _STOP:
                ended[argument] += many
                break
        for k in range(2):
            if alike[k] != found[k] and alike[k] >= 0:
                fill(memory, lows[k], highs[k], alike[k], found[k])
        free += held


def run(
    program: Procedures, requests: Requests, memory: Pages, rules: Rules, free: Ints, pool: int, tally: Tally,
    after: Callable[[int], None] | None = None,
) -> None:  # fmt: skip
    """`execute`; compiled when there is much to do. after: called with the number of each request that has ended."""
    pages = int(requests.counts.sum()) if (program.rows[:, 0] == _EACH).any() else 0
    if requests.which.size + pages // PAGES_A_REQUEST > INTERPRETED:
        compile_hot()
    if not after:
        execute(program, requests, memory, rules, free, pool, tally)
        return
    for number in range(len(requests.which)):
        execute(program, requests.one(number), memory, rules, free, pool, tally)
        after(number)
