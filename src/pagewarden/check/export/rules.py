"""The moves of a page as guarded rules over its named fields: what the exports for other checkers are written from.

A move's table is split into cases by a decision tree over the fields of the page. In a case every page changes in the
same way, so that a rule is a guard and some assignments, and fires exactly when the explorer takes an action.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pagewarden.check.page.flow import TAKES
from pagewarden.check.page.local import Local
from pagewarden.check.page.moves import HOLD, LAW, VCPU, Move
from pagewarden.check.page.system import COMPLETES, PROPERTIES, Checked, properties
from pagewarden.law import Op, Outcome, Page

Values = tuple[Any, ...]


@dataclass(frozen=True)
class Rule:
    """One guarded action of one actor on one page.

    at, to: seats (of the stranger: whether it holds the frame), or None if that does not matter and stays. when: the
    values that a field may have; changes: what fields become. leaves: the page goes to another frame, everybody who
    held the old one is adrift. shows: properties that the action shows or breaks. alone: no vCPU may be at work here.
    """

    actor: str
    name: str
    op: Op | None
    at: int | None
    to: int | None
    when: dict[str, Values]
    changes: dict[str, Any]
    leaves: bool
    shows: tuple[str, ...]
    alone: bool


class Kind(NamedTuple):
    """What a move does in a state of the law. way: done, refused, stays (the actor where it is) or nothing at all.
    missed: a reference was taken, but not on the page's frame."""

    way: str
    changes: tuple[tuple[str, Any], ...] = ()
    leaves: bool = False
    missed: bool = False
    marks: int = 0


Row = tuple[Page, Kind]


def rules(checked: Checked, kind: int = 0) -> list[Rule]:
    """The rules of a kind of page, of a setting without symmetry: an actor's seat is its own."""
    assert not checked.setting.symmetric
    local = checked.locals[kind]
    firsts = [move for move in local.moves.list if move.column is None or move.column <= VCPU]
    return [rule for move in firsts for rule in _of(checked, local, move)]


def _of(checked: Checked, local: Local, move: Move) -> Iterator[Rule]:
    rows = [(checked.table.pages[law], _kind(checked, move, law)) for law in _laws(local, move)]
    at = move.at if move.column is not None else None
    for when, kind in _cases(rows, {}):
        for seat, completes in _targets(move, kind.way):
            to = None if at is None else seat
            if to is not None and (kind.leaves or kind.missed):
                to = int(local.moves.adrift(move.column or HOLD)[to])
            marks = kind.marks | (1 << PROPERTIES.index(COMPLETES) if completes else 0)
            shows = tuple(name for bit, name in enumerate(PROPERTIES) if marks >> bit & 1)
            if kind.changes or to != at or shows:
                changes = dict(kind.changes)
                yield Rule(move.actor, move.name, move.op, at, to, when, changes, kind.leaves, shows, move.alone)


def _targets(move: Move, way: str) -> tuple[tuple[int, bool], ...]:
    if way == "done":
        return move.done or ((0, False),)
    return {"refused": move.refused or (), "stays": ((move.at, False),)}.get(way, ())


def _laws(local: Local, move: Move) -> list[int]:
    """The law's states that occur where the move is made from."""
    rows = local.rows()
    here = rows[:, move.column] == move.at if move.column is not None else np.ones(len(rows), bool)
    return [int(law) for law in np.unique(rows[here, LAW])]


def _kind(checked: Checked, move: Move, law: int) -> Kind:
    if move.when is not None and not move.when[law]:
        return Kind("nothing")
    if move.op is None:
        return Kind("done")
    known = properties(checked.setting.policy)
    before, after = checked.table.pages[law], checked.table.pages[checked.table.next[law, move.op]]
    outcome = Outcome(int(checked.table.outcome[law, move.op]))
    marks = int(known.marks[law, move.op]) & ~(known.hidden if move.name == "setup" else 0)
    waits = outcome is Outcome.HOST_RETRY and move.retries
    if outcome is not Outcome.DONE and (outcome is Outcome.PANIC or waits or move.refused is None):
        return Kind("stays", marks=marks)
    fields = zip(Page._fields, before, after, strict=True)
    changes = tuple((name, new) for name, old, new in fields if old != new)
    leaves = after.pins < before.pins and move.op is not Op.UNPIN
    way = "done" if outcome is Outcome.DONE else "refused"
    return Kind(way, changes, leaves, move.op in TAKES and way == "done" and after.pins <= before.pins, marks)


def _cases(rows: list[Row], when: dict[str, Values]) -> Iterator[tuple[dict[str, Values], Kind]]:
    """A decision tree: the values of fields under which all pages have one kind."""
    kinds = {kind for _, kind in rows}
    if len(kinds) <= 1:
        yield from ((when, kind) for kind in kinds)
        return
    field = min(range(len(Page._fields)), key=lambda index: _disorder(rows, index))
    groups: dict[frozenset[Kind], list[Any]] = {}
    for value in sorted({page[field] for page, _ in rows}):
        groups.setdefault(frozenset(kind for page, kind in rows if page[field] == value), []).append(value)
    together = list(groups.values())
    for values in together if len(together) > 1 else [[value] for value in together[0]]:
        chosen = [row for row in rows if row[0][field] in values]
        yield from _cases(chosen, {**when, Page._fields[field]: tuple(values)})


def _disorder(rows: list[Row], field: int) -> tuple[int, int]:
    """Pages that do not follow the majority of their value of a field; a field with one value decides nothing."""
    by_value: dict[Any, Counter[Kind]] = {}
    for page, kind in rows:
        by_value.setdefault(page[field], Counter())[kind] += 1
    if len(by_value) == 1:
        return len(rows) + 1, 0
    return sum(count.total() - max(count.values()) for count in by_value.values()), len(by_value)
