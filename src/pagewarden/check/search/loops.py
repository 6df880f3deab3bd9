"""The compiled inner loops of the explorer: expand a run of states, and move a table that has become too small."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pagewarden.check.search.automaton import OVER as _OVER
from pagewarden.check.search.prefetch import prefetch
from pagewarden.vocab.compiled import njit

EMPTY = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
OVER = np.uint32(_OVER)
BLOCK = 16
"""States expanded together, so that their successors' slots are on their way from memory before they are looked at."""


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
    """The successors of some states: their keys, the slots where to look for them, the states that they follow."""

    fresh: NDArray[np.uint64]
    begins: NDArray[np.uint64]
    source: NDArray[np.uint32]


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


@njit
def expand(edges, space, visited, block, head, count, stop, seen):  # type: ignore[no-untyped-def]
    """Expand states head..stop in order. Returns head, count, seen and the transitions taken, early when full."""
    # Out of their tuples once: an array taken out in the loop costs a reference count each time.
    first, target, demand, marks, weight, all_marks, usage = edges
    powers, radix, spare, symmetric = space
    table, order, parents, found = visited
    fresh, begins, source = block
    components, limit = len(powers), len(order)
    digits = np.empty(components, np.int64)
    transitions = 0
    slots = np.uint64(len(table))
    while head < stop:
        end = min(head + BLOCK, stop)
        made = 0
        steps = 0
        for number in range(head, min(end + BLOCK, count)):
            prefetch(table, order[number])
        for number in range(head, end):
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
                                found[mark] = number
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
        if count + made > limit:
            break
        for i in range(made):
            slot, new = _insert_at(table, fresh[i], begins[i])
            if new:
                order[count] = slot
                parents[count] = source[i]
                count += 1
        transitions += steps
        head = end
    return head, count, seen, transitions
