"""The compiled loop that finds every local state of a page with its actors, by look-up in tables of law and moves."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pagewarden.check.search.automaton import OVER as _OVER
from pagewarden.check.search.loops import insert
from pagewarden.vocab.compiled import njit

STAYS, RETRIES, ALONE, HIDES = 1, 2, 4, 8
"""Flags of a move: refused, nothing happens; an access that has to wait is tried again; only while no vCPU is at work
on the page; its step shows nothing of conversion."""
OP, COLUMN, FLAGS, WHEN, DONE, REFUSED = 0, 1, 2, 3, 4, 6
"""Columns of `Plan.moves`; DONE and REFUSED are the first and one past the last of the targets."""
FINE, WAITS, DIES = 0, 1, 2
OVER = np.uint32(_OVER)


class Law(NamedTuple):
    """Tables by state and operation. came: FINE, WAITS, DIES (the host), or 3 for any other refusal. misses: a
    reference was taken, but not on the page's frame; leaves: the page is on another frame afterwards; lates: a look-up
    of before is late. when: bool[W, S].
    """

    next: NDArray[np.int32]
    came: NDArray[np.uint8]
    marks: NDArray[np.uint32]
    misses: NDArray[np.bool_]
    leaves: NDArray[np.bool_]
    lates: NDArray[np.bool_]
    when: NDArray[np.bool_]


class Plan(NamedTuple):
    """shape: the size of each column. moves: int32[M, 8]. targets: int32[T, 2], a seat and the marks of getting there.
    first, listed: the moves of each seat; base: the first seat of each column (of column 0: moves without a seat).
    adrift, late: what a seat becomes when the page leaves its frame, and when what was looked up there is late. units:
    of each lock that a seat holds, packed; spare: added to those of all seats, it shows in a field's top bit that there
    were not enough. alone: by seat of the stranger's procedure. hidden: marks that moves with HIDES do not show.
    deadlock: the mark of a state in which everybody who is at work waits for a lock; 0 without locks."""

    shape: NDArray[np.int64]
    moves: NDArray[np.int32]
    targets: NDArray[np.int64]
    first: NDArray[np.int64]
    listed: NDArray[np.int32]
    base: NDArray[np.int64]
    adrift: NDArray[np.int64]
    late: NDArray[np.int64]
    units: NDArray[np.uint32]
    spare: np.uint32
    alone: NDArray[np.bool_]
    hidden: np.uint32
    deadlock: np.uint32
    symmetric: bool


class Found(NamedTuple):
    """table: uint64 codes by slot, numbers: of those states; codes, parent, taken: by number: the state, the one that
    it was first reached from, and the move that led there. seen: uint32[1], all marks; where: int64[32, 3], for each
    mark the state, the move and the state after it that first showed it, or -1. by_move: uint32[M], all marks that its
    steps showed."""

    table: NDArray[np.uint64]
    numbers: NDArray[np.int32]
    codes: NDArray[np.uint64]
    parent: NDArray[np.int32]
    taken: NDArray[np.int32]
    seen: NDArray[np.uint32]
    where: NDArray[np.int64]
    by_move: NDArray[np.uint32]


class LocalEdges(NamedTuple):
    """Every edge: int32 states before and after it and its move, uint32 marks. Of length 0 where they are not kept."""

    source: NDArray[np.int32]
    target: NDArray[np.int32]
    action: NDArray[np.int32]
    marks: NDArray[np.uint32]


@njit
def grow(law, plan, found, steps, keep, head, stop, count, made, room):  # type: ignore[no-untyped-def]  # numba infers
    """Expand local states from `head` to `stop`, until none is left or there may not be room for one more state's
    edges. keep: write the edges down. Returns head, count (of states), made (edges)."""
    # Out of their tuples once: an array taken out in the loop costs a reference count each time.
    following, came_of, marks_of, misses, leaves, lates, when = law
    shape, moves, targets, first, listed, base, adrift, late, units, spare, alone, hidden, deadlock, symmetric = plan
    table, numbers, codes, parent, taken, seen, where, by_move = found
    source, target, action, marks = steps
    columns = len(shape)
    here, then = np.empty(columns, np.int64), np.empty(columns, np.int64)
    while head < min(stop, count) and count + room <= len(codes) and (not keep or made + room <= len(source)):
        at = codes[head]
        idle = _decode(shape, at, here)
        state, stopped = here[0], alone[here[2]]
        used, waiting, going = spare, False, False  # locks; somebody at work waits for one; somebody does not
        if deadlock:
            for c in range(2, columns):
                used += units[base[c] + here[c]]
        for turn in range(columns):
            c = turn + 3 if turn < columns - 3 else columns - 1 - turn  # the vCPUs, the stranger's procedure, its rest
            if c >= 3 and (stopped or (symmetric and c > 3 and here[c] == here[c - 1])):
                continue
            seat = base[c] + (here[c] if c > 0 else 0)
            blocked, free = False, False
            for k in range(first[seat], first[seat + 1]):
                number = listed[k]
                op, flags, column = moves[number, OP], moves[number, FLAGS], moves[number, COLUMN]
                if not when[moves[number, WHEN], state] or (flags & ALONE and not idle):
                    continue
                came = came_of[state, op] if op >= 0 else FINE
                bits = marks_of[state, op] if op >= 0 else np.uint32(0)
                if flags & HIDES:
                    bits &= ~hidden
                stays = came == DIES or (came == WAITS and flags & RETRIES) or (came != FINE and flags & STAYS)
                which = DONE if came == FINE else REFUSED
                last = moves[number, which] + 1 if stays else moves[number, which + 1]
                for t in range(moves[number, which], last):
                    shown, code = bits, at
                    free = free or stays
                    if not stays:
                        for i in range(columns):
                            then[i] = here[i]
                        if column >= 0:
                            then[column] = targets[t, 0]
                            shown |= np.uint32(targets[t, 1])
                            if deadlock and c >= 2 and (used - units[seat] + units[base[c] + then[c]]) & OVER:
                                blocked = True
                                continue
                        if op >= 0:
                            then[0] = following[state, op]
                            if misses[state, op] and column > 0:
                                then[column] = adrift[base[column] + then[column]]
                            if leaves[state, op]:
                                for i in range(1, columns):
                                    then[i] = adrift[base[i] + then[i]]
                            if lates[state, op]:
                                for i in range(2, columns):
                                    if i != column:
                                        then[i] = late[base[i] + then[i]]
                        code = _code(shape, symmetric, then)
                        free = True
                    if code == at and shown == 0:
                        continue
                    there = head
                    if code != at:
                        slot, new = insert(table, code)
                        if new:
                            numbers[slot] = count
                            codes[count], parent[count], taken[count] = code, head, number
                            count += 1
                        there = numbers[slot]
                    by_move[number] |= shown
                    if shown & ~seen[0]:
                        _show(where, seen, shown, head, number, there)
                    if keep:
                        source[made], target[made], action[made], marks[made] = head, there, number, shown
                    made += 1
            if c >= 2 and here[c] > 0:
                waiting, going = waiting or (blocked and not free), going or free or not blocked
        if waiting and not going and deadlock & ~seen[0]:
            _show(where, seen, deadlock, parent[head], taken[head], head)
        head += 1
    return head, count, made


@njit
def _show(where, seen, shown, before, number, after):  # type: ignore[no-untyped-def]
    """Remember the step that first showed some marks."""
    for mark in range(32):
        if (shown & ~seen[0]) >> np.uint32(mark) & np.uint32(1):
            where[mark, 0], where[mark, 1], where[mark, 2] = before, number, after
    seen[0] |= shown


@njit
def reach_back(source, target, action, allowed, reached):  # type: ignore[no-untyped-def]
    """Extend the states that are reached (bool, in place) by those from which allowed actions lead there."""
    more = True
    while more:
        more = False
        for edge in range(len(source) - 1, -1, -1):
            if reached[target[edge]] and not reached[source[edge]] and allowed[action[edge]]:
                reached[source[edge]] = more = True


@njit(inline="always")
def _decode(shape, code, here):  # type: ignore[no-untyped-def]
    """The columns of a code; whether every vCPU is idle."""
    idle = True
    for c in range(len(here) - 1, -1, -1):
        size = np.uint64(shape[c])
        here[c] = np.int64(code % size)
        code //= size
        idle = idle and (c < 3 or here[c] == 0)
    return idle


@njit(inline="always")
def _code(shape, symmetric, then):  # type: ignore[no-untyped-def]
    """The number of these columns; interchangeable vCPUs are put in order first."""
    if symmetric:
        for c in range(4, len(then)):
            seat = then[c]
            d = c - 1
            while d >= 3 and then[d] > seat:
                then[d + 1] = then[d]
                d -= 1
            then[d + 1] = seat
    code = np.uint64(0)
    for c in range(len(then)):
        code = code * np.uint64(shape[c]) + np.uint64(then[c])
    return code


@njit
def refill(table, numbers, codes, count):  # type: ignore[no-untyped-def]
    """Put the states into a new table."""
    for number in range(count):
        slot, _ = insert(table, codes[number])
        numbers[slot] = number
