"""What each I/O design costs on a workload: counts from the machine, prices from a profile, break-even sizes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from pagewarden.cost import (
    BreakEven,
    Cache,
    Interval,
    Profile,
    Term,
    bill,
    closed_form,
    contenders,
    difference,
    difference_bill,
    price,
    total_of,
    without_effect,
)  # fmt: skip
from pagewarden.designs import DESIGNS, Design, Options, Procedure
from pagewarden.designs.convert import unshare
from pagewarden.law import Policy
from pagewarden.sim import RING_ENTRIES, Counts, Machine
from pagewarden.studies.compare.shapes import RequestPages, Unsettled, run, run_each
from pagewarden.vocab import PAGE_SIZE, PageRange, Progress, Refused, UserMistake
from pagewarden.workload import Workload

BASELINES = ("bounce", "dma-buffer")
"""The designs that copy on both sides, which the others are to beat."""
CACHED = "dma-buffer"
"""The one whose guest copy is that between its page cache and its user space."""
UNCACHED = "the job is direct I/O, without a page cache"
EXHAUSTED = "the request has to wait for what it does not get (pool exhausted)"

PROPOSED = frozenset({"hybrid", "patch-v5", "guest-memfd-inplace"})
"""Policies that no released kernel has: the mail's wish, and two series of the lists."""


@dataclass(frozen=True)
class Setup:
    """Everything but the workload. in_flight: requests whose buffers are in use at once; settings: what the user
    changed, in their words; notes: what has to be said of policy and profile together."""

    policy: Policy
    profile: Profile
    options: Options = field(default_factory=Options)
    page_size: int = PAGE_SIZE
    pool_pages: int | None = None
    ring_entries: int = RING_ENTRIES
    in_flight: int = 32
    cache: Cache = "warm"
    settings: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def machine(self, pages: int) -> Machine:
        return Machine(
            self.policy, pages, page_size=self.page_size, pool_pages=self.pool_pages, ring_entries=self.ring_entries
        )

    def lazy(self, design: Design) -> int:
        """Requests whose pages this design takes back together; 0: each at once."""
        return self.options.lazy if design.converts(self.policy) else 0

    def procedures(self, design: Design) -> list[Procedure]:
        """A write, a read, and the deferred unshare of lazy designs."""
        flush = Procedure("unshare", unshare(replace(self.options, lazy=0), self.policy))
        return [design(self.options, self.policy, True), design(self.options, self.policy, False), flush]


@dataclass(frozen=True)
class DesignResult:
    """A design's row. total: counts of everything; once: what of it first touches of pages cost, and no later request;
    ns, mib_per_s: a later request's, None where the design is refused; once_ns: all of that together; bill: the parts
    of ns, by price; not_applicable: why the workload has no use for it."""

    name: str
    requests: int
    total: Mapping[str, object]
    ns: Interval | None
    mib_per_s: Interval | None
    failed: int
    refusal: Refused | None
    once: Mapping[str, object] = field(default_factory=dict)
    once_ns: Interval | None = None
    bill: Mapping[str, Interval] = field(default_factory=dict)
    not_applicable: str | None = None

    @property
    def why(self) -> str | None:
        """Why requests fail, where any does."""
        return str(self.refusal or EXHAUSTED) if self.failed else None

    @cached_property
    def steady(self) -> dict[str, object]:
        """Counts without what was paid once."""
        return _without(self.total, self.once)

    @property
    def per_request(self) -> dict[str, object]:
        def share(value: object) -> object:
            if isinstance(value, Mapping):
                return {key: share(inner) for key, inner in value.items()}
            return value / self.requests if isinstance(value, int) else value

        return {key: share(value) for key, value in self.steady.items()}


def _without(counts: Mapping[str, object], less: Mapping[str, object]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in counts.items():
        other = less.get(key, 0)
        if isinstance(value, Mapping):
            found[key] = _without(value, other if isinstance(other, Mapping) else {})
        else:
            found[key] = value - other if isinstance(value, int) and isinstance(other, int) else value
    return found


@dataclass(frozen=True)
class Crossover:
    """From which size on (bytes) a design is cheaper than another."""

    design: str
    against: str
    sizes: BreakEven


@dataclass(frozen=True)
class Comparison:
    """What each design costs on the workload, and from which sizes on one beats another."""

    setup: Setup
    workload: Workload
    results: list[DesignResult]
    crossovers: list[Crossover]
    jobs: "tuple[Comparison, ...]" = ()
    """Each job of the workload alone, where it has several."""

    @cached_property
    def _priced(self) -> dict[str, DesignResult]:
        return {result.name: result for result in self.results if result.ns and not result.not_applicable}

    @property
    def notes(self) -> list[str]:
        """What to know besides: how the workload was read, what the setup lacks, which prices change nothing."""
        return [*self.workload.notes, *remarks([self])]

    @cached_property
    def contenders(self) -> tuple[str, ...]:
        """The designs that no other one beats at all prices of the profile."""
        totals = {name: result.steady for name, result in self._priced.items()}
        return contenders(totals, self.setup.profile, self.setup.cache)

    @cached_property
    def rivals(self) -> tuple[str, ...]:
        """Those of them that are cheaper than the cheapest at some prices."""
        return tuple(name for name in self.contenders if name != self.cheapest and self.doubts(name))

    @cached_property
    def ties(self) -> tuple[str, ...]:
        """The others: they cost what the cheapest does, whatever the prices are."""
        return tuple(name for name in self.contenders if name != self.cheapest and name not in self.rivals)

    @cached_property
    def cheapest(self) -> str | None:
        """The cheapest design at the middle of every price; sure if it is the only contender."""
        return min(self._priced, key=lambda name: sum(self._priced[name].ns or (0,)), default=None)

    @cached_property
    def next(self) -> "tuple[str, Interval] | None":
        """The design that comes nearest, other than those that cost the same, and by how many ns a request it is dearer
        than the cheapest (from, to; below 0 where it may be cheaper)."""
        others = [(self.dearer(name), name) for name in self._priced if name != self.cheapest]
        others = [(by, name) for by, name in others if by != (0, 0)]
        if not others:
            return None
        by, name = min(others, key=lambda pair: sum(pair[0]))
        return name, by

    def dearer(self, name: str) -> Interval:
        """ns a request by which a design costs more than the cheapest."""
        mine, best = self._priced[name].steady, self._priced[str(self.cheapest)].steady
        by = difference(mine, best, self.setup.profile, self.setup.cache)
        return by.times(1 / self.workload.requests)

    def doubts(self, against: str, most: int = 3) -> list[Term]:
        """The prices that decide between the cheapest and another design: the widest terms of their difference."""
        totals = {result.name: result.steady for result in self.results}
        terms = difference_bill(totals[str(self.cheapest)], totals[against], self.setup.profile, self.setup.cache)
        wide = sorted(terms, key=lambda term: term.cost.low - term.cost.high)
        return [term for term in wide if not term.cost.exact][:most]


def remarks(found: "Sequence[Comparison]") -> list[str]:
    """Notes of their setup, and one of each price that the user set and that no design shown is paid by."""
    setup = found[0].setup
    shown = [result.total for each in found for result in each._priced.values()]
    names = without_effect(shown, setup.profile, setup.cache)
    unpaid = (f"{name} is set and changes nothing: no design here counts any ({setup.cache} caches)" for name in names)
    return [*setup.notes, *unpaid]


def compare(
    setup: Setup, workload: Workload, designs: Iterable[Design] = DESIGNS.values(), progress: Progress | None = None
) -> Comparison:
    """Run the workload through each design. UserMistake where two of them have one name."""
    designs = list(designs)
    names = [design.name for design in designs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserMistake(f"two designs are called {twice[0]!r}: give each a name of its own")
    found = _compared(setup, workload, designs, progress)
    parts = workload.parts()
    if len(parts) < 2:
        return found
    return replace(found, jobs=tuple(_compared(setup, part, designs, progress) for part in parts))


def _compared(setup: Setup, workload: Workload, designs: list[Design], progress: Progress | None) -> Comparison:
    wanted = {lazy: requests(setup, workload, lazy) for lazy in {setup.lazy(design) for design in designs}}
    results = [_result(setup, workload, design, progress, wanted[setup.lazy(design)]) for design in designs]
    priced = [d for d, result in zip(designs, results, strict=True) if result.ns and not result.not_applicable]
    return Comparison(setup, workload, results, _crossovers(setup, priced))


def _result(
    setup: Setup, workload: Workload, design: Design, progress: Progress | None, wanted: RequestPages
) -> DesignResult:
    name = design.name
    try:
        counts, first = simulate(setup, workload, design, progress, wanted)
    except Refused as refusal:
        return DesignResult(name, workload.requests, {}, None, None, workload.requests, refusal)
    total = counts.as_dict()
    if counts.failed or not workload.requests:
        return DesignResult(name, workload.requests, total, None, None, counts.failed, counts.refusal)
    once = first.as_dict()
    terms = bill(_without(total, once), setup.profile, setup.cache)
    each = {term.price.name: term.cost.times(1 / workload.requests) for term in terms}
    cost = total_of(terms)
    ns = cost.times(1 / workload.requests)
    mib = workload.bytes / (1 << 20)
    rates = [mib * 1e9 / ns if ns else math.inf for ns in (cost.high, cost.low)]
    once_ns = price(once, setup.profile, setup.cache)
    beside = UNCACHED if workload.direct and name == CACHED else None
    return DesignResult(name, workload.requests, total, ns, Interval(*rates), 0, None, once, once_ns, each, beside)


def simulate(
    setup: Setup,
    workload: Workload,
    design: Design,
    progress: Progress | None = None,
    wanted: RequestPages | None = None,
) -> tuple[Counts, Counts]:
    """Counts of the whole workload under one design, and what of them first touches of pages were. Refused where the
    policy does not even get to its start.

    wanted: `requests` of the same, where they are known.
    """
    procedures = setup.procedures(design)
    lazy = setup.lazy(design)
    wanted = wanted or requests(setup, workload, lazy)

    def report(done: int) -> None:
        if progress:
            progress(design.name, done, len(wanted))

    def machine() -> Machine:
        made = setup.machine(wanted.pages)
        made.prepare(procedures[0], PageRange(0, made.count))
        return made

    if not lazy:
        with suppress(Unsettled):
            found = run(machine(), procedures, wanted, report)
            report(len(wanted))
            return found
    return run_each(machine(), procedures, wanted, report), Counts()


def requests(setup: Setup, workload: Workload, lazy: int = 0) -> RequestPages:
    """The workload as the machine runs it.

    Buffers lie one behind another, as many as are in flight, and are used again. With lazy, an unshare of all pages
    of so many requests follows them (procedure 2).
    """
    sizes = workload.length.astype(np.int64)
    counts = -(-sizes // setup.page_size)
    which = np.where(workload.write, 0, 1).astype(np.int32)
    group = np.arange(len(sizes)) // (lazy or setup.in_flight)
    ends = np.cumsum(counts)
    begins = np.flatnonzero(np.diff(group, prepend=-1))
    firsts = ends - counts - (ends - counts)[begins][group]
    if lazy and len(sizes):
        behind = np.append(begins[1:], len(sizes))
        which, sizes = np.insert(which, behind, 2), np.insert(sizes, behind, 0)
        counts = np.insert(counts, behind, (firsts + counts)[behind - 1])
        firsts = np.insert(firsts, behind, 0)
    return RequestPages(which, firsts, counts, sizes)


def _crossovers(setup: Setup, designs: list[Design]) -> list[Crossover]:
    """Every other design against the copying ones."""
    baselines = [design for name in BASELINES for design in designs if design.name == name]
    return [
        Crossover(design.name, against.name, break_even(setup, design, against))
        for design in designs
        for against in baselines
        if design not in baselines
    ]


def break_even(setup: Setup, design: Design, against: Design) -> BreakEven:
    """In pages: costs are linear in them, so one page's counts and two pages' give the fixed part and the slope."""
    (fixed, unit), (their_fixed, their_unit) = _linear(setup, design), _linear(setup, against)
    return closed_form(
        difference(fixed, their_fixed, setup.profile, setup.cache),
        difference(unit, their_unit, setup.profile, setup.cache),
    )


def _linear(setup: Setup, design: Design) -> tuple[dict[str, object], dict[str, object]]:
    one, two = (counts_of(setup, design, pages) for pages in (1, 2))
    unit = two - one
    return (one - unit).as_dict(), unit.as_dict()


def counts_of(setup: Setup, design: Design, pages: int, write: bool = True) -> Counts:
    """One request of whole pages, nothing exhausted and nothing deferred."""
    plain = replace(setup, options=replace(setup.options, lazy=0), pool_pages=pages, ring_entries=pages)
    return plain.machine(pages).perform(plain.procedures(design)[0 if write else 1], PageRange(0, pages))
