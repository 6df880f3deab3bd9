"""Breadth-first search of a system's states, exact, with a parent for each: the first counterexample is a shortest one.

Generic: it knows automata, resources and marks. The inner loop is compiled (`loops`); this side keeps the arrays, the
limits and the clock, and sees signals between two runs of the loop.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pagewarden.check.search.automaton import Automaton, System
from pagewarden.check.search.loops import BLOCK, EMPTY, expand, insert, rehash
from pagewarden.vocab import UserMistake

SLOT, ORDER, PARENT = 8, 4, 4
"""Bytes: a state in the table, its place in the order of discovery, the link to its parent."""
FILL = 0.85
"""Of the table, before it grows."""
RUN = 1 << 18
"""States expanded between two looks at the clock and at signals."""
MOST_STATES = (1 << 32) - 2
"""Numbers of states are 32 bits wide."""


@dataclass(frozen=True)
class Limits:
    """When to stop early. memory: bytes of the explorer's arrays; seconds; states; wanted: stop when all these marks
    have been seen."""

    memory: int = 1 << 62
    seconds: float = float("inf")
    states: int = MOST_STATES
    wanted: int = 0


@dataclass(frozen=True)
class Progress:
    """Where the search is. memory: bytes of its arrays."""

    states: int
    transitions: int
    depth: int
    seconds: float
    memory: int


@dataclass(frozen=True)
class Taken:
    """An action of a path: which component, the action's number in its automaton, its local states before and after."""

    component: int
    action: int
    before: int
    after: int


@dataclass
class Exploration:
    """What was found. marks: the bits seen; why: how it stopped, empty if every reachable state was expanded."""

    system: System
    last: Progress
    marks: int
    why: str
    _search: "_Search" = field(repr=False)

    @property
    def exhausted(self) -> bool:
        return not self.why

    def path(self, mark: int) -> list[Taken]:
        """A shortest sequence of actions whose last one carries the mark (a bit's number). KeyError: never seen."""
        return self._search.path(mark)


def explore(
    system: System, limits: Limits | None = None, progress: Callable[[Progress], None] | None = None
) -> Exploration:
    """Every reachable state, or as many as the limits allow. An interrupt (Ctrl-C) ends the search as a limit does.

    UserMistake: the states of so many components do not fit in 64 bits.
    """
    limits = limits or Limits()
    search = _Search(system, limits)
    why = ""
    try:
        while not why and search.more():
            why = search.run()
            if progress:
                progress(search.progress())
    except KeyboardInterrupt:
        why = "interrupted"
    return Exploration(system, search.progress(), int(search.seen), why, search)


class _Search:
    def __init__(self, system: System, limits: Limits) -> None:
        self.system, self.limits = system, limits
        self.components = len(system.start)
        if system.locals**self.components >= 1 << 64:
            raise UserMistake(
                f"{self.components} components of {system.locals:,} local states do not fit in 64 bits; "
                "check fewer pages, fewer vCPUs or fewer strangers"
            )
        self.powers = np.array([system.locals**i for i in reversed(range(self.components))], np.uint64)
        self.edges = system.edges
        widest = int(np.diff(self.edges.first).max(initial=0)) * self.components * BLOCK
        self.fresh, self.begins = np.empty(widest, np.uint64), np.empty(widest, np.uint64)
        self.source = np.empty(widest, np.uint32)
        expected = min(system.bound(), MOST_STATES, limits.states, self._affordable() // 2)
        self.slots = max(int(min(expected, 1 << 24) / FILL), 2 * widest, 1 << 16)
        self.table = np.full(self.slots, EMPTY)
        self.order = np.zeros(int(self.slots * FILL), np.uint32)
        self.parents = np.zeros(int(self.slots * FILL), np.uint32)
        self.expected = max(expected, len(self.order))
        self.head, self.count, self.depth, self.level, self.transitions = 0, 1, 0, 1, 0
        self.seen, self.found = np.uint32(0), np.full(32, -1, np.int64)
        self.order[0] = insert(self.table, np.uint64(self.key(system.start)))[0]
        self.began = time.perf_counter()

    def _affordable(self) -> int:
        return int(self.limits.memory / (SLOT / FILL + ORDER + PARENT))

    def key(self, state: tuple[int, ...]) -> int:
        ordered = sorted(state) if self.system.symmetric else state
        return sum(digit * int(power) for digit, power in zip(ordered, self.powers, strict=True))

    def more(self) -> bool:
        return self.head < self.count

    def progress(self) -> Progress:
        memory = self.table.nbytes + self.count * (ORDER + PARENT)  # of those two only what is used is resident
        return Progress(self.count, self.transitions, self.depth, time.perf_counter() - self.began, memory)

    def run(self) -> str:
        """Expand some states; why to stop, if there is a reason."""
        stop = min(self.level, self.head + RUN)
        system, edges = self.system, self.edges
        before = self.head
        self.head, self.count, self.seen, taken = expand(
            self.table, self.order, self.parents, self.head, self.count, stop, len(self.order), edges.first,
            edges.target, edges.demand, edges.weight, edges.marks, edges.usage, edges.all_marks,
            np.uint32(system.spare), np.uint64(system.locals), system.symmetric, self.seen, self.found, self.powers,
            self.fresh, self.begins, self.source,
        )  # fmt: skip
        self.transitions += int(taken)
        if self.head == self.level and self.head < self.count:
            self.depth += 1
            self.level = self.count
        if self.limits.wanted and not self.limits.wanted & ~int(self.seen):
            return "every property asked for is decided"
        if self.count > self.limits.states:
            return f"{self.limits.states:,} states"
        if time.perf_counter() - self.began > self.limits.seconds:
            return f"{self.limits.seconds:g} seconds"
        return self.grow() if self.head < stop and self.head - before < RUN else ""

    def grow(self) -> str:
        """Make room for twice as many states; why not, if there is no more memory to be had."""
        slots = min(2 * self.slots, max(int(self.expected / FILL) + 2 * len(self.fresh), self.slots + self.slots // 4))
        new = int(slots * FILL)
        if (self.slots + slots) * SLOT + new * (ORDER + PARENT) > self.limits.memory:
            return f"{self.limits.memory:,} bytes of memory"
        if new > MOST_STATES:
            return f"{MOST_STATES:,} states"
        table = np.full(slots, EMPTY)
        self.order, self.parents = (_longer(each, new, self.count) for each in (self.order, self.parents))
        rehash(self.table, self.order, self.count, table)
        self.table, self.slots = table, slots
        return ""

    def state(self, number: int) -> tuple[int, ...]:
        key = int(self.table[self.order[number]])
        return tuple(key // int(power) % self.system.locals for power in self.powers)

    def path(self, mark: int) -> list[Taken]:
        number = int(self.found[mark])
        if number < 0:
            raise KeyError(mark)
        numbers = [number]
        while numbers[-1]:
            numbers.append(int(self.parents[numbers[-1]]))
        numbers.reverse()
        here = self.system.start
        taken: list[Taken] = []
        for number in numbers[1:]:
            goal = self.key(self.state(number))
            here, step = next((s, t) for s, t, _ in self.actions(here) if self.key(s) == goal)
            taken.append(step)
        return [*taken, next(t for _, t, marks in self.actions(here) if marks >> mark & 1)]

    def actions(self, state: tuple[int, ...]) -> list[tuple[tuple[int, ...], Taken, int]]:
        """Every action that is enabled in a state: the state after it, the action, its marks."""
        found = []
        used = sum(int(self.edges.usage[digit]) for digit in state)
        for component, (offset, automaton) in enumerate(self.parts):
            here = state[component] - offset
            others = used - int(automaton.usage[here])
            for edge in range(*np.searchsorted(automaton.source, (here, here + 1)).tolist()):
                if self.system.allows(others + int(automaton.demand[edge])):
                    there = int(automaton.target[edge])
                    after = (*state[:component], there + offset, *state[component + 1 :])
                    taken = Taken(component, int(automaton.action[edge]), here, there)
                    found.append((after, taken, int(automaton.marks[edge])))
        return found

    @property
    def parts(self) -> list[tuple[int, Automaton]]:
        """Of each component: the first number of its kind's local states, and what it follows."""
        pairs = zip(self.system.offsets, self.system.kinds, strict=False)
        return [(offset, automaton) for offset, (automaton, count) in pairs for _ in range(count)]


def _longer(array: NDArray[np.uint32], size: int, used: int) -> NDArray[np.uint32]:
    longer = np.zeros(size, np.uint32)
    longer[:used] = array[:used]
    return longer
