"""The explorer on small random systems, against a search in plain Python."""

from collections import Counter, deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewarden.check.search import explorer
from pagewarden.check.search.automaton import FIELD, Automaton, System
from pagewarden.check.search.explorer import Limits, _Search, exhaust, explore
from pagewarden.vocab import UserMistake

UNITS = 2


def automaton(usage: list[int], edges: list[tuple[int, int, int, int]]) -> Automaton:
    """edges: source, target, what the action needs beside the source's usage, marks."""
    edges = sorted(edges)
    source, target, extra, marks = (np.array([edge[i] for edge in edges], np.int64) for i in range(4))
    used = np.array(usage, np.uint32)
    demand = np.maximum(used[source] + extra, used[target]).astype(np.uint32)
    kinds = (source.astype(np.int32), target.astype(np.int32), demand, marks.astype(np.uint32))
    return Automaton(0, used, *kinds, np.arange(len(edges), dtype=np.int32))


@st.composite
def systems(draw: st.DrawFn) -> System:
    size = draw(st.integers(1, 6))
    usage = [0, *draw(st.lists(st.integers(0, 1), min_size=size - 1, max_size=size - 1))]
    state = st.integers(0, size - 1)
    edge = st.tuples(state, state, st.integers(0, 1), st.integers(0, 7))
    edges = draw(st.lists(edge, min_size=1, max_size=15, unique_by=lambda e: e[:3]))
    edges = [edge for edge in edges if edge[0] != edge[1] or edge[3]]
    return System([(automaton(usage, edges), draw(st.integers(1, 3)))], (UNITS,), draw(st.booleans()))


def slow(system: System) -> tuple[dict[tuple[int, ...], int], dict[int, int], int]:
    """States with their depths, the shortest path to each mark, and the number of transitions."""
    follows, count = system.kinds[0]
    start = (0,) * count
    depths = {start: 0}
    marks: dict[int, int] = {}
    transitions = 0
    queue = deque([start])
    while queue:
        state = queue.popleft()
        used = sum(int(follows.usage[local]) for local in state)
        for i, local in enumerate(state):
            if system.symmetric and local in state[:i]:
                continue
            for e in np.flatnonzero(follows.source == local).tolist():
                if used - int(follows.usage[local]) + int(follows.demand[e]) > UNITS:
                    continue
                transitions += 1
                for mark in range(3):
                    if int(follows.marks[e]) >> mark & 1:
                        marks.setdefault(mark, depths[state] + 1)
                after = (*state[:i], int(follows.target[e]), *state[i + 1 :])
                after = tuple(sorted(after)) if system.symmetric else after
                if after not in depths:
                    depths[after] = depths[state] + 1
                    queue.append(after)
    return depths, marks, transitions


@settings(max_examples=200)
@given(systems())
def test_as_a_plain_search(system: System) -> None:
    depths, marks, transitions = slow(system)
    found = explore(system)
    assert found.exhausted
    assert found.last.states == len(depths) <= system.bound()
    assert found.last.depth == max(depths.values())
    assert Counter(depths.values()) == dict(enumerate(found.last.levels))
    assert found.last.transitions == transitions
    assert {mark for mark in range(32) if found.marks >> mark & 1} == set(marks)
    for mark, length in marks.items():
        path = found.path(mark)
        assert len(path) == length
        here = [0] * len(system.start)
        for taken in path:
            assert here[taken.component] == taken.before
            here[taken.component] = taken.after


@given(systems())
def test_symmetry_is_sound(system: System) -> None:
    both = [explore(System(system.kinds, system.capacity, symmetric)) for symmetric in (True, False)]
    assert both[0].marks == both[1].marks
    assert both[0].last.states <= both[1].last.states
    for mark in range(3):
        if both[0].marks >> mark & 1:
            assert len(both[0].path(mark)) == len(both[1].path(mark))


@given(systems())
def test_one_component_decides(system: System) -> None:
    """Components meet in resources alone, of which there is most while the others have not begun."""
    alone = explore(System([(system.kinds[0][0], 1)], system.capacity))
    together = explore(system)
    assert alone.marks == together.marks
    for mark in range(3):
        if alone.marks >> mark & 1:
            assert len(alone.path(mark)) == len(together.path(mark))


def ring(size: int, components: int) -> System:
    """Counters that go round: size ** components states."""
    edges = [(i, (i + 1) % size, 0, 0) for i in range(size)]
    return System([(automaton([0] * size, edges), components)], (UNITS,), symmetric=False)


def test_growing_keeps_every_state() -> None:
    found = explore(ring(100, 3))
    assert found.exhausted and found.last.states == 1_000_000 and found.last.transitions == 3_000_000
    assert found.last.depth == 3 * 99


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_find_what_one_finds(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """State by state: the numbers, the parents, the marks."""
    monkeypatch.setattr(explorer, "MANY", 64)
    monkeypatch.setattr("pagewarden.check.search.explorer.time.perf_counter", lambda: 0.0)  # nobody is slower
    edges = [(i, (i + step) % 40, 0, int(i == 30 and step == 7)) for i in range(40) for step in (1, 7)]
    system = System([(automaton([0] * 40, edges), 3)], (UNITS,), symmetric=False)
    alone, together = (_Search(system, Limits(), None, number) for number in (1, threads))
    for search in (alone, together):
        assert exhaust(search).exhausted
    assert len(together.blocks) == threads and alone.count == 40**3
    for name in ("count", "head", "transitions", "seen"):
        assert getattr(alone, name) == getattr(together, name)
    assert alone.progress().levels == together.progress().levels
    assert (alone.visited.found == together.visited.found).all()
    keys = [search.visited.table[search.visited.order[: search.count]] for search in (alone, together)]
    assert (keys[0] == keys[1]).all()
    assert (alone.visited.parents[: alone.count] == together.visited.parents[: alone.count]).all()


@pytest.mark.parametrize(
    "limits", [Limits(states=1000), Limits(memory=1 << 21), Limits(seconds=0.0)], ids=["states", "memory", "seconds"]
)
def test_limits_are_told(limits: Limits) -> None:
    found = explore(ring(200, 3), limits)
    assert not found.exhausted and found.why
    assert found.last.states < 8_000_000


def test_memory_limit_is_kept() -> None:
    found = explore(ring(100, 3), Limits(memory=8 << 20))
    assert found.last.memory <= 8 << 20 and found.why


def test_interrupt_says_what_is_known() -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    found = explore(ring(100, 3), progress=stop)
    assert found.why == "interrupted" and found.last.states > 1


def test_too_many_components() -> None:
    with pytest.raises(UserMistake, match="64 bits"):
        explore(ring(70_000, 4))


def test_resource_fields() -> None:
    with pytest.raises(ValueError, match="resources"):
        System([], (1 << (FIELD - 1),))
    with pytest.raises(UserMistake, match="without --no-symmetry"):
        System([], (1,) * 9)
