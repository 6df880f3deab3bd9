"""The law of one policy as dense arrays: every state that a page can reach, under every operation."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pagewarden.law.ops import Op
from pagewarden.law.page import Page
from pagewarden.law.policy import Policy
from pagewarden.law.properties import Predicate
from pagewarden.law.rules import RULES, start
from pagewarden.law.step import Step
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

    def where(self, predicates: Mapping[str, Predicate]) -> dict[str, NDArray[np.bool_]]:
        """bool[S, O] for each name: the steps for which its predicate holds."""
        hits = {name: np.zeros(self.next.shape, bool) for name in predicates}
        for state, page in enumerate(self.pages):
            for op in Op:
                step = RULES[op](self.policy, page)
                for name, predicate in predicates.items():
                    hits[name][state, op] = predicate(self.policy, page, op, step)
        return hits


@cache
def tabulate(policy: Policy) -> Table:
    """Every state reachable from an untouched page, breadth first, with every operation on it."""
    first = start(policy)
    pages, index = [first], {first: 0}
    steps: list[Step] = []
    for page in pages:
        for op in Op:
            step = RULES[op](policy, page)
            steps.append(step)
            if step.page not in index:
                index[step.page] = len(pages)
                pages.append(step.page)
        if len(pages) > MAX_STATES:
            raise InternalError(f"policy {policy.name} has more than {MAX_STATES} states")
    shape = (len(pages), len(Op))
    events = np.zeros((len(steps), len(Event)), np.uint8)
    hits = [(number, event) for number, step in enumerate(steps) for event in step.events]
    np.add.at(events, tuple(np.array(hits).T), 1)
    return Table(
        policy, pages, index,
        next=np.array([index[step.page] for step in steps], np.uint16).reshape(shape),
        outcome=np.array([step.outcome for step in steps], np.uint8).reshape(shape),
        events=events.reshape(*shape, len(Event)),
        reached=np.array([step.reached for step in steps], bool).reshape(shape),
    )  # fmt: skip
