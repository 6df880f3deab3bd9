"""The states of a whole machine's pages: one small integer each, and one for a block of 512 that are all alike.

blocks: uint16[B], the state of all pages of a block, or MIXED; pages: uint16[P], good where the block is MIXED. A block
is what one PMD entry covers. Untouched memory costs nothing: `pages` is never written there.
"""

from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

States: TypeAlias = NDArray[np.uint16]
Counts: TypeAlias = NDArray[np.int64]

SHIFT = 9
BLOCK = 1 << SHIFT
MIXED = 0xFFFF
MERGE = 64
"""A fill of at least so many pages looks whether its block has become uniform."""


@njit(cache=True)
def run_of(blocks: States, pages: States, first: int, stop: int) -> tuple[np.int64, int]:
    """The state of page `first`, and the end (at most stop) of the run of pages alike."""
    block = first >> SHIFT
    state = np.int64(blocks[block])
    if state != MIXED:
        end = (block + 1) << SHIFT
        while end < stop and blocks[end >> SHIFT] == state:
            end += BLOCK
        return state, min(end, stop)
    last = min((block + 1) << SHIFT, stop)
    state = np.int64(pages[first])
    end = first + 1
    while end < last and pages[end] == state:
        end += 1
    return state, end


@njit(cache=True)
def _fill_part(blocks: States, pages: States, first: int, stop: int, state: int) -> None:
    block = first >> SHIFT
    start = block << SHIFT
    if blocks[block] == state:
        return
    if blocks[block] != MIXED:
        pages[start : start + BLOCK] = blocks[block]
        blocks[block] = MIXED
    pages[first:stop] = state
    if stop - first >= MERGE:
        for page in range(start, start + BLOCK):
            if pages[page] != state:
                return
        blocks[block] = state


@njit(cache=True)
def fill(blocks: States, pages: States, first: int, stop: int, state: int) -> None:
    """Give the pages first <= p < stop a state."""
    while first < stop:
        end = min(((first >> SHIFT) + 1) << SHIFT, stop)
        if end - first == BLOCK:
            blocks[first >> SHIFT] = state
        else:
            _fill_part(blocks, pages, first, end, state)
        first = end


@njit(cache=True)
def apply_range(
    blocks: States, pages: States, following: States, outcome: NDArray[np.uint8], ranged: NDArray[np.uint8],
    op: int, first: int, stop: int, hits: Counts, once: Counts,
) -> tuple[int, int]:  # fmt: skip
    """One operation on a range, all pages or none. Returns (outcome, page): 0, or that of the first page that refuses.

    following, outcome: [S, O]; ranged: [S, O], bit k set where event RANGED[k] happens. hits: int64[S], pages by the
    state that the operation found; once: int64[K], calls in which ranged event k happened.
    """
    position = first
    while position < stop:
        state, end = run_of(blocks, pages, position, stop)
        if outcome[state, op]:
            hits[state] += 1
            for bit in range(once.size):
                once[bit] += ranged[state, op] >> bit & 1
            return outcome[state, op], position
        position = end
    position, seen = first, 0
    while position < stop:
        state, end = run_of(blocks, pages, position, stop)
        hits[state] += end - position
        seen |= ranged[state, op]
        if following[state, op] != state:
            fill(blocks, pages, position, end, following[state, op])
        position = end
    for bit in range(once.size):
        once[bit] += seen >> bit & 1
    return 0, stop


def empty(count: int, state: int = 0) -> tuple[States, States]:
    """blocks and pages of a memory of so many pages, all in one state. 2^28 pages are 512 MiB that stay untouched."""
    blocks = -(-count // BLOCK)
    return np.full(blocks, state, np.uint16), np.zeros(blocks * BLOCK, np.uint16)
