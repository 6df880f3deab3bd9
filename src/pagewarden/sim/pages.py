"""The states of a whole machine's pages: one small integer each, and one for a block of 512 that are all alike.

A block is what one PMD entry covers. Blocks that are mixed have a slot of 512 page states; slots are handed out one
behind the other, so that a large guest of which little is in use touches little memory, close together.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pagewarden.sim.hot import hot

States: TypeAlias = NDArray[np.uint16]
Ints: TypeAlias = NDArray[np.int64]

SHIFT = 9
BLOCK = 1 << SHIFT
MIXED = 0xFFFF
LANES = np.uint64(0x0001_0001_0001_0001)
"""Times a state: that state in each quarter of a word."""
STRIDE = 16
"""Words compared at once."""
MERGE = 64
"""A fill of at least so many pages looks whether its block has become uniform."""


class Pages(NamedTuple):
    """blocks: uint16[B], the state of all pages of a block, or MIXED. slot: int32[B], where a mixed block's states are
    in slots: uint16[B * 512]. spare: int32[2 + B]: the next fresh slot, how many were given back, and which.
    """

    blocks: States
    slot: NDArray[np.int32]
    slots: States
    spare: NDArray[np.int32]

    @classmethod
    def uniform(cls, count: int, state: int = 0) -> "Pages":
        """A memory of so many pages, all in one state. What is not touched costs no memory."""
        blocks = -(-count // BLOCK)
        slot, spare = np.zeros(blocks, np.int32), np.zeros(2 + blocks, np.int32)
        return cls(np.full(blocks + -blocks % 4, state, np.uint16), slot, np.zeros(blocks << SHIFT, np.uint16), spare)

    def reset(self, state: int) -> None:
        """All pages in one state again."""
        self.blocks[:], self.spare[:2] = state, 0

    def expand(self, first: int, stop: int) -> States:
        """The states of the pages first <= p < stop, one each."""
        low, high = first >> SHIFT, -(-stop // BLOCK)
        found = np.repeat(self.blocks[low:high], BLOCK)
        for block in np.flatnonzero(self.blocks[low:high] == MIXED).tolist():
            base = int(self.slot[low + block]) << SHIFT
            found[block << SHIFT : (block + 1) << SHIFT] = self.slots[base : base + BLOCK]
        return found[first - (low << SHIFT) : stop - (low << SHIFT)]

    def state(self, page: int) -> int:
        block = page >> SHIFT
        state = int(self.blocks[block])
        return int(self.slots[(int(self.slot[block]) << SHIFT) + page % BLOCK]) if state == MIXED else state


class Rules(NamedTuple):
    """The law as loops look it up, [S, O]: the next state, the outcome (0: done), and the ranged events, a bit each."""

    following: States
    outcome: NDArray[np.uint8]
    ranged: NDArray[np.uint16]


@hot
def _alike(states: States, first: int, stop: int, state: int) -> int:
    """The first index that is not in a state, or stop; by words of four, and by strides without a branch inside."""
    while first < stop and first & 3:
        if states[first] != state:
            return first
        first += 1
    words, word, last = states.view(np.uint64), first >> 2, stop >> 2
    pattern = np.uint64(state) * LANES
    while word + STRIDE <= last:
        differ = np.uint64(0)
        for index in range(word, word + STRIDE):
            differ |= words[index] ^ pattern
        if differ:
            break
        word += STRIDE
    first = max(first, word << 2)
    while first < stop and states[first] == state:
        first += 1
    return first


@hot
def run_of(memory: Pages, first: int, stop: int) -> tuple[int, int]:
    """The state of page `first`, and the end (at most stop) of the run of pages alike."""
    block = first >> SHIFT
    state = int(memory.blocks[block])
    if state != MIXED:
        end = _alike(memory.blocks, block + 1, (stop + BLOCK - 1) >> SHIFT, state)
        return state, min(end << SHIFT, stop)
    shift = (int(memory.slot[block]) - block) << SHIFT
    state = int(memory.slots[first + shift])
    last = min((block + 1) << SHIFT, stop)
    return state, int(_alike(memory.slots, first + shift + 1, last + shift, state)) - shift


@hot
def _open(memory: Pages, block: int) -> int:
    """The first page of a block's slot; a uniform block gets one."""
    if memory.blocks[block] != MIXED:
        spare = memory.spare
        if spare[1]:
            spare[1] -= 1
            memory.slot[block] = spare[2 + spare[1]]
        else:
            memory.slot[block] = spare[0]
            spare[0] += 1
        base = int(memory.slot[block]) << SHIFT
        memory.slots[base : base + BLOCK] = memory.blocks[block]
        memory.blocks[block] = MIXED
    return int(memory.slot[block]) << SHIFT


@hot
def _close(memory: Pages, block: int, state: int) -> None:
    """A block is uniform: its slot, if it has one, is free again."""
    if memory.blocks[block] == MIXED:
        memory.spare[2 + memory.spare[1]] = memory.slot[block]
        memory.spare[1] += 1
    memory.blocks[block] = state


@hot
def settled_run(memory: Pages, first: int, stop: int) -> tuple[int, int]:
    """run_of, for who looks at every page of a range: a mixed block that it finds uniform is closed. Small fills do not
    look, since the next one would open the block again."""
    state, end = run_of(memory, first, stop)
    if end - first == BLOCK and memory.blocks[first >> SHIFT] == MIXED:
        _close(memory, first >> SHIFT, state)
    return state, end


@hot
def _fill_part(memory: Pages, first: int, stop: int, state: int) -> None:
    block = first >> SHIFT
    if memory.blocks[block] == state:
        return
    base, pages = _open(memory, block), stop - first
    first += base - (block << SHIFT)
    memory.slots[first : first + pages] = state
    if pages < MERGE or memory.slots[base] != state or memory.slots[base + BLOCK - 1] != state:
        return
    if _alike(memory.slots, base, base + BLOCK, state) == base + BLOCK:
        _close(memory, block, state)


@hot
def fill(memory: Pages, first: int, stop: int, state: int) -> None:
    """Give the pages first <= p < stop a state."""
    whole, last = (first + BLOCK - 1) >> SHIFT, stop >> SHIFT
    if whole > last:  # within one block
        _fill_part(memory, first, stop, state)
        return
    if first < whole << SHIFT:
        _fill_part(memory, first, whole << SHIFT, state)
    before = MIXED if whole == last else int(memory.blocks[whole])
    if before != MIXED and _alike(memory.blocks, whole, last, before) == last:
        memory.blocks[whole:last] = state
    else:
        for block in range(whole, last):
            _close(memory, block, state)
    if last << SHIFT < stop:
        _fill_part(memory, last << SHIFT, stop, state)


@hot
def apply_range(
    memory: Pages, rules: Rules, op: int, first: int, stop: int, hits: Ints, calls: Ints
) -> tuple[int, int]:
    """One operation on a range, all pages or none. Returns (outcome, page): 0, or that of the first page that refuses.

    hits: int64[S], pages by the state that the operation found; calls: int64[2^K], calls by the bits of what
    happened in them.
    """
    position = first
    while position < stop:
        state, end = settled_run(memory, position, stop)
        if rules.outcome[state, op]:
            hits[state] += 1
            calls[rules.ranged[state, op]] += 1
            return rules.outcome[state, op], position
        position = end
    position, seen = first, 0
    while position < stop:
        state, end = run_of(memory, position, stop)
        hits[state] += end - position
        seen |= rules.ranged[state, op]
        if rules.following[state, op] != state:
            fill(memory, position, end, rules.following[state, op])
        position = end
    calls[seen] += 1
    return 0, stop
