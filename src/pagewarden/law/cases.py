"""The table of one operation as the few cases that people think in: a decision tree over the page's fields."""

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from pagewarden.law.ops import Op
from pagewarden.law.page import Page
from pagewarden.law.step import Outcome, Step
from pagewarden.law.table import Table
from pagewarden.vocab import Event

Effect: TypeAlias = tuple[Outcome, tuple[Event, ...], bool]
"""Outcome, events, reached."""
Row: TypeAlias = tuple[Page, Step]


@dataclass(frozen=True)
class Case:
    """when: field -> the values it may have (fields left out do not matter); states: how many pages that is."""

    when: dict[str, tuple[str, ...]]
    outcome: Outcome
    changes: dict[str, str]
    events: tuple[Event, ...]
    reached: bool
    states: int


def cases(table: Table, op: Op) -> list[Case]:
    """Every reachable state falls into exactly one case."""
    rows = [(page, table.step(state, op)) for state, page in enumerate(table.pages)]
    found: list[Case] = []
    _split(rows, {}, found)
    return found


def _effect(step: Step) -> Effect:
    return step.outcome, step.events, step.reached


def _changes(rows: list[Row]) -> dict[str, str] | None:
    """The fields that become something, if these pages all agree on what; a field may have that value already."""
    found = {}
    for index, name in enumerate(Page._fields):
        if any(page[index] != step.page[index] for page, step in rows):
            values = {step.page[index] for _, step in rows}
            if len(values) > 1:
                return None
            found[name] = word(values.pop())
    return found


def _split(rows: list[Row], when: dict[str, tuple[str, ...]], found: list[Case]) -> None:
    changes = _changes(rows)
    if changes is not None and len({_effect(step) for _, step in rows}) == 1:
        outcome, events, reached = _effect(rows[0][1])
        found.append(Case(when, outcome, changes, events, reached, len(rows)))
        return
    field = min(range(len(Page._fields)), key=lambda index: _disorder(rows, index))
    groups: dict[frozenset[Any], list[Any]] = {}
    for value in sorted({page[field] for page, _ in rows}):
        groups.setdefault(frozenset(_kind(row) for row in rows if row[0][field] == value), []).append(value)
    if len(groups) == 1:
        groups = {frozenset([value]): [value] for value in next(iter(groups.values()))}
    for values in groups.values():
        chosen = [row for row in rows if row[0][field] in values]
        _split(chosen, {**when, Page._fields[field]: tuple(word(value) for value in values)}, found)


def _kind(row: Row) -> tuple[Any, ...]:
    page, step = row
    changes = [(index, new) for index, (old, new) in enumerate(zip(page, step.page, strict=True)) if old != new]
    return (*_effect(step), *changes)


def _disorder(rows: list[Row], field: int) -> tuple[int, int]:
    """How far a field is from deciding: pages that do not follow the majority of their value, kinds left."""
    by_value: dict[Any, Counter[Effect]] = {}
    for page, step in rows:
        by_value.setdefault(page[field], Counter())[_effect(step)] += 1
    if len(by_value) == 1:
        return len(rows) + 1, 0
    return sum(count.total() - max(count.values()) for count in by_value.values()), sum(map(len, by_value.values()))


def word(value: Any) -> str:
    """A field's value for people."""
    if isinstance(value, Enum):
        return value.name
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
