"""The compiled inner loops of the explorer: expand a run of states, and move a table that has become too small."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pagewarden.check.search.automaton import OVER as _OVER
from pagewarden.check.search.machine import fetch_add, give_way, load, prefetch, store
from pagewarden.vocab.compiled import njit

EMPTY = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
OVER = np.uint32(_OVER)
BLOCK = 16
"""States expanded together, so that their successors' slots are on their way from memory before they are looked at."""
NEXT, TURN, COUNT, HEAD, TAKEN, SEEN, FULL = 0, 8, 16, 17, 18, 19, 20
"""What threads share, as places of an int64 array: the next share to be taken and the one whose turn it is to write, in
a line of the memory each; states, those expanded, transitions, marks, whether there is no more room."""
DESK = 24


class Space(NamedTuple):
    """How states are numbers: powers: uint64, of each component; radix: local states. spare: what shows that there is
    not enough of a resource (automaton.System.spare). symmetric: components are in order of their local states."""

    powers: NDArray[np.uint64]
    radix: np.uint64
    spare: np.uint32
    symmetric: bool


class Visited(NamedTuple):
    """table: uint64[slots]; order: uint32, slot by number; parents: uint32, number of the parent. found[m]: int64, the
    first state with an action of mark m, or -1."""

    table: NDArray[np.uint64]
    order: NDArray[np.uint32]
    parents: NDArray[np.uint32]
    found: NDArray[np.int64]


class Block(NamedTuple):
    """The successors of some states: their keys, the slots where to look for them, the states that they follow; most:
    that BLOCK states may have."""

    fresh: NDArray[np.uint64]
    begins: NDArray[np.uint64]
    source: NDArray[np.uint32]
    most: int


@njit(inline="always")
def _slot(key, slots):  # type: ignore[no-untyped-def]  # numba infers
    """Multiplicative hashing; the top half of the product, scaled to the size of the table."""
    return (((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) * slots) >> np.uint64(32)


@njit
def insert(table, key):  # type: ignore[no-untyped-def]
    """The slot of a key and whether it is new."""
    return _insert_at(table, key, _slot(key, np.uint64(len(table))))


@njit(inline="always")
def _insert_at(table, key, slot):  # type: ignore[no-untyped-def]
    """The same from the slot where the search begins; linear probing."""
    slots = np.uint64(len(table))
    while table[slot] != EMPTY:
        if table[slot] == key:
            return slot, False
        slot += np.uint64(1)
        if slot == slots:
            slot = np.uint64(0)
    table[slot] = key
    return slot, True


@njit
def rehash(old, order, count, table):  # type: ignore[no-untyped-def]
    """Put every state into a larger table; order then holds the new slots."""
    for number in range(count):
        order[number] = insert(table, old[order[number]])[0]


@njit
def _sorted_key(digits, taken, digit, radix):  # type: ignore[no-untyped-def]
    """The canonical key after component `taken` of sorted digits has become `digit`."""
    key = np.uint64(0)
    placed = False
    for i in range(len(digits)):
        if i == taken:
            continue
        if not placed and digits[i] > digit:
            key = key * radix + np.uint64(digit)
            placed = True
        key = key * radix + np.uint64(digits[i])
    return key if placed else key * radix + np.uint64(digit)


@njit(nogil=True)
def expand(edges, space, visited, block, desk, head, stop, share):  # type: ignore[no-untyped-def]
    """Expand states head..stop, or until there is no room; what was done is on the desk.

    Threads take shares of so many states and make their successors at the same time, and leave out what is in the table
    already; the rest they write one after the other, in the order of the states: with any number of threads the same
    states get the same numbers and parents. What is in the table stays there, so looking at it needs no turn.
    """
    # Out of their tuples once: an array taken out in the loop costs a reference count each time.
    first, target, demand, marks, weight, all_marks, usage = edges
    powers, radix, spare, symmetric = space
    table, order, parents, found = visited
    fresh, begins, source, most = block
    components, limit = len(powers), len(order)
    digits, shown = np.empty(components, np.int64), np.empty(len(found), np.int64)
    slots = np.uint64(len(table))
    while True:
        turn = fetch_add(desk, NEXT)
        begin = head + turn * share
        last = min(begin + share, stop)
        if begin >= stop:
            return
        mine, made, steps = share >= stop - head, 0, 0
        seen = known = np.uint32(desk[SEEN])
        while begin < last:
            end, left = min(begin + BLOCK, last), made
            for number in range(begin, min(end + BLOCK, last)):
                prefetch(table, order[number])
            for number in range(begin, end):
                key = table[order[number]]
                rest = key
                used = np.uint32(0)
                union = np.uint32(0)
                for i in range(components - 1, -1, -1):
                    digits[i] = np.int64(rest % radix)
                    rest //= radix
                    used += usage[digits[i]]
                    union |= all_marks[digits[i]]
                wanted = union & ~seen != 0
                for i in range(components):
                    here = digits[i]
                    if symmetric and i and digits[i - 1] == here:
                        continue
                    others = used - usage[here] + spare
                    for edge in range(first[here], first[here + 1]):
                        if (others + demand[edge]) & OVER:
                            continue
                        steps += weight[edge]
                        if wanted and marks[edge] & ~seen:
                            for mark in range(len(found)):
                                if (marks[edge] & ~seen) >> np.uint32(mark) & np.uint32(1):
                                    shown[mark] = number
                            seen |= marks[edge]
                        there = target[edge]
                        if there == here:
                            continue
                        if symmetric:
                            after = _sorted_key(digits, i, there, radix)
                        else:
                            after = key + np.uint64(np.int64(there) - here) * powers[i]
                        fresh[made] = after
                        source[made] = number
                        begins[made] = _slot(after, slots)
                        prefetch(table, begins[made])
                        made += 1
            begin = end
            if not mine:
                made = _missing(table, fresh, begins, source, left, made)
                if begin < last and made + most <= len(fresh):
                    continue
                while load(desk, TURN) != turn:
                    give_way()
                mine = True
            count = desk[COUNT]
            if desk[FULL] or count + made > limit:
                desk[FULL] = 1
                break
            for i in range(made):
                slot, new = _insert_at(table, fresh[i], begins[i])
                if new:
                    order[count] = slot
                    parents[count] = source[i]
                    count += 1
            for mark in range(len(found)):
                if (seen & ~known & ~np.uint32(desk[SEEN])) >> np.uint32(mark) & np.uint32(1):
                    found[mark] = shown[mark]
            desk[COUNT], desk[HEAD], desk[TAKEN], desk[SEEN] = count, end, desk[TAKEN] + steps, desk[SEEN] | seen
            made = steps = 0
        store(desk, TURN, turn + 1)


@njit(inline="always")
def _missing(table, fresh, begins, source, left, made):  # type: ignore[no-untyped-def]
    """Keep those successors left..made that are not in the table, in their order, each with the slot where it would be.
    How many there are then."""
    slots = np.uint64(len(table))
    for i in range(left, made):
        key, slot = fresh[i], begins[i]
        entry = table[slot]
        while entry != key and entry != EMPTY:
            slot += np.uint64(1)
            if slot == slots:
                slot = np.uint64(0)
            entry = table[slot]
        fresh[left], begins[left], source[left] = key, slot, source[i]
        left += entry == EMPTY
    return left
