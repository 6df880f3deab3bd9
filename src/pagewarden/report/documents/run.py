"""`pagewarden run --json`, of one run, of all designs, of the counts."""

from typing import Literal

from msgspec import Struct

from pagewarden.report.documents.base import Document
from pagewarden.report.documents.compare import DesignCost


class HostFailure(Struct, kw_only=True, frozen=True):
    """The first error of the host, how many there were, and what helps."""

    errno: int
    name: str
    what: str
    times: int
    remedy: str


class Searched(Struct, kw_only=True, frozen=True):
    """What a search of the host for the guest's secret found, by mapping and in a core dump.

    `core_bytes` is null where no core dump was to be had, and `core_why` says why. A search that was cut short has
    `whole` false, `cut` or `core_cut` says why, and `leaks` is null unless something was found all the same.
    """

    whose: str
    mappings: int
    bytes: int
    unreadable: int
    hits: dict[str, int]
    cut: str | None
    core_bytes: int | None
    core_hits: int | None
    core_why: str | None
    core_cut: str | None
    whole: bool
    leaks: int | None


class DurationBin(Struct, frozen=True):
    """How often something took from `low_us` up to `high_us`."""

    low_us: float
    high_us: float
    count: int


class Durations(Struct, kw_only=True, frozen=True):
    """How long requests (`read`, `write`: from the exit that shares their pages to the end of the one that takes them
    back) or exits of the guest (`exit`, by kind) took; `us_percentiles`: 50, 90, 99 and 100."""

    kind: str
    exit: bool
    count: int
    us_percentiles: tuple[float, float, float, float]
    bins: list[DurationBin]


class RunTimes(Struct, frozen=True):
    """`levels`: pages open, and pages of the pool that are used: ms since the start, and the most from then on. What
    an isolated device does of itself is not seen."""

    durations: list[Durations]
    levels: dict[str, list[tuple[float, int]]]


class OneRun(Document, kw_only=True, frozen=True):
    """`pagewarden run`: a guest, its I/O, what that cost, and what the host saw of it.

    Counts are `exits`, `doorbells`, and events as in compare; `total` and `per_request` are without what the guest's
    start and end cost once (`start_and_end`). `differs` is null without `--verify`. `kept`: with `--limit`, the guest's
    `faults`, and the pages that were sent away (`gone`) and came back (`came`); `snapshot` and `restored`: with those
    options, the file, and all else is of the part that was run. `times`: with --html or --trace, whose recording takes
    its own time. `good` is false when the status is not 0: 1 for wrong bytes or a leak, 2 where the host failed or
    would not be searched whole.
    """

    verb: Literal["run"] = "run"
    design: str
    cpu: str
    level: str
    cpu_why: str
    backing: str
    backing_why: str
    isolated: bool
    disk: str
    kept: dict[str, int] | None
    snapshot: str | None
    restored: str | None
    batch: int
    requests: int
    bytes: int
    doorbells: int
    seconds: float
    requests_per_s: float
    bytes_per_s: float
    failures: int
    first_failure: int | None
    differs: int | None
    restarts: int
    host_error: HostFailure | None
    total: dict[str, int]
    per_request: dict[str, float]
    start_and_end: dict[str, int]
    sight: Searched | None
    good: bool
    times: RunTimes | None = None


class DesignRun(Struct, kw_only=True, frozen=True):
    """A design live and on the model. `live` is null where it could not be run, and `why` says why.

    `refused`: neither the backing nor its model has the design.
    """

    name: str
    refused: bool
    why: str | None
    live: OneRun | None
    model: DesignCost | None


class AllDesigns(Document, kw_only=True, frozen=True):
    """`pagewarden run --all-designs`: every design live, beside what the model says at the prices of `profile`."""

    verb: Literal["run"] = "run"
    mode: Literal["all-designs"] = "all-designs"
    profile: str
    good: bool
    designs: list[DesignRun]


class CountPair(Struct, kw_only=True, frozen=True):
    """A count of all requests together; `source` says by whom it was measured."""

    key: str
    predicted: int
    measured: int
    source: Literal["kernel", "ledger", "law"]


class Refusal(Struct, frozen=True):
    """Who refuses the design."""

    model: bool
    live: bool


class CountedDesign(Struct, kw_only=True, frozen=True):
    """A design on a CPU. `counts` is empty where it is refused; `added` is what the kernel does beside the listing."""

    design: str
    cpu: str
    level: str
    backing: str
    requests: int
    good: bool
    counts: list[CountPair]
    added: dict[str, int]
    refused: Refusal


class CheckedCounts(Document, kw_only=True, frozen=True):
    """`pagewarden run --check-counts`: are the counts those of the model?

    `missing` are CPUs that could not be tried, and why; `no_kernel` says why the kernel did not count, or is null.
    """

    verb: Literal["run"] = "run"
    mode: Literal["check-counts"] = "check-counts"
    good: bool
    missing: dict[str, str]
    no_kernel: str | None
    results: list[CountedDesign]
