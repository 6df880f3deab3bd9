"""The compiled loop: requests run through their procedures, page states by table look-up, events by counting rows."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pagewarden.designs import RowKind
from pagewarden.law import Table
from pagewarden.sim.hot import compile_hot, hot
from pagewarden.sim.pages import Ints, Pages, Rules, apply_range, fill, run_of
from pagewarden.vocab.events import ENTRIES, RANGED, Event

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
    """which: the procedure of each; firsts, counts: its pages; sizes: its bytes."""

    which: NDArray[np.int32]
    firsts: Ints
    counts: Ints
    sizes: Ints


class Tally(NamedTuple):
    """What a run counted. R rows, S states.

    ran: int64[R], executions of each row; moved: int64[R], bytes of the requests that executed it;
    hits: int64[R, S], pages by the state that a row's operation found; calls: int64[R, 2^K], by their events;
    refusal: int64[3], the row, outcome and page at which the first request failed, or -1;
    ended: int64[2], requests that failed and that completed.
    """

    ran: Ints
    moved: Ints
    hits: Ints
    calls: Ints
    refusal: Ints
    ended: Ints

    @classmethod
    def empty(cls, rows: int, states: int) -> "Tally":
        ran, moved = np.zeros((2, rows), np.int64)
        hits, calls = np.zeros((rows, states), np.int64), np.zeros((rows, 1 << len(ORDER)), np.int64)
        return cls(ran, moved, hits, calls, np.full(3, -1), np.zeros(2, np.int64))

    def events(self, table: Table, rows: NDArray[np.int32]) -> Ints:
        """int64[R, E]: the events of each row's operations."""
        found = np.zeros((len(rows), len(Event)), np.int64)
        for row in np.flatnonzero(rows[:, 0] == _DO):
            states = np.flatnonzero(self.hits[row])
            found[row] = self.hits[row, states] @ table.events[states, rows[row, 1]].astype(np.int64)
        ranged = sorted(RANGED)
        found[:, ranged] = self.once[:, : len(ranged)]
        return found

    @property
    def once(self) -> Ints:
        """int64[R, K]: calls in which event ORDER[k] happened."""
        rows, bits = np.nonzero(self.calls)
        found = np.zeros((len(self.calls), len(ORDER)), np.int64)
        np.add.at(found, rows, self.calls[rows, bits, None] * (bits[:, None] >> np.arange(len(ORDER)) & 1))
        return found


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


@hot
def execute(
    program: Procedures, requests: Requests, memory: Pages, rules: Rules, free: Ints, pool: int, tally: Tally
) -> None:
    """Requests one after the other, each to its end. free: what is left of each bounded resource; pool: the pool's
    first page.

    A range whose pages are all alike is held as one state while a request runs on it, and written back once. The hot
    branch stands here, on arrays with names of their own: in a function on the records it took four times as long.
    """
    rows, starts = program
    which, firsts, counts, sizes = requests
    following, outcome, ranged = rules
    ran, moved, hits, calls, refusal, ended = tally
    held = np.zeros(free.size, np.int64)
    lows, highs = np.zeros(2, np.int64), np.zeros(2, np.int64)  # the request's own range, and the pool's
    alike, found = np.zeros(2, np.int64), np.zeros(2, np.int64)  # the state of all its pages now, and as found; or -1
    for request in range(which.size):
        low, high, size = firsts[request], firsts[request] + counts[request], sizes[request]
        lows[0], highs[0] = low, high
        lows[1], highs[1] = pool, pool + counts[request]
        alike[:] = found[:] = -2
        held[:] = 0
        row = starts[which[request]]
        while True:
            kind, argument, target = rows[row, 0], rows[row, 1], rows[row, 2]
            ran[row] += 1
            moved[row] += size
            here = row
            row += 1
            if kind == _DO:
                k = rows[here, 3]
                if alike[k] == -2:
                    alike[k] = found[k] = _uniform(memory, lows[k], highs[k])
                state, page = alike[k], lows[k]
                if state < 0:
                    bad, page = apply_range(memory, rules, argument, page, highs[k], hits[here], calls[here])
                    alike[k] = -2
                else:
                    bad = outcome[state, argument]
                    hits[here, state] += 1 if bad else highs[k] - page
                    calls[here, ranged[state, argument]] += 1
                    alike[k] = following[state, argument]
                if not bad:
                    row = rows[row, 2] if target >= 0 else row  # over the branch of the refusal
                elif target >= 0:
                    row = target
                else:
                    if refusal[0] < 0:
                        refusal[0], refusal[1], refusal[2] = here, bad, page
                    ended[0] += 1
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
                    fill(memory, lows[0], highs[0], alike[0])
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
                ended[argument] += 1
                break
        for k in range(2):
            if alike[k] != found[k] and alike[k] >= 0:
                fill(memory, lows[k], highs[k], alike[k])
        free += held


def run(
    program: Procedures, requests: Requests, memory: Pages, rules: Rules, free: Ints, pool: int, tally: Tally
) -> None:
    """`execute`; compiled when there is much to do."""
    pages = int(requests.counts.sum()) if (program.rows[:, 0] == _EACH).any() else 0
    if requests.which.size + pages // PAGES_A_REQUEST > INTERPRETED:
        compile_hot()
    execute(program, requests, memory, rules, free, pool, tally)
