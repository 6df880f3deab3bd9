"""`pagewarden compare --json`, and a listing of `--explain`."""

from typing import Literal

from msgspec import Struct

from pagewarden.cost import Cache
from pagewarden.cost.breakeven import CrossingKind
from pagewarden.report.documents.base import Document, Pair

Totals = dict[str, int | dict[str, int]]
Shares = dict[str, float | dict[str, float]]
"""Counts of all requests, and of each: by event, and what there are several of by name."""


class PricedDocument(Document, kw_only=True, frozen=True):
    """What costs depend on: the names of policy and profile, `settings` as `--set` gave them, and `prices`: all
    that the profile has with those settings, from and to, by the setting that changes it."""

    policy: str
    profile: str
    cache: Cache
    settings: dict[str, str]
    prices: dict[str, Pair]


class ListedStep(Struct, frozen=True):
    """A line of a listing: who runs, what happens, how often, what it costs and what all of it has cost so far."""

    who: str
    step: str
    times: int
    ns_range: Pair
    so_far_ns_range: Pair
    counts: dict[str, int]


class Explained(PricedDocument, kw_only=True, frozen=True):
    """`pagewarden compare --explain`: a listing, and what the law refuses of its last line, or before the first.

    `refused` is null where the listing runs to its end; `works` is false otherwise, and the status 1.
    """

    verb: Literal["explain"] = "explain"
    procedure: str
    lines: list[ListedStep]
    refused: str | None
    works: bool


class DesignCost(Struct, kw_only=True, frozen=True):
    """A design: its counts, and what it costs. One that the policy refuses has null prices, and `refusal` says why.

    `ns_per_request` is the middle of the range; the range is what the profile's parameters leave open. `total` is
    everything; `once` what of it first uses of pages cost, and no later request, which `per_request` and the prices of
    a request leave out. `ns_by_price`: what each price has of the range, its low and its high end. `not_applicable`:
    why the workload has no use for the design, which is then neither the cheapest nor a contender.
    """

    name: str
    per_request: Shares
    total: Totals
    failed: int
    refusal: str | None
    not_applicable: str | None
    ns_per_request: float | None
    ns_per_request_range: Pair | None
    mib_per_s: float | None
    mib_per_s_range: tuple[float | None, float | None] | None
    once: Totals
    once_ns_range: Pair | None
    ns_by_price: dict[str, Pair]


class Load(Struct, kw_only=True, frozen=True):
    """What was compared on; `skipped`: lines that are no data request, by the reason."""

    name: str
    requests: int
    bytes: int
    format: str
    skipped: dict[str, int]


class Job(Struct, kw_only=True, frozen=True):
    """One of several jobs of a workload, alone."""

    name: str
    requests: int
    bytes: int
    depth: int
    designs: list[DesignCost]
    cheapest: str | None
    contenders: list[str]
    ties: list[str]


class BreakEvenSize(Struct, kw_only=True, frozen=True):
    """`bytes` is the first size from which `design` is cheaper than `against` (`until`: the last).

    `kinds` and `bytes_range` are of the prices that favour it most, and of those that favour it least; `bytes` is null
    where the two differ, and a size is null for `always` and `never`.
    """

    design: str
    against: str
    bytes: int | None
    kinds: tuple[CrossingKind, CrossingKind]
    bytes_range: tuple[int | None, int | None]


class Compared(PricedDocument, kw_only=True, frozen=True):
    """`pagewarden compare`: what each design costs on a workload.

    `contenders` are the designs that no other one beats at every price; `ties` those of them that cost what `cheapest`
    does at every price, and what is left besides may be cheaper: none, and the winner is certain.
    `notes` say what was read otherwise than the file's own tool would; `jobs` are those of a workload that has several;
    of `independent` ones all together is only a sum.
    """

    verb: Literal["compare"] = "compare"
    backend: Literal["model"] = "model"
    workload: Load
    notes: list[str]
    depth: int
    independent: bool
    jobs: list[Job]
    designs: list[DesignCost]
    break_even: list[BreakEvenSize]
    cheapest: str | None
    contenders: list[str]
    ties: list[str]


class SizeCost(Struct, kw_only=True, frozen=True):
    """One request of so many bytes."""

    bytes: int
    designs: list[DesignCost]
    cheapest: str | None
    contenders: list[str]
    ties: list[str]


class ComparedSizes(PricedDocument, kw_only=True, frozen=True):
    """`pagewarden compare --sizes`: the same of single requests, by their size."""

    verb: Literal["compare"] = "compare"
    notes: list[str]
    sizes: list[SizeCost]


class Measure(Struct, frozen=True):
    """A price to measure: `low` to `high` is what is known of it, `within` what a measurement may be off by; ns, or ns
    a byte."""

    setting: str
    low: float
    high: float
    within: float


class JobDecided(Struct, kw_only=True, frozen=True):
    """The same of one of several jobs, alone."""

    name: str
    cheapest: str | None
    ties: list[str]
    rivals: list[str]
    measure: list[Measure] | None


class Decided(PricedDocument, kw_only=True, frozen=True):
    """`pagewarden compare --decide`: which prices would settle which design is cheapest, if they turn out to be at the
    middles of their ranges. `ties` cost what `cheapest` does at every price; `rivals` are the designs that may win
    beside it, null where none completes the workload. `measure` is null where no measurement settles it, empty where it
    is settled. `jobs` are those of a workload that has several; of `independent` ones all together is only a sum."""

    verb: Literal["compare-decide"] = "compare-decide"
    workload: str
    notes: list[str]
    independent: bool
    jobs: list[JobDecided]
    cheapest: str | None
    ties: list[str]
    rivals: list[str]
    measure: list[Measure] | None
