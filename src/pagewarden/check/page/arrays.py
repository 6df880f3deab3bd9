"""What the compiled search of a page looks up: the law's steps and everybody's moves as arrays of numbers."""

from dataclasses import dataclass
from functools import cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from pagewarden.check.page.flow import TAKES
from pagewarden.check.page.moves import ALL, Move, Moves
from pagewarden.check.search.automaton import FIELD, MOST
from pagewarden.check.search.page_loops import ALONE, DIES, FINE, HIDES, RETRIES, STAYS, WAITS, Law, Plan
from pagewarden.law import Home, Op, Outcome, Owner, Policy, Table, enumerated
from pagewarden.law.page import PRIVATE


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


def law_arrays(table: Table, properties: Properties, whens: list[NDArray[np.bool_]]) -> Law:
    """The law's steps; whens: bool[S], the conditions of moves."""
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


def plan_arrays(
    moves: Moves, shape: tuple[int, ...], whens: list[int], properties: Properties, symmetric: bool
) -> Plan:
    """The moves; whens: the identities of those conditions."""
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
