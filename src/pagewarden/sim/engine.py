"""The compiled loop: requests run through their procedures, page states by table look-up, events by counting rows."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pagewarden.designs import Kind
from pagewarden.law import Table
from pagewarden.sim.pages import Counts, States, apply_range
from pagewarden.vocab.events import RANGED, Event

_DO, _JUMP, _TAKE, _GIVE = int(Kind.DO), int(Kind.JUMP), int(Kind.TAKE), int(Kind.GIVE)
_EACH, _NEXT, _STOP = int(Kind.EACH), int(Kind.NEXT), int(Kind.STOP)
ORDER = sorted(RANGED)
"""The events of the bits of `ranged`."""


@dataclass
class Tally:
    """What a run counted. R rows, S states; requests that completed and that failed.

    ran: int64[R], executions of each row; moved: int64[R], bytes of the requests that executed it;
    hits: int64[R, S], pages by the state that a row's operation found; once: int64[R, K], calls with a ranged event;
    refusal: int64[3], the row, outcome and page at which the first request failed, or -1.
    """

    ran: Counts
    moved: Counts
    hits: Counts
    once: Counts
    refusal: Counts
    completed: int = 0
    failed: int = 0

    @classmethod
    def empty(cls, rows: int, states: int) -> "Tally":
        one = np.zeros(rows, np.int64)
        hits, once = np.zeros((rows, states), np.int64), np.zeros((rows, len(ORDER)), np.int64)
        return cls(one, one.copy(), hits, once, refusal=np.full(3, -1))

    def events(self, table: Table, rows: NDArray[np.int32]) -> Counts:
        """int64[R, E]: the events of each row's operations."""
        found = np.zeros((len(rows), len(Event)), np.int64)
        for row in np.flatnonzero(rows[:, 0] == _DO):
            states = np.flatnonzero(self.hits[row])
            found[row] = self.hits[row, states] @ table.events[states, rows[row, 1]].astype(np.int64)
        found[:, ORDER] = self.once
        return found


def ranged_bits(table: Table) -> NDArray[np.uint8]:
    """uint8[S, O]: bit k where ranged event ORDER[k] happens."""
    bits = (table.events[:, :, ORDER] > 0) << np.arange(len(ORDER))
    return np.ascontiguousarray(bits.sum(2), dtype=np.uint8)


@njit(cache=True)
def execute(
    rows: NDArray[np.int32], starts: Counts, which: NDArray[np.int32], firsts: Counts, counts: Counts, sizes: Counts,
    blocks: States, pages: States, following: States, outcome: NDArray[np.uint8], ranged: NDArray[np.uint8],
    free: Counts, pool: int, ran: Counts, moved: Counts, hits: Counts, once: Counts, refusal: Counts, ended: Counts,
) -> None:  # fmt: skip
    """Requests one after the other, each to its end.

    which: the procedure of each request; firsts, counts: its pages; sizes: its bytes. free: what is left of each
    bounded resource; pool: the pool's first page. Out: as in Tally; ended: int64[2], failed and completed requests.
    """
    held = np.zeros(free.size, np.int64)
    for request in range(which.size):
        low, high, size = firsts[request], firsts[request] + counts[request], sizes[request]
        first, stop = low, high
        held[:] = 0
        row = starts[which[request]]
        while True:
            kind, argument, target = rows[row, 0], rows[row, 1], rows[row, 2]
            ran[row] += 1
            moved[row] += size
            here = row
            row += 1
            if kind == _DO:
                base = pool - low if rows[here, 3] else 0
                bad, page = apply_range(
                    blocks, pages, following, outcome, ranged, argument, first + base, stop + base,
                    hits[here], once[here],
                )  # fmt: skip
                if bad:
                    if target < 0:
                        if refusal[0] < 0:
                            refusal[0], refusal[1], refusal[2] = here, bad, page
                        ended[0] += 1
                        break
                    row = target
                elif target >= 0:
                    row = rows[row, 2]  # over the branch of the refusal
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
            elif kind == _EACH:
                if low == high:
                    row = target
                else:
                    stop = first + 1
            elif kind == _NEXT:
                if stop < high:
                    first, stop, row = stop, stop + 1, target
                else:
                    first, stop = low, high
            elif kind == _STOP:
                ended[argument] += 1
                break
        free += held


def run(
    rows: NDArray[np.int32], starts: Counts, which: NDArray[np.int32], firsts: Counts, counts: Counts, sizes: Counts,
    blocks: States, pages: States, table: Table, bits: NDArray[np.uint8], free: Counts, pool: int, tally: Tally,
) -> None:  # fmt: skip
    """`execute`, with its counts added to the tally."""
    ended = np.zeros(2, np.int64)
    execute(
        rows, starts, which, firsts, counts, sizes, blocks, pages, table.next, table.outcome, bits, free, pool,
        tally.ran, tally.moved, tally.hits, tally.once, tally.refusal, ended,
    )  # fmt: skip
    tally.failed += int(ended[0])
    tally.completed += int(ended[1])
