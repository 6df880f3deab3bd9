"""States of the law that a search need not tell apart: whatever is done to them, the same follows, and shows the same.

Of what a search has seen nothing is asked any more: the more properties are decided, the fewer states are different.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from pagewarden.check.page.moves import Move
from pagewarden.check.search.page_loops import DIES, FINE, WAITS, WHEN, Law, Plan


def alike(law: Law, plan: Plan, moves: Iterable[Move], marks: int) -> NDArray[np.intp]:
    """intp[S]: of each state the first that is like it (a bisimulation): a search over these finds the same shortest
    paths to the marks, by the same moves, as one over all."""
    shown, after = zip(*_seen(law, plan, moves, np.uint32(marks)), strict=True)
    there, found, count = np.column_stack(after), np.column_stack(shown), 0
    while True:
        _, first, found = np.unique(found, axis=0, return_index=True, return_inverse=True)
        found = found.reshape(-1)
        if len(first) == count:
            return first[found]
        count, found = len(first), np.column_stack([found, found[there]])


def _seen(law: Law, plan: Plan, moves: Iterable[Move], marks: np.uint32) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """Of each kind of move, by state: what its actor and everybody else may notice, and the state after it."""
    states = np.arange(len(law.next))
    late = 4 * (plan.late != np.arange(len(plan.late))).any()
    kinds = {_kind(move, int(row[WHEN])) for move, row in zip(moves, plan.moves, strict=True) if move.op is not None}
    for op, when, fine, refused, retries in sorted(kinds):
        came, possible = law.came[:, op], law.when[when]
        stays = (came == DIES) | ((came == WAITS) & retries) | ((came != FINE) & (refused < 0)) | ~possible
        way = np.where(stays, 0, np.where(came == FINE, fine, refused))
        moved = law.misses[:, op] + 2 * law.leaves[:, op] + late * law.lates[:, op]
        noticed = way + 4 * np.where(stays, 0, moved) + 32 * np.where(possible, law.marks[:, op] & marks, 0).astype(int)
        yield noticed, np.where(stays, states, law.next[:, op])


def _kind(move: Move, when: int) -> tuple[int, int, int, int, bool]:
    """Moves of one kind notice the same of the page: where they lead if it is done (0: the actor stays where it is) and
    if it is refused (below 0: nothing happens then)."""
    here, done = ((move.at, False),), move.done or ((0, False),)
    fine = 0 if move.column is None or done == here else 1
    refused = -1 if move.refused is None else {here: 0, done: fine}.get(move.refused, 2)
    assert move.op is not None
    return int(move.op), when, fine, refused, move.retries


def fold(law: Law, first: NDArray[np.intp]) -> Law:
    """The tables of the states that come first of those alike. What those alike show is shown by them all."""
    marks = law.marks.copy()
    np.bitwise_or.at(marks, first, law.marks)
    return law._replace(next=first[law.next].astype(np.int32), marks=marks)
