"""The law of one policy as dense arrays: every state that a page can reach, under every operation."""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.law import cache as cached
from pagewarden.law.ops import Op
from pagewarden.law.page import ABOUT, Page
from pagewarden.law.policy import Policy
from pagewarden.law.properties import Predicate
from pagewarden.law.rules import RULES, start
from pagewarden.law.step import Outcome, Step
from pagewarden.vocab import Event, InternalError

MAX_STATES = 20_000
"""A policy with more should be tabulated on demand; none comes near."""


@dataclass(frozen=True)
class Table:
    """states S, operations O, event kinds E. State 0 is a page that nobody has touched.

    pages: the S pages, by state; index: the state of a page. next: uint16[S, O], the state afterwards.
    outcome: uint8[S, O], an Outcome. events: uint8[S, O, E], counts. reached: bool[S, O].
    """

    policy: Policy
    pages: list[Page]
    index: dict[Page, int]
    next: NDArray[np.uint16]
    outcome: NDArray[np.uint8]
    events: NDArray[np.uint8]
    reached: NDArray[np.bool_]

    def step(self, state: int, op: Op) -> Step:
        """The same step from the readable function."""
        return RULES[op](self.policy, self.pages[state])

    def classes(self, ops: Iterable[Op]) -> NDArray[np.intp]:
        """intp[S]: states of one class give the same outcomes and events, in whatever order these operations come."""
        chosen = sorted(ops)
        if not chosen:
            return np.zeros(len(self.pages), np.intp)
        seen = np.column_stack([self.outcome[:, chosen], self.events[:, chosen].reshape(len(self.pages), -1)])
        _, found = np.unique(seen, axis=0, return_inverse=True)
        count = 0
        while count != (count := int(found.max()) + 1):
            rows = np.column_stack([found, found[self.next[:, chosen]]])
            _, found = np.unique(rows, axis=0, return_inverse=True)
        return found

    def where(self, predicates: Mapping[str, Predicate]) -> dict[str, NDArray[np.bool_]]:
        """bool[S, O] for each name: the steps for which its predicate holds. A step's events come in no order here."""
        hits = {name: np.zeros(self.next.shape, bool) for name in predicates}
        events: dict[bytes, tuple[Event, ...]] = {}
        for op in Op:
            asked = {name: predicate for name, predicate in predicates.items() if op in predicate.ops}
            wanted = frozenset().union(*(predicate.outcomes for predicate in asked.values()))
            cells = np.flatnonzero(np.isin(self.outcome[:, op], [*wanted]))
            columns = (self.next, self.outcome, self.reached)
            told = zip(cells.tolist(), *(column[cells, op].tolist() for column in columns), strict=True)
            for state, after, outcome, reached in told:
                counts = self.events[state, op].tobytes()
                if counts not in events:
                    events[counts] = tuple(kind for kind, count in zip(Event, counts, strict=True) if count)
                step = Step(self.pages[after], _OUTCOMES[outcome], events[counts], reached)
                for name, predicate in asked.items():
                    if predicate(self.policy, self.pages[state], op, step):
                        hits[name][state, op] = True
        return hits


@cache
def tabulate(policy: Policy) -> Table:
    """Every state reachable from an untouched page, with every operation on it; kept on disk between runs."""
    arrays = cached.load(policy)
    if arrays is None:
        arrays = _enumerate(policy)
        cached.store(policy, arrays)
    return _table(policy, arrays)


@cache
def enumerated(policy: Policy) -> Table:
    """The same by the rules alone, for a verdict that must not rest on what a disk holds."""
    return _table(policy, _enumerate(policy))


def _table(policy: Policy, arrays: cached.Arrays) -> Table:
    pages = [Page(*(kind(value) for kind, value in zip(_KINDS, row, strict=True))) for row in arrays["pages"].tolist()]
    return Table(
        policy, pages, {page: state for state, page in enumerate(pages)},
        arrays["next"], arrays["outcome"], arrays["events"], arrays["reached"],
    )  # fmt: skip


_OUTCOMES = {int(outcome): outcome for outcome in Outcome}
_KINDS: list[Any] = [kind for kind, _ in ABOUT.values()]


def _enumerate(policy: Policy) -> dict[str, NDArray[Any]]:
    """Breadth first, by the readable function."""
    first = start(policy)
    pages, index = [first], {first: 0}
    kinds: dict[tuple[Event, ...], int] = {}
    # in arrays, with which the collector has no work
    columns = next_, outcome_, kind_, reached_ = array("H"), array("B"), array("H"), array("B")
    rules = [RULES[op] for op in Op]
    for here, page in enumerate(pages):
        for rule in rules:
            after, outcome, events, reached = rule(policy, page)
            state = here if after is page else index.setdefault(after, len(pages))
            if state == len(pages):
                pages.append(after)
            next_.append(state)
            outcome_.append(outcome)
            kind_.append(kinds.setdefault(events, len(kinds)))
            reached_.append(reached)
        if len(pages) > MAX_STATES:
            raise InternalError(f"policy {policy.name} has more than {MAX_STATES} states")
    following, outcomes, kind, touched = (np.array(column).reshape(len(pages), len(Op)) for column in columns)
    counts = np.array([np.bincount(np.array(events, int), minlength=len(Event)) for events in kinds], np.uint8)
    return {
        "pages": np.array(pages, np.uint8), "next": following, "outcome": outcomes,
        "events": counts[kind], "reached": touched.astype(bool),
    }  # fmt: skip
