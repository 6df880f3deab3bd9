"""The compiled loop that finds every local state of a page with its actors, by look-up in tables of law and moves."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pagewarden.check.search.loops import insert

STAYS, RETRIES, ALONE, HIDES = 1, 2, 4, 8
"""Flags of a move: refused, nothing happens; an access that has to wait is tried again; only while no vCPU is at work
on the page; its step shows nothing of conversion."""
OP, COLUMN, FLAGS, WHEN, DONE, REFUSED = 0, 1, 2, 3, 4, 6
"""Columns of `Plan.moves`; DONE and REFUSED are the first and one past the last of the targets."""
FINE, WAITS, DIES = 0, 1, 2


class Law(NamedTuple):
    """Tables by state and operation. came: FINE, WAITS, DIES (the host), or 3 for any other refusal. misses: a
    reference was taken, but not on the page's frame; leaves: the page is on another frame afterwards. when: bool[W, S].
    """

    next: NDArray[np.int32]
    came: NDArray[np.uint8]
    marks: NDArray[np.uint32]
    misses: NDArray[np.bool_]
    leaves: NDArray[np.bool_]
    when: NDArray[np.bool_]


class Plan(NamedTuple):
    """shape: the size of each column. moves: int32[M, 8]. targets: int32[T, 2], a seat and the marks of getting there.
    first, listed: the moves of each seat; base: the first seat of each column (of column 0: moves without a seat).
    adrift: what a seat becomes when the page leaves its frame. alone: by seat of the stranger's procedure. hidden:
    marks that moves with HIDES do not show."""

    shape: NDArray[np.int64]
    moves: NDArray[np.int32]
    targets: NDArray[np.int64]
    first: NDArray[np.int64]
    listed: NDArray[np.int32]
    base: NDArray[np.int64]
    adrift: NDArray[np.int64]
    alone: NDArray[np.bool_]
    hidden: np.uint32
    symmetric: bool


class Found(NamedTuple):
    """table: uint64 codes by slot, numbers: of those states; codes: by number; the edges with their moves and marks."""

    table: NDArray[np.uint64]
    numbers: NDArray[np.int32]
    codes: NDArray[np.uint64]
    source: NDArray[np.int32]
    target: NDArray[np.int32]
    action: NDArray[np.int32]
    marks: NDArray[np.uint32]


# Helpers are inlined: a tuple of arrays handed to a compiled function costs a reference count for each array.
_inlined = njit(cache=True, inline="always")


@njit(cache=True)
def grow(law, plan, found, head, count, made, room):  # type: ignore[no-untyped-def]  # numba infers
    """Expand local states from `head` on, until none is left or there may not be room for one more state's edges.
    Returns head, count (of states), made (edges)."""
    columns = len(plan.shape)
    here, then = np.empty(columns, np.int64), np.empty(columns, np.int64)
    while head < count and count + room <= len(found.codes) and made + room <= len(found.source):
        idle = _decode(plan, found.codes[head], here)
        stopped = plan.alone[here[2]]
        for turn in range(columns):
            c = turn + 3 if turn < columns - 3 else columns - 1 - turn  # the vCPUs, the stranger's procedure, its rest
            if c >= 3 and (stopped or (plan.symmetric and c > 3 and here[c] == here[c - 1])):
                continue
            seat = plan.base[c] + (here[c] if c > 0 else 0)
            for k in range(plan.first[seat], plan.first[seat + 1]):
                number = plan.listed[k]
                op, state = plan.moves[number, OP], here[0]
                flags = plan.moves[number, FLAGS]
                if not law.when[plan.moves[number, WHEN], state] or (flags & ALONE and not idle):
                    continue
                came = law.came[state, op] if op >= 0 else FINE
                bits = law.marks[state, op] if op >= 0 else np.uint32(0)
                if flags & HIDES:
                    bits &= ~plan.hidden
                if came == DIES or (came == WAITS and flags & RETRIES) or (came != FINE and flags & STAYS):
                    if bits:
                        found.source[made], found.target[made], found.action[made] = head, head, number
                        found.marks[made] = bits
                        made += 1
                    continue
                which = DONE if came == FINE else REFUSED
                for t in range(plan.moves[number, which], plan.moves[number, which + 1]):
                    shown = _after(law, plan, here, then, number, op, t) | bits
                    code = _code(plan, then)
                    if code == found.codes[head] and shown == 0:
                        continue
                    slot, new = insert(found.table, code)
                    if new:
                        found.numbers[slot] = count
                        found.codes[count] = code
                        count += 1
                    found.source[made], found.target[made] = head, found.numbers[slot]
                    found.action[made], found.marks[made] = number, shown
                    made += 1
        head += 1
    return head, count, made


@_inlined
def _decode(plan, code, here):  # type: ignore[no-untyped-def]
    """The columns of a code; whether every vCPU is idle."""
    idle = True
    for c in range(len(here) - 1, -1, -1):
        size = np.uint64(plan.shape[c])
        here[c] = np.int64(code % size)
        code //= size
        idle = idle and (c < 3 or here[c] == 0)
    return idle


@_inlined
def _after(law, plan, here, then, number, op, t):  # type: ignore[no-untyped-def]
    """The columns after a move that leads to target t, and the marks of getting there. Whoever holds a frame that the
    page has left, or never had, holds another object from now on."""
    column = plan.moves[number, COLUMN]
    for c in range(len(here)):
        then[c] = here[c]
    shown = np.uint32(0)
    if column >= 0:
        then[column] = plan.targets[t, 0]
        shown = np.uint32(plan.targets[t, 1])
    if op >= 0:
        then[0] = law.next[here[0], op]
        if law.misses[here[0], op] and column > 0:
            then[column] = plan.adrift[plan.base[column] + then[column]]
        if law.leaves[here[0], op]:
            for c in range(1, len(then)):
                then[c] = plan.adrift[plan.base[c] + then[c]]
    return shown


@_inlined
def _code(plan, then):  # type: ignore[no-untyped-def]
    """The number of these columns; interchangeable vCPUs are put in order first."""
    if plan.symmetric:
        for c in range(4, len(then)):
            seat = then[c]
            d = c - 1
            while d >= 3 and then[d] > seat:
                then[d + 1] = then[d]
                d -= 1
            then[d + 1] = seat
    code = np.uint64(0)
    for c in range(len(then)):
        code = code * np.uint64(plan.shape[c]) + np.uint64(then[c])
    return code


@njit(cache=True)
def refill(found, count):  # type: ignore[no-untyped-def]
    """Put the states into a new table."""
    for number in range(count):
        slot, _ = insert(found.table, found.codes[number])
        found.numbers[slot] = number
