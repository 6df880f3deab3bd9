"""Breadth-first search of a system's states, exact, with a parent for each: the first counterexample is a shortest one.

Generic: it knows automata, resources and marks. The inner loop is compiled (`loops`); this side keeps the arrays, the
limits and the clock, and sees signals between two runs of the loop.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pagewarden.check.search.automaton import Automaton, System
from pagewarden.check.search.loops import (
    BLOCK,
    COUNT,
    DESK,
    EMPTY,
    FULL,
    HEAD,
    SEEN,
    TAKEN,
    Block,
    Space,
    Visited,
    expand,
    insert,
    rehash,
)  # fmt: skip
from pagewarden.kernel.free_memory import available
from pagewarden.vocab import UserMistake

SLOT, ORDER, PARENT = 8, 4, 4
"""Bytes: a state in the table, its place in the order of discovery, the link to its parent."""
FILL = 0.85
"""Of the table, before it grows."""
RUN = 1 << 18
"""States expanded between two looks at the clock and at signals."""
THREADS = 2
"""That expand states together, at most; what more of them would bring was not measured."""
MANY, SHARE = 1 << 14, 1 << 11
"""States of a run that are worth more than one thread, and the most whose successors one thread writes at a time."""
WAITING = 1 << 13
"""Successors for which a thread that shares has room until it is its turn."""
MOST_SLOTS = 1 << 32
"""Numbers of slots are 32 bits wide, in the order of discovery and in the hash."""
MOST_STATES = int(MOST_SLOTS * FILL)


@dataclass(frozen=True)
class Limits:
    """When to stop early. memory: bytes of the explorer's arrays; sharers: so many searches share what is free, and
    each looks how much that is before it takes more (0: nobody looks); seconds; states; wanted: stop when all these
    marks have been seen; first: or one of these."""

    memory: int = 1 << 62
    sharers: int = 0
    seconds: float = float("inf")
    states: int = MOST_STATES
    wanted: int = 0
    first: int = 0

    def room(self, used: int) -> int:
        """Bytes that a search may take now whose arrays have `used`."""
        left = self.memory - used
        return min(left, available() * 4 // 5 // self.sharers) if self.sharers else left

    @property
    def full(self) -> str:
        """Why a search stops that has no room."""
        return "the memory that is free" if self.sharers else f"{self.memory:,} bytes of memory"


@dataclass(frozen=True)
class SoFar:
    """Where the search is. levels: states by the depth where they were first seen, the last perhaps not whole; depth:
    of those that were, or are, gone on from; memory: bytes of its arrays."""

    states: int
    transitions: int
    depth: int
    levels: tuple[int, ...]
    seconds: float
    memory: int


class Levels:
    """States by depth: those of the last one that is whole are numbered up to `end`."""

    def __init__(self) -> None:
        self.whole, self.end = [1], 1

    def reached(self, head: int, count: int) -> None:
        """So many states were gone on from, so many seen."""
        if head == self.end < count:
            self.whole.append(count - self.end)
            self.end = count

    def so_far(self, count: int, transitions: int, began: float, memory: int) -> SoFar:
        """With so many states seen."""
        levels = (*self.whole, *([count - self.end] if count > self.end else []))
        return SoFar(count, transitions, len(self.whole) - 1, levels, time.perf_counter() - began, memory)


@dataclass(frozen=True)
class Taken:
    """An action of a path: which component, the action's number in its automaton, its local states before and after."""

    component: int
    action: int
    before: int
    after: int


INTERRUPTED = "interrupted"


class Search(Protocol):
    """A search that is run in parts."""

    @property
    def seen(self) -> int:
        """The bits of the marks so far."""

    def more(self) -> bool:
        """Whether states are left to expand."""

    @np.errstate(over="ignore")  # hashes wrap around, which numpy remarks on where nothing is compiled
    def run(self) -> str:
        """Expand some; why to stop, if there is a reason."""

    def progress(self) -> SoFar: ...

    def path(self, mark: int) -> list[Taken]:
        """A shortest sequence of actions whose last one carries the mark (a bit's number). KeyError: never seen."""


@dataclass
class Exploration:
    """What was found. marks: the bits seen; why: how it stopped, empty if every reachable state was expanded."""

    last: SoFar
    marks: int
    why: str
    _search: Search = field(repr=False)

    @property
    def exhausted(self) -> bool:
        return not self.why

    def path(self, mark: int) -> list[Taken]:
        """A shortest sequence of actions whose last one carries the mark (a bit's number). KeyError: never seen."""
        return self._search.path(mark)


def explore(
    system: System,
    limits: Limits | None = None,
    progress: Callable[[SoFar], None] | None = None,
    began: float | None = None,
    threads: int = 0,
) -> Exploration:
    """Every reachable state, or as many as the limits allow; began: of the clock (perf_counter), if not now; threads:
    that search together, by default as many as there are processors for, up to THREADS: nothing else depends on it.

    UserMistake: the states of so many components do not fit in 64 bits.
    """
    return exhaust(_Search(system, limits or Limits(), began, threads or _processors()), progress)


def _processors() -> int:
    compiled = hasattr(expand, "overloads")  # else (NUMBA_DISABLE_JIT) threads would only wait for each other
    return min(THREADS, len(os.sched_getaffinity(0))) if compiled else 1


def exhaust(search: Search, progress: Callable[[SoFar], None] | None = None, why: str = "") -> Exploration:
    """Run a search to its end, or to a limit; why: not at all, for that reason. An interrupt (Ctrl-C) ends it as a
    limit does."""
    try:
        while not why and search.more():
            why = search.run()
            if progress:
                progress(search.progress())
    except KeyboardInterrupt:
        why = INTERRUPTED
    except MemoryError:
        why = "the memory that the machine gives"
    return Exploration(search.progress(), search.seen, why, search)


def stop_reason(limits: Limits, wanted: int, seen: int, states: int, seconds: float) -> str:
    """Why a search ends here, or nothing. wanted: marks after which no more is to be seen."""
    if wanted and not wanted & ~seen:
        return "every property asked for is decided"
    if limits.first & seen:
        return "one property fails"
    if states > limits.states:
        return f"{limits.states:,} states"
    return f"{limits.seconds:g} seconds" if seconds > limits.seconds else ""


class _Search:
    def __init__(self, system: System, limits: Limits, began: float | None, threads: int) -> None:
        self.system, self.limits = system, limits
        self.components = len(system.start)
        if system.locals**self.components >= 1 << 64:
            raise UserMistake(
                f"{self.components} components of {system.locals:,} local states do not fit in 64 bits; "
                "check fewer pages, fewer vCPUs or fewer strangers"
            )
        powers = np.array([system.locals**i for i in reversed(range(self.components))], np.uint64)
        self.space = Space(powers, np.uint64(system.locals), np.uint32(system.spare), system.symmetric)
        self.edges = system.edges
        most = int(np.diff(self.edges.first).max(initial=0)) * self.components * BLOCK
        expected = min(system.bound(), MOST_STATES, limits.states, self._affordable() // 2)
        threads = threads if expected > MANY else 1
        self.widest = most + WAITING * (threads > 1)
        self.blocks = [_block(self.widest, most) for _ in range(threads)]
        self.pace = {threads: 0.0, 1: 0.0}  # seconds a state; where processors are busy, threads wait for each other
        slots = max(int(min(expected, 1 << 24) / FILL), 2 * self.widest, 1 << 16)
        order, parents = (np.zeros(int(slots * FILL), np.uint32) for _ in range(2))
        self.visited = Visited(np.full(slots, EMPTY), order, parents, np.full(32, -1, np.int64))
        self.expected = max(expected, len(order))
        self.head, self.count, self.transitions, self.seen = 0, 1, 0, 0
        self.levels = Levels()
        with np.errstate(over="ignore"):  # as in run
            order[0] = insert(self.visited.table, np.uint64(self.key(system.start)))[0]
        self.began = time.perf_counter() if began is None else began

    def _affordable(self) -> int:
        return int(self.limits.room(0) / (SLOT / FILL + ORDER + PARENT))

    def key(self, state: tuple[int, ...]) -> int:
        ordered = sorted(state) if self.system.symmetric else state
        return sum(digit * int(power) for digit, power in zip(ordered, self.space.powers, strict=True))

    def more(self) -> bool:
        return self.head < self.count

    def progress(self) -> SoFar:
        memory = self.visited.table.nbytes + self.count * (ORDER + PARENT)  # of those two only what is used is resident
        return self.levels.so_far(self.count, self.transitions, self.began, memory)

    def run(self) -> str:
        """Expand some states; why to stop, if there is a reason."""
        stop = min(self.levels.end, self.head + RUN)
        desk = np.zeros(DESK, np.int64)
        desk[[HEAD, COUNT, SEEN]] = self.head, self.count, self.seen
        threads = min(self.pace, key=self.pace.__getitem__) if stop - self.head >= MANY else 1
        shared = self.edges, self.space, self.visited
        share = stop - self.head if threads == 1 else min(SHARE, (stop - self.head) // (16 * threads))
        calls = [(*shared, block, desk, self.head, stop, share) for block in self.blocks[:threads]]
        helpers, began = [Thread(target=expand, args=call) for call in calls[1:]], time.perf_counter()
        for helper in helpers:
            helper.start()
        expand(*calls[0])
        for helper in helpers:
            helper.join()
        if stop - self.head >= MANY:
            self.pace[threads] = (time.perf_counter() - began) / (stop - self.head)
        self.head, self.count, self.seen = (int(desk[each]) for each in (HEAD, COUNT, SEEN))
        self.transitions += int(desk[TAKEN])
        self.levels.reached(self.head, self.count)
        why = stop_reason(self.limits, self.limits.wanted, self.seen, self.count, time.perf_counter() - self.began)
        return why or (self.grow() if desk[FULL] else "")

    def grow(self) -> str:
        """Make room for twice as many states; why not, if there is no more memory to be had."""
        old, order, parents, found = self.visited
        slots = larger(len(old), self.expected, self.widest)
        new = int(slots * FILL)
        if not slots:
            return f"{MOST_STATES:,} states"
        if slots * SLOT + new * (ORDER + PARENT) > self.limits.room(len(old) * SLOT):
            return self.limits.full
        order, parents = (grown(each, new, self.count) for each in (order, parents))
        table = np.full(slots, EMPTY)
        rehash(old, order, self.count, table)
        self.visited = Visited(table, order, parents, found)  # whole, wherever Ctrl-C comes
        return ""

    def state(self, number: int) -> tuple[int, ...]:
        key = int(self.visited.table[self.visited.order[number]])
        return tuple(key // int(power) % self.system.locals for power in self.space.powers)

    def path(self, mark: int) -> list[Taken]:
        number = int(self.visited.found[mark])
        if number < 0:
            raise KeyError(mark)
        numbers = [number]
        while numbers[-1]:
            numbers.append(int(self.visited.parents[numbers[-1]]))
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


def _block(widest: int, most: int) -> Block:
    fresh, begins = (np.empty(widest, np.uint64) for _ in range(2))
    return Block(fresh, begins, np.empty(widest, np.uint32), most)


def larger(slots: int, expected: int, widest: int) -> int:
    """Slots of the next table, for so many states expected in all and so many successors at once; 0: none is larger."""
    more = min(2 * slots, max(int(expected / FILL) + 2 * widest, slots + slots // 4), MOST_SLOTS)
    return more if int(more * FILL) >= int(slots * FILL) + widest else 0


def grown(array: NDArray[Any], size: int, used: int) -> NDArray[Any]:
    """An array of that size, whose first `used` elements are those of the old one."""
    made = np.zeros(size, array.dtype)
    made[:used] = array[:used]
    return made
