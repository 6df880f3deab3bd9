"""The states of a whole machine's pages: one small integer each, and one for a block of 512 that are all alike.

A block is what one PMD entry covers. Blocks that are mixed have a slot of 512 page states; slots are handed out one
behind the other, so that a large guest of which little is in use touches little memory, close together.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pagewarden.kernel.region import zeroes
from pagewarden.vocab.hot import hot

States: TypeAlias = NDArray[np.uint16]
Ints: TypeAlias = NDArray[np.int64]

SHIFT = 9
BLOCK = 1 << SHIFT
MIXED = 0xFFFF
LANES = np.uint64(0x0001_0001_0001_0001)
"""Times a state: that state in each quarter of a word."""
STRIDE = 16
"""Words compared at once."""
SLOT, WAS, ODD = range(3)
FRESH, BACK, IDLE, LIST = range(4)


class Pages(NamedTuple):
    """blocks: uint16[B], the state of all pages of a block, or MIXED. mixed: int32[B, 3], of a mixed block: which slot
    of slots: uint16[B * 512] has its states, the state that it was opened from, how many pages are not in that. spare:
    int32[3 + B]: the next fresh slot; how many were given back; a block, plus 1, that may be all in the state that it
    was opened from, without having been closed for that, as the next fill may open it again: at most one; which slots
    were given back.
    """

    blocks: States
    mixed: NDArray[np.int32]
    slots: States
    spare: NDArray[np.int32]

    @classmethod
    def uniform(cls, count: int, state: int = 0) -> "Pages":
        """A memory of so many pages, all in one state. What is not touched costs no memory."""
        blocks = -(-count // BLOCK)
        mixed, spare = np.zeros((blocks, 3), np.int32), np.zeros(LIST + blocks, np.int32)
        # numpy asks for huge pages for its zeroes, and the kernel moves others away for them (mm/compaction.c)
        slots = np.frombuffer(zeroes(2 * blocks << SHIFT), np.uint16)
        return cls(np.full(blocks + -blocks % 4, state, np.uint16), mixed, slots, spare)

    def reset(self, state: int) -> None:
        """All pages in one state again."""
        self.blocks[:], self.spare[:LIST] = state, 0

    def expand(self, first: int, stop: int) -> States:
        """The states of the pages first <= p < stop, one each."""
        low, high = first >> SHIFT, -(-stop // BLOCK)
        found = np.repeat(self.blocks[low:high], BLOCK)
        for block in np.flatnonzero(self.blocks[low:high] == MIXED).tolist():
            base = int(self.mixed[low + block, SLOT]) << SHIFT
            found[block << SHIFT : (block + 1) << SHIFT] = self.slots[base : base + BLOCK]
        return found[first - (low << SHIFT) : stop - (low << SHIFT)]

    def state(self, page: int) -> int:
        block = page >> SHIFT
        state = int(self.blocks[block])
        return int(self.slots[(int(self.mixed[block, SLOT]) << SHIFT) + page % BLOCK]) if state == MIXED else state


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
    shift = (int(memory.mixed[block, SLOT]) - block) << SHIFT
    state = int(memory.slots[first + shift])
    last = min((block + 1) << SHIFT, stop)
    return state, int(_alike(memory.slots, first + shift + 1, last + shift, state)) - shift


@hot
def _open(memory: Pages, block: int) -> int:
    """The first page of a block's slot; a uniform block gets one."""
    mixed, state = memory.mixed, memory.blocks[block]
    if state != MIXED:
        spare = memory.spare
        if spare[BACK]:
            spare[BACK] -= 1
            mixed[block, SLOT] = spare[LIST + spare[BACK]]
        else:
            mixed[block, SLOT] = spare[FRESH]
            spare[FRESH] += 1
        base = int(mixed[block, SLOT]) << SHIFT
        memory.slots[base : base + BLOCK] = state
        mixed[block, WAS], mixed[block, ODD] = state, 0
        memory.blocks[block] = MIXED
    return int(mixed[block, SLOT]) << SHIFT


@hot
def _close(memory: Pages, block: int, state: int) -> None:
    """A block is uniform: its slot, if it has one, is free again."""
    if memory.blocks[block] == MIXED:
        memory.spare[LIST + memory.spare[BACK]] = memory.mixed[block, SLOT]
        memory.spare[BACK] += 1
    memory.blocks[block] = state


@hot
def _idle(memory: Pages, block: int) -> None:
    """All pages of a mixed block are as when it was opened. It is closed when the next block comes to that: whoever
    shares and unshares one page all the time does not open it each time."""
    before = int(memory.spare[IDLE]) - 1
    memory.spare[IDLE] = block + 1
    if before >= 0 and before != block and memory.blocks[before] == MIXED and memory.mixed[before, ODD] == 0:
        _close(memory, before, memory.mixed[before, WAS])


@hot
def _fill_part(memory: Pages, first: int, stop: int, state: int, found: int) -> None:
    block = first >> SHIFT
    if memory.blocks[block] == state:
        return
    base, pages = _open(memory, block), stop - first
    first += base - (block << SHIFT)
    mixed, slots = memory.mixed, memory.slots
    was = mixed[block, WAS]
    mixed[block, ODD] += pages * (int(state != was) - int(found != was))
    odd = mixed[block, ODD]
    slots[first : first + pages] = state
    if odd == 0:
        _idle(memory, block)
    elif odd == BLOCK and _alike(slots, base, base + BLOCK, state) == base + BLOCK:
        _close(memory, block, state)


@hot
def fill(memory: Pages, first: int, stop: int, state: int, found: int) -> None:
    """Give the pages first <= p < stop, which are all in the state `found`, another."""
    whole, last = (first + BLOCK - 1) >> SHIFT, stop >> SHIFT
    if whole > last:  # within one block
        _fill_part(memory, first, stop, state, found)
        return
    if first < whole << SHIFT:
        _fill_part(memory, first, whole << SHIFT, state, found)
    before = MIXED if whole == last else int(memory.blocks[whole])
    if before != MIXED and _alike(memory.blocks, whole, last, before) == last:
        memory.blocks[whole:last] = state
    else:
        for block in range(whole, last):
            _close(memory, block, state)
    if last << SHIFT < stop:
        _fill_part(memory, last << SHIFT, stop, state, found)


@hot
def apply_range(
    memory: Pages, rules: Rules, op: int, first: int, stop: int, hits: Ints, mixed: Ints, many: int
) -> tuple[int, int]:
    """One operation on a range, all pages or none. Returns (outcome, page): 0, or that of the first page that refuses.

    hits: int64[S, 2], pages by the state that the operation found; mixed: int64[K], calls in which each event happened;
    many: how often this one counts.
    """
    position = first
    while position < stop:
        state, end = run_of(memory, position, stop)
        if rules.outcome[state, op]:
            hits[state, 0] += many  # and no ranged event: an operation that is refused has none
            return rules.outcome[state, op], position
        position = end
    position, seen = first, 0
    while position < stop:
        state, end = run_of(memory, position, stop)
        hits[state, 0] += many * (end - position)
        seen |= rules.ranged[state, op]
        if rules.following[state, op] != state:
            fill(memory, position, end, rules.following[state, op], state)
        position = end
    for bit in range(mixed.size):
        mixed[bit] += many * (seen >> bit & 1)
    return 0, stop
