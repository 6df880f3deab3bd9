"""A workload as the machine runs it, and the requests that cost what an earlier one of their shape did.

Buffers lie one behind another from the guest's first page on, as many as are in flight, and are used again: the pages
that were ever in use are always the first ones. A request on pages that were all in use before, which leaves each page
as it found it, costs the same wherever and whenever it comes: it is run once for each shape (direction and pages) and
counted as often as it occurs. Whether it leaves its pages so is looked at, never assumed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pagewarden.designs import Procedure, RowKind, programs
from pagewarden.law import Op
from pagewarden.sim import Counts, Machine
from pagewarden.sim.pages import Ints
from pagewarden.vocab import PageRange

CHUNK = 1 << 17
"""Requests between two reports of progress."""


@dataclass(frozen=True)
class Shape:
    """Requests of one procedure and so many pages: how many there are, and the bytes of all."""

    which: int
    pages: int
    times: int
    bytes: int


@dataclass(frozen=True)
class RequestPages:
    """n requests in order: procedure, first page, pages and bytes of each."""

    which: NDArray[np.int32]
    firsts: Ints
    counts: Ints
    sizes: Ints

    def only(self, chosen: "slice | Ints") -> "RequestPages":
        """Some of them, in their order."""
        return RequestPages(self.which[chosen], self.firsts[chosen], self.counts[chosen], self.sizes[chosen])

    def __len__(self) -> int:
        return len(self.which)

    @cached_property
    def pages(self) -> int:
        """Pages of the guest that they use."""
        return int((self.firsts + self.counts).max(initial=1))

    @cached_property
    def first_touches(self) -> Ints:
        """Those that use a page, or so many at once, that none before them did."""
        ends = np.maximum.accumulate(self.firsts + self.counts)
        most = np.maximum.accumulate(self.counts)
        return np.flatnonzero((np.diff(ends, prepend=0) > 0) | (np.diff(most, prepend=0) > 0))

    @cached_property
    def shapes(self) -> list[Shape]:
        """All the others, by shape."""
        again = np.ones(len(self), bool)
        again[self.first_touches] = False
        key = self.counts[again] * 2 + self.which[again]
        if not len(key):
            return []
        names, index = _numbered(key)
        sizes = self.sizes[again]
        low, high = (np.bincount(index, part).astype(np.int64) for part in (sizes & 0xFFFFF, sizes >> 20))  # exact sums
        times = np.bincount(index)
        rows = zip(names.tolist(), times.tolist(), (low + (high << 20)).tolist(), strict=True)
        return [Shape(name % 2, name // 2, count, size) for name, count, size in rows if count]


def _numbered(key: Ints) -> tuple[Ints, Ints]:
    """The different keys, and the index of each key's own among them."""
    if (most := int(key.max())) < 1 << 20:
        return np.arange(most + 1), key
    names, index = np.unique(key, return_inverse=True)
    return names, index


def run(
    machine: Machine, procedures: Sequence[Procedure], wanted: RequestPages, report: Callable[[int], None] | None = None
) -> tuple[Counts, Counts]:
    """What the requests cost on a machine that is prepared for them, and what of it they cost only because a page was
    used for the first time. report: told how many are done."""
    firsts = wanted.only(wanted.first_touches)
    first = _in_order(machine, procedures, firsts, report)
    total = first + _repeated(machine, procedures, wanted)
    return total, first - _in_order(machine, procedures, firsts, None)


def run_each(
    machine: Machine, procedures: Sequence[Procedure], wanted: RequestPages, report: Callable[[int], None] | None = None
) -> Counts:
    """The same, every request one after the other: right for any design."""
    return _in_order(machine, procedures, wanted, report)


def _in_order(
    machine: Machine, procedures: Sequence[Procedure], wanted: RequestPages, report: Callable[[int], None] | None
) -> Counts:
    total = Counts()
    for start in range(0, len(wanted), CHUNK):
        part = wanted.only(slice(start, start + CHUNK))
        total += machine.run(procedures, part.which, part.firsts, part.counts, part.sizes)
        if report:
            report(start + len(part))
    return total


class Unsettled(Exception):
    """A request does not leave its pages as it found them."""


def _repeated(machine: Machine, procedures: Sequence[Procedure], wanted: RequestPages) -> Counts:
    """The requests on pages that were in use before; Unsettled when one of a shape changes anything but its counts.

    Pages are told apart by what the procedures' operations make of them, not by what a page holds besides.
    """
    shapes = wanted.shapes
    if not shapes:
        return Counts()
    rows, _, _ = programs(list(procedures))
    classes = machine.table.classes({Op(op) for kind, op, *_ in rows.tolist() if kind == RowKind.DO})

    def around(pages: int) -> tuple[int | None, int | None]:
        end = machine.count + min(pages, machine.pool_pages)
        own, pool = PageRange(0, pages), PageRange(machine.count, end)
        return machine.alike(own, classes), machine.alike(pool, classes) if pool.count else -1

    before, free = around(wanted.pages)[0], machine.free.copy()
    settled = before, around(int(wanted.counts.max()))[1]

    def unchanged(number: int) -> None:
        if None in settled or around(shapes[number].pages) != settled or (machine.free != free).any():
            raise Unsettled

    which, pages, times, sizes = zip(
        *((each.which, each.pages, each.times, each.bytes) for each in shapes), strict=True
    )
    found = machine.run(procedures, which, 0, pages, sizes, times, unchanged)
    if found.failed:
        raise Unsettled
    return found
