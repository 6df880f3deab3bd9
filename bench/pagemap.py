"""Conversions of ranges on a 1 TiB guest: the machine's page states against interval containers.

The machine does the whole conversion by the law (2 operations to share, 5 to unshare, each checked on every page); the
containers only note which pages are shared. The final maps must be equal.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import partial

import intervaltree
import numpy as np
import portion
from numpy.typing import NDArray

from pagewarden.designs import Do, Procedure, Steps
from pagewarden.designs.convert import donate, take_back, take_up
from pagewarden.law import POLICIES, Op, Owner
from pagewarden.sim import Machine
from pagewarden.sim import pages as states
from pagewarden.vocab import PageRange
from tools import median, once, row

HYBRID = POLICIES["hybrid"]
PAGES = 1 << 28
MIXES = {"1-16 pages": (0, 4), "1 page - 1 GiB": (0, 18), "2 MiB - 1 GiB": (9, 18), "1 GiB": (18, 18)}
Trace = list[tuple[bool, int, int]]


class Boundaries:
    """The sorted list of page numbers at which shared begins or ends."""

    def __init__(self) -> None:
        self.edges: list[int] = []

    def set(self, shared: bool, first: int, stop: int) -> None:
        left, right = bisect_left(self.edges, first), bisect_right(self.edges, stop)
        inside = [edge for edge, n in ((first, left), (stop, right)) if (n % 2 == 0) == shared]
        self.edges[left:right] = inside

    def uniform(self, first: int, stop: int) -> bool | None:
        left, right = bisect_right(self.edges, first), bisect_left(self.edges, stop)
        return left % 2 == 1 if left == right else None


def trace(low: int, high: int, length: int, seed: int = 3) -> Trace:
    """Conversions that are all legal: share what is private, unshare (a part of) what is shared."""
    random = np.random.default_rng(seed)
    known, calls = Boundaries(), Trace()
    while len(calls) < length:
        pages = int(np.exp2(random.uniform(low, high)))
        if calls and random.random() < 0.5:
            index = int(random.integers(len(known.edges) // 2 or 1)) * 2
            if not known.edges:
                continue
            first, stop = known.edges[index : index + 2]
            stop = min(stop, first + pages)
        else:
            first = int(random.integers(PAGES - pages))
            stop = first + pages
        state = known.uniform(first, stop)
        if state is not None:
            calls.append((not state, first, stop))
            known.set(not state, first, stop)
    return calls


def machine() -> Machine:
    made = Machine(HYBRID, PAGES, pool_pages=0)
    made.prepare(Procedure("boot", (), setup=donate(HYBRID)), PageRange(0, PAGES))
    return made


SHARE = Procedure("share", take_up(HYBRID))
_BACK: Steps = (Do(Op.UNSHARE_BEGIN), *take_back(HYBRID))
UNSHARE = Procedure("unshare", _BACK)


PRIVATE = machine().memory.state(0)


def by_machine(made: Machine, calls: NDArray[np.int64]) -> None:
    found = made.run([UNSHARE, SHARE], calls[:, 0], calls[:, 1], calls[:, 2] - calls[:, 1], np.zeros(len(calls)))
    assert found.failed == 0, found.refusal


def shared_in(made: Machine) -> list[int]:
    """The same boundaries, read off the machine."""
    shared = [page.owner is Owner.SHARED for page in made.table.pages]
    edges, position, inside = [], 0, False
    while position < PAGES:
        state, end = states.run_of(made.memory, position, PAGES)
        if shared[state] != inside:
            edges.append(position)
            inside = not inside
        position = int(end)
    return edges + [PAGES] * inside


def by_boundaries(calls: Trace) -> list[int]:
    known = Boundaries()
    for shared, first, stop in calls:
        known.set(shared, first, stop)
    return known.edges


def by_intervaltree(calls: Trace) -> list[int]:
    tree = intervaltree.IntervalTree()
    for shared, first, stop in calls:
        if shared:
            tree.addi(first, stop)
        else:
            tree.chop(first, stop)
    tree.merge_overlaps(strict=False)
    return [edge for interval in sorted(tree) for edge in (interval.begin, interval.end)]


def by_portion(calls: Trace) -> list[int]:
    known = portion.empty()
    for shared, first, stop in calls:
        part = portion.closedopen(first, stop)
        known = known | part if shared else known - part
    return [edge for interval in known for edge in (interval.lower, interval.upper)]


def again(made: Machine, calls: NDArray[np.int64]) -> None:
    """The trace from the start: every page private."""
    made.memory.reset(PRIVATE)
    by_machine(made, calls)


def main(length: int = 4000) -> None:
    row("us a conversion", "pagewarden", "boundaries", "intervaltree", "portion")
    for name, (low, high) in MIXES.items():
        calls = trace(low, high, length)
        array = np.array(calls, np.int64)
        made = machine()
        by_machine(made, array)
        edges = by_boundaries(calls)
        assert shared_in(made) == edges

        ours = median(partial(again, made, array))
        peers: list[tuple[Callable[[Trace], list[int]], int]] = [
            (by_boundaries, length), (by_intervaltree, length), (by_portion, 400)]  # fmt: skip
        times = []
        for peer, limit in peers:
            seconds, theirs = once(partial(peer, calls[:limit]))
            assert theirs == (edges if limit == length else by_boundaries(calls[:limit])), peer.__name__
            times.append(seconds / limit)
        row(name, ours / length * 1e6, *(f"{t * 1e6:,.3g} ({t / (ours / length):,.1f} x)" for t in times))


if __name__ == "__main__":
    main()
