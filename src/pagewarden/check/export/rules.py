"""The moves of a page as guarded rules over its named fields: what the exports for other checkers are written from.

A move's table is split into cases by a decision tree over the fields of the page. In a case every page changes in the
same way, so that a rule is a guard and some assignments, and fires exactly when the explorer takes an action.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from pagewarden.check.page.arrays import changes_look_up
from pagewarden.check.page.flow import TAKES
from pagewarden.check.page.local import Local
from pagewarden.check.page.moves import ALL, HOLD, LAW, VCPU, Move
from pagewarden.check.page.system import COMPLETES, PROPERTIES, CheckedSystem, properties
from pagewarden.check.search.automaton import FIELD
from pagewarden.law import Op, Outcome, Page
from pagewarden.law.cases import When, decide


@dataclass(frozen=True)
class GuardedRule:
    """One guarded action of one actor on one page.

    at, to: seats (of the stranger: whether it holds the frame), or None if that does not matter and stays. when: the
    values that a field may have; changes: what fields become. leaves: the page goes to another frame, everybody who
    held the old one is adrift. lates: what KVM has looked up before is late. shows: properties that the action shows or
    breaks. alone: no vCPU may be at work here. locks: units that it takes, or gives back.
    """

    actor: str
    name: str
    op: Op | None
    at: int | None
    to: int | None
    when: When
    changes: dict[str, Any]
    leaves: bool
    lates: bool
    shows: tuple[str, ...]
    alone: bool
    locks: dict[str, int]


class MoveEffect(NamedTuple):
    """What a move does in a state of the law. way: done, refused, stays (the actor where it is) or nothing at all.
    missed: a reference was taken, but not on the page's frame; lates: what KVM has looked up before is late."""

    way: str
    changes: tuple[tuple[str, Any], ...] = ()
    leaves: bool = False
    missed: bool = False
    marks: int = 0
    lates: bool = False


Row = tuple[Page, MoveEffect]


def _alike(rows: list[Row]) -> bool:
    return len({kind for _, kind in rows}) == 1


def rules(checked: CheckedSystem, kind: int = 0) -> list[GuardedRule]:
    """The rules of a kind of page, of a setting without symmetry: an actor's seat is its own."""
    assert not checked.setting.symmetric
    local = checked.locals[kind]
    firsts = [move for move in local.moves.list if move.column is None or move.column <= VCPU]
    return [rule for move in firsts for rule in _of(checked, local, move)]


def _of(checked: CheckedSystem, local: Local, move: Move) -> Iterator[GuardedRule]:
    rows = [(checked.table.pages[law], _kind(checked, move, law)) for law in _laws(local, move)]
    at = move.at if move.column is not None else None
    for when, chosen in decide(rows, _alike, itemgetter(1), itemgetter(1)) if rows else ():
        kind = chosen[0][1]
        for seat, completes in _targets(move, kind.way):
            to = None if at is None else seat
            if to is not None and (kind.leaves or kind.missed):
                to = int(local.moves.adrift(move.column or HOLD)[to])
            marks = kind.marks | (1 << PROPERTIES.index(COMPLETES) if completes else 0)
            shows = tuple(name for bit, name in enumerate(PROPERTIES) if marks >> bit & 1)
            if kind.changes or to != at or shows:
                changes = dict(kind.changes)
                units = lock_changes(local, move, to)
                if all(change <= ALL for change in units.values()):  # else it waits for itself
                    yield GuardedRule(
                        move.actor, move.name, move.op, at, to, when, changes, kind.leaves, kind.lates, shows,
                        move.alone, units,
                    )  # fmt: skip


def lock_changes(local: Local, move: Move, to: int | None) -> dict[str, int]:
    """How many units of each lock a move of an actor to a seat takes, or gives back."""
    if move.column is None or to is None:
        return {}
    before, after = (int(local.moves.units(move.column)[seat]) for seat in (move.at, to))
    fields = {name: FIELD * number for number, name in enumerate(local.moves.locks)}
    held = {name: [units >> shift & (1 << FIELD) - 1 for units in (before, after)] for name, shift in fields.items()}
    changes = {name: ALL + 1 if after > ALL else after - before for name, (before, after) in held.items()}
    return {name: change for name, change in changes.items() if change}


def _targets(move: Move, way: str) -> tuple[tuple[int, bool], ...]:
    if way == "done":
        return move.done or ((0, False),)
    return {"refused": move.refused or (), "stays": ((move.at, False),)}.get(way, ())


def _laws(local: Local, move: Move) -> list[int]:
    """The law's states that occur where the move is made from."""
    rows = local.rows()
    here = rows[:, move.column] == move.at if move.column is not None else np.ones(len(rows), bool)
    return [int(law) for law in np.unique(rows[here, LAW])]


def _kind(checked: CheckedSystem, move: Move, law: int) -> MoveEffect:
    if move.when is not None and not move.when[law]:
        return MoveEffect("nothing")
    policy = checked.setting.policy
    known = properties(policy)
    if move.op is None:
        return MoveEffect("done", marks=known.stale if move.stale else 0)
    before, after = checked.table.pages[law], checked.table.pages[checked.table.next[law, move.op]]
    outcome = Outcome(int(checked.table.outcome[law, move.op]))
    marks = int(known.marks[law, move.op]) & ~(known.hidden if move.name == "setup" else 0)
    waits = outcome is Outcome.HOST_RETRY and move.retries
    if outcome is not Outcome.DONE and (outcome is Outcome.PANIC or waits or move.refused is None):
        return MoveEffect("stays", marks=marks)
    fields = zip(Page._fields, before, after, strict=True)
    changes = tuple((name, new) for name, old, new in fields if old != new)
    leaves = after.pins < before.pins and move.op is not Op.UNPIN
    way = "done" if outcome is Outcome.DONE else "refused"
    missed = move.op in TAKES and way == "done" and after.pins <= before.pins
    lates = bool(policy.has("mmu-lock") and changes_look_up(policy)[law, move.op])
    return MoveEffect(way, changes, leaves, missed, marks, lates)
