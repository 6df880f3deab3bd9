"""What the explorer explores: components that each follow a small automaton and meet only in bounded resources.

A global state is one local state a component. An action changes one component; it needs what the action demands of the
resources beside what the other components use. Nothing here knows what the components are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pagewarden.check.search.merge import merge
from pagewarden.vocab import UserMistake

FIELD = 4
"""Bits of a resource in a packed word: up to 7 units, the top bit shows that there were not enough."""
MOST = (1 << (FIELD - 1)) - 1
RESOURCES = 32 // FIELD
OVER = sum(1 << FIELD * number + FIELD - 1 for number in range(RESOURCES))


@dataclass(frozen=True)
class Automaton:
    """Local states L, edges E in the order of their sources; state 0 .. L-1. Packed words hold FIELD bits a resource.

    usage: uint32[L], what a local state uses. source, target: int32[E]. demand: uint32[E], what the component must be
    able to use for the action. marks: uint32[E], one bit a property. action: int32[E], whose meaning is the caller's.
    """

    start: int
    usage: NDArray[np.uint32]
    source: NDArray[np.int32]
    target: NDArray[np.int32]
    demand: NDArray[np.uint32]
    marks: NDArray[np.uint32]
    action: NDArray[np.int32]


class Edges(NamedTuple):
    """The automata of a system as one, with actions of the same effect together: rows of a local state by `first`.

    weight: uint32, how many actions an edge stands for.
    """

    first: NDArray[np.int64]
    target: NDArray[np.int32]
    demand: NDArray[np.uint32]
    marks: NDArray[np.uint32]
    weight: NDArray[np.uint32]
    all_marks: NDArray[np.uint32]
    usage: NDArray[np.uint32]


@dataclass(frozen=True)
class System:
    """kinds: automata with how many components follow each; capacity: units of each resource; symmetric: components of
    a kind are interchangeable, and a state stands for all its permutations."""

    kinds: Sequence[tuple[Automaton, int]]
    capacity: tuple[int, ...]
    symmetric: bool = True

    def __post_init__(self) -> None:
        if any(not 0 <= units <= MOST for units in self.capacity):
            raise ValueError(f"resources of at most {MOST} units: {self.capacity}")
        if len(self.capacity) > RESOURCES:
            raise UserMistake(
                f"{len(self.capacity)} things are shared (each vCPU, the stranger, locks), and {RESOURCES} are the "
                "most; check fewer vCPUs, or without --no-symmetry, where all vCPUs are one of them"
            )

    @cached_property
    def offsets(self) -> list[int]:
        """The first number of each kind's local states."""
        return [0, *np.cumsum([len(automaton.usage) for automaton, _ in self.kinds]).tolist()]

    @property
    def locals(self) -> int:
        return self.offsets[-1]

    @property
    def start(self) -> tuple[int, ...]:
        """The local state of each component."""
        pairs = zip(self.offsets, self.kinds, strict=False)
        return tuple(offset + automaton.start for offset, (automaton, count) in pairs for _ in range(count))

    @property
    def spare(self) -> int:
        """What to add to packed usage so that a field's top bit shows too much."""
        return sum((MOST - units) << FIELD * number for number, units in enumerate(self.capacity))

    @cached_property
    def edges(self) -> Edges:
        parts = list(zip(self.offsets, (automaton for automaton, _ in self.kinds), strict=False))
        counts = np.concatenate([np.bincount(part.source, minlength=len(part.usage)) for _, part in parts])
        first = np.concatenate([[0], np.cumsum(counts)])
        target = np.concatenate([part.target + np.int32(offset) for offset, part in parts])
        demand, marks = (np.concatenate([getattr(part, name) for _, part in parts]) for name in ("demand", "marks"))
        weight = np.empty(len(target), np.uint32)
        left = merge(first, target, demand, marks, weight)
        all_marks = np.zeros(self.locals, np.uint32)
        some = np.flatnonzero(np.diff(first))  # a state without edges has no slice to reduce
        all_marks[some] = np.bitwise_or.reduceat(marks[:left], first[some]) if len(some) else 0
        usage = np.concatenate([part.usage for _, part in parts])
        return Edges(first, target[:left], demand[:left], marks[:left], weight[:left], all_marks, usage)

    def bound(self) -> int:
        """At most so many states: the combinations of local states that the resources allow. Exact where every local
        state can be reached while the others are as they are."""
        ways = {0: 1}
        for automaton, count in self.kinds:
            uses, numbers = np.unique(automaton.usage, return_counts=True)
            picked = {(0, 0): 1}
            for use, number in zip(uses.tolist(), numbers.tolist(), strict=True):
                picked = self._pick(picked, use, number, count)
            full = {use: total for (size, use), total in picked.items() if size == count}
            ways = self._meet(ways, full)
        return sum(ways.values())

    def _pick(
        self, picked: dict[tuple[int, int], int], use: int, number: int, count: int
    ) -> dict[tuple[int, int], int]:
        """Add 0 .. count components whose local state is one of a number with this use; keys: components, their use."""
        more: dict[tuple[int, int], int] = {}
        for (size, used), total in picked.items():
            for extra in range(count - size + 1):
                if self.allows(used + extra * use):
                    ways = number**extra * comb(size + extra, extra)
                    if self.symmetric:
                        ways = comb(number + extra - 1, extra)
                    key = (size + extra, used + extra * use)
                    more[key] = more.get(key, 0) + total * ways
                elif extra:
                    break
        return more

    def _meet(self, left: dict[int, int], right: dict[int, int]) -> dict[int, int]:
        both: dict[int, int] = {}
        for a, ways in left.items():
            for b, others in right.items():
                if self.allows(a + b):
                    both[a + b] = both.get(a + b, 0) + ways * others
        return both

    def allows(self, used: int) -> bool:
        """There is enough of every resource for this packed use."""
        return not (used + self.spare) & OVER
