"""One page with everybody who acts on it: all its local states, and every action between them.

A local state is a row of small integers (`moves`: LAW, HOLD, PROCEDURE, VCPU...), found breadth first by a
compiled loop.
"""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from pagewarden.check.page.flow import TAKES
from pagewarden.check.page.moves import PROCEDURE, VCPU, Move, Moves
from pagewarden.check.search.automaton import FIELD, Automaton
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
    Plan,
    grow,
    refill,
)  # fmt: skip
from pagewarden.law import Op, Outcome, Table
from pagewarden.vocab import UserMistake

Rows = NDArray[np.int64]
MOST_LOCAL = 1 << 26
"""Local states of one page; more do not leave room for a second page."""


@dataclass(frozen=True)
class Properties:
    """The marks of the law's steps. marks: uint32[S, O], a bit a property; completes: the bit of a completed request;
    hidden: bits that a step of a page's setup does not show."""

    names: tuple[str, ...]
    marks: NDArray[np.uint32]
    completes: int
    hidden: int


@dataclass(frozen=True)
class Local:
    """shape: the size of each column; codes: uint64[L], the states as mixed-radix numbers of it, in the order in which
    they were found. The automaton's actions are numbers of moves."""

    shape: tuple[int, ...]
    codes: NDArray[np.uint64]
    automaton: Automaton
    moves: Moves
    table: Table

    def rows(self) -> Rows:
        """int64[L, columns]"""
        return _rows(self.codes, self.shape)

    def rows_of(self, states: list[int]) -> list[list[int]]:
        """The columns of some states."""
        found: list[list[int]] = _rows(self.codes[states], self.shape).tolist()
        return found


def enumerate_page(table: Table, moves: Moves, properties: Properties, vcpus: int, symmetric: bool) -> Local:
    """Every local state that a page can reach while nobody is busy elsewhere. symmetric: vCPUs are interchangeable.

    UserMistake: there are more than MOST_LOCAL.
    """
    shape = (len(table.pages), 2, len(moves.procedure.list), *[len(moves.vcpu.list)] * vcpus)
    whens = {id(move.when): move.when for move in moves.list if move.when is not None}
    law = _law(table, properties, list(whens.values()))
    plan = _plan(moves, shape, list(whens), properties, symmetric)
    found, count, made = _search(law, plan)
    rows = _rows(found.codes[:count], shape)
    usage = np.zeros(count, np.uint32)
    for column in range(PROCEDURE, len(shape)):
        usage += (rows[:, column] > 0).astype(np.uint32) << np.uint32(_shift(column, vcpus, symmetric))
    entry = [1 << _shift(m.column, vcpus, symmetric) if m.enters and m.column else 0 for m in moves.list]
    source, action = found.source[:made], found.action[:made]
    demand = usage[source] + np.array(entry, np.uint32)[action]
    automaton = Automaton(0, usage, source, found.target[:made], demand, found.marks[:made], action)
    return Local(shape, found.codes[:count], automaton, moves, table)


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
    when = np.vstack([np.ones(len(table.pages), bool), *whens])
    return Law(table.next.astype(np.int32), came, properties.marks, misses, leaves, when)


def _plan(moves: Moves, shape: tuple[int, ...], whens: list[int], properties: Properties, symmetric: bool) -> Plan:
    targets: list[tuple[int, int]] = [(0, 0)]
    rows = [_row(move, whens, properties, targets) for move in moves.list]
    sizes = (1, *shape[1:])
    base = list(accumulate(sizes, initial=0))
    seats = [base[move.column] + move.at if move.column is not None else 0 for move in moves.list]
    listed = np.argsort(seats, kind="stable").astype(np.int32)
    first = np.searchsorted(np.sort(seats), np.arange(base[-1] + 1))
    adrift = np.concatenate([[0], *(moves.adrift(column) for column in range(1, len(shape)))])
    alone = np.array([seat is not None and seat[0].role == "teardown" for seat in moves.procedure.list])
    return Plan(
        np.array(shape, np.int64), np.array(rows, np.int32), np.array(targets, np.int64), first, listed,
        np.array(base, np.int64), adrift.astype(np.int64), alone, np.uint32(properties.hidden), symmetric,
    )  # fmt: skip


def _row(move: Move, whens: list[int], properties: Properties, targets: list[tuple[int, int]]) -> tuple[int, ...]:
    """A move as numbers; its targets are appended."""
    spans = []
    for onward in (move.done or ((0, False),), move.refused or ()):
        spans += [len(targets), len(targets) + len(onward)]
        targets += [(seat, properties.completes if completed else 0) for seat, completed in onward]
    flags = STAYS * (move.refused is None) + RETRIES * move.retries + ALONE * move.alone
    flags += HIDES * (move.name == "setup")
    when = 0 if move.when is None else 1 + whens.index(id(move.when))
    return (-1 if move.op is None else move.op, -1 if move.column is None else move.column, flags, when, *spans)


def _search(law: Law, plan: Plan) -> tuple[Found, int, int]:
    """All states and edges; the arrays double as they fill."""
    room = len(plan.moves) * 4
    found = _space(1 << 14, 1 << 17)
    found.codes[0] = 0
    head, count, made = 0, 1, 0
    refill(found, count)
    while head < count:
        head, count, made = grow(law, plan, found, head, count, made, room)
        if count > MOST_LOCAL:
            raise UserMistake(f"one page has more than {MOST_LOCAL:,} states; check fewer vCPUs or fewer strangers")
        if head < count:
            states, edges = _more(len(found.codes), count, room), _more(len(found.source), made, room)
            found = _moved(found, _space(states, edges), count, made)
    return found, count, made


def _more(size: int, used: int, room: int) -> int:
    return 2 * size if size - used < 2 * room + size // 4 else size


def _space(states: int, edges: int) -> Found:
    source, target, action = (np.empty(edges, np.int32) for _ in range(3))
    table, numbers, codes = np.full(2 * states, EMPTY), np.empty(2 * states, np.int32), np.empty(states, np.uint64)
    return Found(table, numbers, codes, source, target, action, np.empty(edges, np.uint32))


def _moved(old: Found, new: Found, count: int, made: int) -> Found:
    new.codes[:count] = old.codes[:count]
    for before, after in zip(old[3:], new[3:], strict=True):
        after[:made] = before[:made]
    refill(new, count)
    return new
