"""One page with everybody who acts on it: all its local states, and every action between them.

A local state is a row of small integers (`moves`: LAW, HOLD, PROCEDURE, VCPU...), found breadth first by a compiled
loop. That search is the whole check of a page apart; for several pages together its edges make an automaton.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.check.page.flow import TAKES
from pagewarden.check.page.moves import ALL, LAW, PROCEDURE, VCPU, Move, Moves
from pagewarden.check.search.automaton import FIELD, MOST, Automaton
from pagewarden.check.search.explorer import Levels, Limits, SoFar, Taken, grown, stop_reason
from pagewarden.check.search.loops import EMPTY
from pagewarden.check.search.page_loops import (
    ALONE,
    DIES,
    FINE,
    HIDES,
    RETRIES,
    STAYS,
    WAITS,
    Found,
    Law,
    LocalEdges,
    Plan,
    grow,
    reach_back,
    refill,
)  # fmt: skip
from pagewarden.law import Home, Op, Outcome, Owner, Policy, Table, enumerated
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
        lambda page: page.owner in PRIVATE and page.slot,
        lambda page: page.guest is not View.NONE or page.owner is Owner.POISON,
    ),
)
"""What a guest waits for: the page is private again; the page is mapped for it."""
RUN = 1 << 15
"""States expanded between two looks at the clock and at signals."""


@dataclass(frozen=True)
class Properties:
    """The marks of the law's steps. marks: uint32[S, O], a bit a property; the bits of a completed request, of a
    mapping of what is the page no more, of a deadlock, of a state that has no way out; hidden: bits that a step of a
    page's setup does not show."""

    names: tuple[str, ...]
    marks: NDArray[np.uint32]
    completes: int
    stale: int
    deadlock: int
    stuck: int
    hidden: int


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
        self.law = _law(table, properties, list(whens.values()))
        self.plan = _plan(moves, self.shape, list(whens), properties, self.symmetric)
        self.room = len(self.plan.moves) * 4
        self.found = _space(1 << 14, len(moves.list))
        self.steps = _edges(1 << 15 if keep else 0)
        self.head, self.count, self.made, self.levels = 0, 1, 0, Levels()
        self.found.codes[0] = 0
        refill(self.found.table, self.found.numbers, self.found.codes, 1)
        self.began = perf_counter() if began is None else began

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
        self.levels.reached(self.head, self.count)
        if self.keep and not self.more():
            self._look_for_a_way_out()
        wanted = 0 if self.keep else self.limits.wanted
        why = stop_reason(self.limits, wanted, self.seen, self.count, perf_counter() - self.began)
        return why or (self._grow() if self.head < stop and self.head - before < RUN else "")

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
        return Local(self.shape, self.found.codes[: self.count], steps, self.moves, self.table, self.symmetric, shown)


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


def _law(table: Table, properties: Properties, whens: list[NDArray[np.bool_]]) -> Law:
    came = np.full(table.outcome.shape, 3, np.uint8)
    for outcome, code in ((Outcome.DONE, FINE), (Outcome.HOST_RETRY, WAITS), (Outcome.PANIC, DIES)):
        came[table.outcome == outcome] = code
    pins = np.array([page.pins for page in table.pages])
    misses = pins[table.next] <= pins[:, None]
    misses[:, [op for op in Op if op not in TAKES]] = False
    leaves = pins[table.next] < pins[:, None]
    leaves[:, Op.UNPIN] = False  # fewer pins though nobody let go: the page is on another frame
    lates = changes_look_up(table.policy)
    when = np.vstack([np.ones(len(table.pages), bool), *whens])
    return Law(table.next.astype(np.int32), came, properties.marks, misses, leaves, lates, when)


@cache
def changes_look_up(policy: Policy) -> NDArray[np.bool_]:
    """bool[S, O]: after which steps a look-up of before is late. Whoever compares numbers sees an invalidation that is
    over; else it is that KVM would find another page, or none."""
    table = enumerated(policy)
    if policy.has("sequence-compared"):
        over = np.zeros(table.next.shape, bool)
        over[:, Op.NOTIFY_END] = [page.notify > 0 for page in table.pages]
        return over
    kinds = [(page.owner in PRIVATE, page.owner is Owner.SHARED, page.home is Home.RESIDENT) for page in table.pages]
    numbers = np.unique(kinds, axis=0, return_inverse=True)[1].reshape(-1)
    changed: NDArray[np.bool_] = numbers[table.next] != numbers[:, None]
    return changed


def _plan(moves: Moves, shape: tuple[int, ...], whens: list[int], properties: Properties, symmetric: bool) -> Plan:
    targets: list[tuple[int, int]] = [(0, 0)]
    rows = [_row(move, whens, properties, targets) for move in moves.list]
    sizes = (1, *shape[1:])
    base = list(accumulate(sizes, initial=0))
    seats = [base[move.column] + move.at if move.column is not None else 0 for move in moves.list]
    listed = np.argsort(seats, kind="stable").astype(np.int32)
    first = np.searchsorted(np.sort(seats), np.arange(base[-1] + 1))
    adrift, late, units = (
        np.concatenate([[0], *(each(column) for column in range(1, len(shape)))])
        for each in (moves.adrift, moves.late, moves.units)
    )
    spare = sum((MOST - ALL) << FIELD * number for number in range(len(moves.locks)))
    alone = np.array([seat is not None and seat[0].role == "teardown" for seat in moves.procedure.list])
    return Plan(
        np.array(shape, np.int64), np.array(rows, np.int32), np.array(targets, np.int64), first, listed,
        np.array(base, np.int64), adrift.astype(np.int64), late.astype(np.int64), units.astype(np.uint32),
        np.uint32(spare), alone, np.uint32(properties.hidden), np.uint32(properties.deadlock if moves.locks else 0),
        symmetric,
    )  # fmt: skip


def _row(move: Move, whens: list[int], properties: Properties, targets: list[tuple[int, int]]) -> tuple[int, ...]:
    """A move as numbers; its targets are appended."""
    spans = []
    for onward in (move.done or ((0, False),), move.refused or ()):
        spans += [len(targets), len(targets) + len(onward)]
        shown = properties.stale if move.stale else 0
        targets += [(seat, shown | (properties.completes if completed else 0)) for seat, completed in onward]
    flags = STAYS * (move.refused is None) + RETRIES * move.retries + ALONE * move.alone
    flags += HIDES * (move.name == "setup")
    when = 0 if move.when is None else 1 + whens.index(id(move.when))
    return (-1 if move.op is None else move.op, -1 if move.column is None else move.column, flags, when, *spans)


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
