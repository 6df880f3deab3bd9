"""The table of one operation as the few cases that people think in: a decision tree over the page's fields."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, TypeAlias, TypeVar

from pagewarden.law.ops import Op
from pagewarden.law.page import Page
from pagewarden.law.step import Outcome, Step
from pagewarden.law.table import Table
from pagewarden.vocab import Event

Effect: TypeAlias = tuple[Outcome, tuple[Event, ...], bool]
"""Outcome, events, reached."""
When: TypeAlias = dict[str, tuple[Any, ...]]
"""Field -> the values it may have; fields left out do not matter."""
Meaning = TypeVar("Meaning")


@dataclass(frozen=True)
class Case:
    """when: field -> the values it may have (fields left out do not matter); states: how many pages that is."""

    when: dict[str, tuple[str, ...]]
    outcome: Outcome
    changes: dict[str, str]
    events: tuple[Event, ...]
    reached: bool
    states: int


class Ruled(NamedTuple):
    """What a rule says of a page: its step, the effect, and which fields change; numbers of what is alike."""

    step: Step
    effect: Effect
    changed: tuple[int, ...]
    kind: int
    """Of the same number: the same effect, and the same fields become the same."""
    end: int
    """The same effect, and the fields that the operation changes anywhere are the same afterwards."""


PageRuled: TypeAlias = tuple[Page, Ruled]
_TELLS: tuple[Callable[[PageRuled], Hashable], ...] = (lambda row: row[1].effect, lambda row: row[1].end)
"""What the fields that are asked first should tell: tried in turn, and the shortest answer taken."""


def _ruled(table: Table, op: Op) -> list[PageRuled]:
    steps = [table.step(state, op) for state in range(len(table.pages))]
    changes = [
        tuple(index for index, (old, new) in enumerate(zip(page, step.page, strict=True)) if old != new)
        for page, step in zip(table.pages, steps, strict=True)
    ]
    anywhere = sorted(set().union(*changes))
    numbers: dict[Hashable, int] = {}
    rows = []
    for page, step, changed in zip(table.pages, steps, changes, strict=True):
        effect = step.outcome, step.events, step.reached
        kind = effect, changed, tuple(step.page[index] for index in changed)
        end = effect, tuple(step.page[index] for index in anywhere)
        kind_number, end_number = (numbers.setdefault(each, len(numbers)) for each in (kind, end))
        rows.append((page, Ruled(step, effect, changed, kind_number, end_number)))
    return rows


def cases(table: Table, op: Op) -> list[Case]:
    """Every reachable state falls into exactly one case."""
    rows, found = _ruled(table, op), []
    for when, chosen in min((list(decide(rows, _alike, lambda row: row[1].kind, tells)) for tells in _TELLS), key=len):
        outcome, events, reached = chosen[0][1].effect
        named = {field: tuple(word(value) for value in values) for field, values in when.items()}
        found.append(Case(named, outcome, _changes(chosen) or {}, events, reached, len(chosen)))
    return found


def decide(
    rows: list[tuple[Page, Meaning]],
    alike: Callable[[list[tuple[Page, Meaning]]], bool],
    kind: Callable[[tuple[Page, Meaning]], Hashable],
    effect: Callable[[tuple[Page, Meaning]], Hashable],
    when: When | None = None,
) -> Iterator[tuple[When, list[tuple[Page, Meaning]]]]:
    """A decision tree over the page's fields: pages with what is said of them, apart until those of a leaf are alike.

    kind: values of a field whose pages are of the same kinds stay together; effect: the field that tells it best is
    asked first.
    """
    when = when or {}
    if alike(rows):
        yield when, rows
        return
    field = min(range(len(Page._fields)), key=lambda index: _disorder(rows, index, effect))
    groups: dict[frozenset[Hashable], list[Any]] = {}
    for value in sorted({page[field] for page, _ in rows}):
        groups.setdefault(frozenset(kind(row) for row in rows if row[0][field] == value), []).append(value)
    together = list(groups.values())
    for values in together if len(together) > 1 else [[value] for value in together[0]]:
        chosen = [row for row in rows if row[0][field] in values]
        yield from decide(chosen, alike, kind, effect, {**when, Page._fields[field]: tuple(values)})


def _disorder(
    rows: list[tuple[Page, Meaning]], field: int, effect: Callable[[tuple[Page, Meaning]], Hashable]
) -> tuple[int, int]:
    """How far a field is from deciding: pages that do not follow the majority of their value, kinds left."""
    by_value: dict[Any, Counter[Hashable]] = {}
    for row in rows:
        by_value.setdefault(row[0][field], Counter())[effect(row)] += 1
    if len(by_value) == 1:
        return len(rows) + 1, 0
    return sum(count.total() - max(count.values()) for count in by_value.values()), sum(map(len, by_value.values()))


def _alike(rows: list[PageRuled]) -> bool:
    return len({told.effect for _, told in rows}) == 1 and _changes(rows) is not None


def _changes(rows: list[PageRuled]) -> dict[str, str] | None:
    """The fields that become something, if these pages all agree on what; a field may have that value already."""
    found = {}
    for index in {index for _, told in rows for index in told.changed}:
        values = {told.step.page[index] for _, told in rows}
        if len(values) > 1:
            return None
        found[Page._fields[index]] = word(values.pop())
    return {name: found[name] for name in Page._fields if name in found}


def word(value: Any) -> str:
    """A field's value for people."""
    if isinstance(value, Enum):
        return value.name
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
