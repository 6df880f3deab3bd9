"""One page with everybody who acts on it: all its local states, and every action between them.

A local state is a row of small integers (`moves`: LAW, HOLD, PROCEDURE, VCPU...), found breadth first by a compiled
loop. That search is the whole check of a page apart; for several pages together its edges make an automaton.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.check.page.arrays import Properties, law_arrays, plan_arrays
from pagewarden.check.page.fold import alike, fold
from pagewarden.check.page.moves import LAW, PROCEDURE, VCPU, Moves
from pagewarden.check.search.automaton import FIELD, Automaton
from pagewarden.check.search.explorer import Levels, Limits, SoFar, Taken, grown, stop_reason
from pagewarden.check.search.loops import EMPTY
from pagewarden.check.search.page_loops import Found, LocalEdges, grow, reach_back, refill
from pagewarden.law import Owner, Table
from pagewarden.law.page import PRIVATE, Page, View
from pagewarden.vocab import UserMistake

Rows = NDArray[np.int64]
MOST_LOCAL = 1 << 26
"""Local states of one page that an automaton may have; more do not leave room for a second page."""
EVERY = MOST_LOCAL + 1
"""For `keep`: all edges, or a complaint."""
MOST_NUMBERED = (1 << 31) - 1
"""States that a page apart may have: their numbers are 32 bits wide."""
_WISHES: tuple[tuple[Callable[[Page], bool], Callable[[Page], bool]], ...] = (
    (lambda page: page.owner in (Owner.SHARED, Owner.LEAVING), lambda page: page.owner in PRIVATE),
    (
        lambda page: page.owner in PRIVATE and page.slot and not page.closed,
        lambda page: page.guest is not View.NONE or page.owner is Owner.POISON,
    ),
)
"""What a guest waits for: the page is private again; the page is mapped for it."""
RUN = 1 << 15
"""States expanded between two looks at the clock and at signals."""
FOLDS = 1 << 16
"""States beyond which a search that keeps no edges looks whether it tells more apart than it has to, and each time that
there are four times as many: it begins again, then."""


@dataclass(frozen=True)
class Local:
    """shape: the size of each column; codes: uint64[L], the states as mixed-radix numbers of it, in the order in which
    they were found. The automaton's actions are numbers of moves; there is none where the edges were not kept. shown:
    uint32[M], the marks that a move may show; all of them where not every state was seen."""

    shape: tuple[int, ...]
    codes: NDArray[np.uint64]
    steps: LocalEdges
    moves: Moves
    table: Table
    symmetric: bool
    shown: NDArray[np.uint32]

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + sum(array.nbytes for array in self.steps)

    def rows(self) -> Rows:
        """int64[L, columns]"""
        return _rows(self.codes, self.shape)

    def rows_of(self, states: list[int]) -> list[list[int]]:
        """The columns of some states."""
        found: list[list[int]] = _rows(self.codes[states], self.shape).tolist()
        return found

    @cached_property
    def automaton(self) -> Automaton:
        rows, vcpus = self.rows(), len(self.shape) - VCPU
        usage, locks = np.zeros(len(rows), np.uint32), np.zeros(len(rows), np.uint32)
        for column in range(PROCEDURE, len(self.shape)):
            usage += (rows[:, column] > 0).astype(np.uint32) << np.uint32(_shift(column, vcpus, self.symmetric))
            locks += self.moves.units(column)[rows[:, column]]
        locks <<= np.uint32(FIELD * (2 if self.symmetric else vcpus + 1))
        moves = self.moves.list
        entry = [1 << _shift(m.column, vcpus, self.symmetric) if m.enters and m.column else 0 for m in moves]
        demand = usage[self.steps.source] + np.array(entry, np.uint32)[self.steps.action] + locks[self.steps.target]
        usage += locks
        return Automaton(0, usage, self.steps.source, self.steps.target, demand, self.steps.marks, self.steps.action)


class PageSearch:
    """Every local state that a page can reach while nobody is busy elsewhere (explorer.Search).

    symmetric: vCPUs are interchangeable. keep: write the edges down, for an automaton, which sees every state whatever
    the limits' `wanted`, unless there are more states than that: then only the page apart can be checked. UserMistake:
    more than MOST_LOCAL were to be kept.
    """

    def __init__(
        self, table: Table, moves: Moves, properties: Properties, vcpus: int, symmetric: bool, limits: Limits,
        keep: int = 0, began: float | None = None,
    ) -> None:  # fmt: skip
        self.table, self.moves, self.symmetric, self.properties = table, moves, symmetric, properties
        self.limits, self.keep = limits, keep
        self.shape = (len(table.pages), 2, len(moves.procedure.list), *[len(moves.vcpu.list)] * vcpus)
        whens = {id(move.when): move.when for move in moves.list if move.when is not None}
        self.law = law_arrays(table, properties, list(whens.values()))
        self.plan = plan_arrays(moves, self.shape, list(whens), properties, self.symmetric)
        self.room = len(self.plan.moves) * 4
        self.found = _space(1 << 14, len(moves.list))
        self.steps = _edges(1 << 15 if keep else 0)
        self.fold_at, self.different = FOLDS, len(table.pages)
        self.told: dict[int, list[Taken]] = {}  # paths to marks seen before it began again, through states of `before`
        self.before: list[int] = []
        self._begin()
        self.began = perf_counter() if began is None else began

    def _begin(self) -> None:
        self.head, self.count, self.made, self.levels = 0, 1, 0, Levels()
        self.found.codes[0] = 0
        refill(self.found.table, self.found.numbers, self.found.codes, 1)

    @property
    def seen(self) -> int:
        return int(self.found.seen[0])

    def more(self) -> bool:
        return self.head < self.count

    def progress(self) -> SoFar:
        memory = sum(array.nbytes for array in (*self.found, *self.steps))
        return self.levels.so_far(self.count, self.made, self.began, memory)

    def run(self) -> str:
        """Expand some states; why to stop, if there is a reason."""
        stop, before = min(self.levels.end, self.head + RUN), self.head
        self.head, self.count, self.made = grow(
            self.law, self.plan, self.found, self.steps, self.keep > 0, self.head, stop, self.count, self.made,
            self.room,
        )  # fmt: skip
        if self.keep > MOST_LOCAL and self.count > MOST_LOCAL:
            raise UserMistake(f"one page has more than {MOST_LOCAL:,} states; check fewer vCPUs or fewer strangers")
        if self.count > self.keep:
            self.keep, self.steps = 0, _edges(0)
        if not self.keep and self.count > self.fold_at:
            self._fold()
        self.levels.reached(self.head, self.count)
        if self.keep and not self.more():
            self._look_for_a_way_out()
        wanted = 0 if self.keep else self.limits.wanted
        why = stop_reason(self.limits, wanted, self.seen, self.count, perf_counter() - self.began)
        return why or (self._grow() if self.head < stop and self.head - before < RUN else "")

    def _fold(self) -> None:
        """Begin again with the states that what is still asked tells apart, where those are fewer."""
        self.fold_at *= 4
        first = alike(self.law, self.plan, self.moves.list, (self.limits.wanted or 0xFFFF_FFFF) & ~self.seen)
        different = len(np.unique(first))
        if different > self.different * 3 // 4:
            return
        for mark in [mark for mark in range(32) if self.seen >> mark & 1 and mark not in self.told]:
            path, here = self.path(mark), len(self.before)
            codes = self.found.codes[[path[0].before, *(taken.after for taken in path)]]
            self.before += codes.tolist()
            self.told[mark] = [replace(taken, before=here + at, after=here + at + 1) for at, taken in enumerate(path)]
        self.law, self.different = fold(self.law, first), different
        self.found = Found(*_space(FOLDS, 0)[:5], *self.found[5:])
        self._begin()

    def _look_for_a_way_out(self) -> None:
        """Mark the first state from which what the guest wants is never granted, whatever it tries, while everybody
        finishes what he has begun and lets go of what he holds."""
        pages = self.table.pages
        laws = _rows(self.found.codes[: self.count], self.shape)[:, LAW]
        allowed = np.array([move.goes_on for move in self.moves.list])
        for waits, granted in _WISHES:
            waiting, reached = (np.array([each(page) for page in pages])[laws] for each in (waits, granted))
            source, target, action = (each[: self.made] for each in self.steps[:3])
            reach_back(source, target, action, allowed, reached)
            stuck = np.flatnonzero(waiting & ~reached)
            if len(stuck) and stuck[0] and not self.seen & self.properties.stuck:
                first = stuck[0]
                self.found.seen[0] |= self.properties.stuck
                mark = self.properties.stuck.bit_length() - 1
                self.found.where[mark] = self.found.parent[first], self.found.taken[first], first

    def _grow(self) -> str:
        """Make room; why not, if there is no more memory to be had."""
        states, edges = len(self.found.codes), len(self.steps.source)
        more = 2 * states if states - self.count < 2 * self.room + states // 4 else states
        longer = 2 * edges if edges and edges - self.made < 2 * self.room + edges // 4 else edges
        new = (more > states) * more * _STATE + (longer > edges) * longer * _EDGE
        if new > self.limits.room(self.progress().memory):
            return self.limits.full
        if more > MOST_NUMBERED:
            return f"{MOST_NUMBERED:,} states"
        if longer > edges:
            self.steps = _moved(self.steps, lambda each: grown(each, longer, self.made))
        if more > states:
            old = self.found
            codes, parent, taken = (grown(each, more, self.count) for each in (old.codes, old.parent, old.taken))
            self.found = Found(np.full(2 * more, EMPTY), np.empty(2 * more, np.int32), codes, parent, taken, *old[5:])
            refill(self.found.table, self.found.numbers, codes, self.count)
        return ""

    def path(self, mark: int) -> list[Taken]:
        """A shortest sequence of moves whose last one carries the mark (a bit's number). KeyError: never seen."""
        if mark in self.told:
            return [replace(t, before=self.count + t.before, after=self.count + t.after) for t in self.told[mark]]
        number, action, after = self.found.where[mark].tolist()
        if number < 0:
            raise KeyError(mark)
        path = [Taken(0, action, number, after)]
        while number:
            before = int(self.found.parent[number])
            path.append(Taken(0, int(self.found.taken[number]), before, number))
            number = before
        return path[::-1]

    def local(self) -> Local:
        """What was found, so far."""
        steps = _moved(self.steps, lambda each: each[: self.made])
        shown = self.found.by_move | np.uint32(0xFFFF_FFFF if self.more() else 0)
        codes = np.append(self.found.codes[: self.count], np.array(self.before, np.uint64))
        return Local(self.shape, codes, steps, self.moves, self.table, self.symmetric, shown)


def _shift(column: int, vcpus: int, symmetric: bool) -> int:
    """Where the resource is packed that a busy actor of a column takes a unit of."""
    if column == PROCEDURE:
        return FIELD * (1 if symmetric else vcpus)
    return 0 if symmetric else FIELD * (column - VCPU)


def _rows(codes: NDArray[np.uint64], shape: tuple[int, ...]) -> Rows:
    rows = np.empty((len(codes), len(shape)), np.int64)
    for column in reversed(range(len(shape))):
        codes, rows[:, column] = np.divmod(codes, np.uint64(shape[column]))
    return rows


_STATE, _EDGE = 2 * 8 + 2 * 4 + 8 + 4 + 4, 4 * 4
"""Bytes of a state's places in the arrays of Found, and of an edge."""


def _space(states: int, moves: int) -> Found:
    parent, taken = (np.empty(states, np.int32) for _ in range(2))
    table, numbers, codes = np.full(2 * states, EMPTY), np.empty(2 * states, np.int32), np.empty(states, np.uint64)
    seen, where, by_move = np.zeros(1, np.uint32), np.full((32, 3), -1), np.zeros(moves, np.uint32)
    return Found(table, numbers, codes, parent, taken, seen, where, by_move)


def _edges(count: int) -> LocalEdges:
    source, target, action = (np.empty(count, np.int32) for _ in range(3))
    return LocalEdges(source, target, action, np.empty(count, np.uint32))


def _moved(steps: LocalEdges, move: Callable[[NDArray[Any]], NDArray[Any]]) -> LocalEdges:
    return LocalEdges(*(move(each) for each in steps))
