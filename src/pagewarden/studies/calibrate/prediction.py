"""Prediction against measurement: what the price model says a request takes, and what it takes.

Prices come from the primitives alone; nothing is fitted to the designs. What the price model leaves out, the system
call that does the I/O, is timed by itself and added.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pagewarden.cost import Interval, Profile, price
from pagewarden.designs import DESIGNS, design_named
from pagewarden.law import policy_named
from pagewarden.studies.calibrate.calibration import NAME, profile_of
from pagewarden.studies.calibrate.primitives import PrimitiveScript
from pagewarden.studies.calibrate.sampling import Array, Spread, Timed, sample
from pagewarden.studies.calibrate.scripts import SIZES, found, scripts
from pagewarden.studies.calibrate.timed_host import TimedHost
from pagewarden.studies.compare.comparison import Setup, counts_of
from pagewarden.vocab import PAGE_SIZE, Advance, Event

POLICY = "hybrid"
"""Whose counts the library's own memory keeps: the warden's entries are hyp PTEs, those of mmap host PTEs."""
BY_TURNS = "by turns with whole requests"
MEDIAN_AIM, WORST_AIM = 0.15, 0.35


@dataclass(frozen=True, slots=True)
class Forecast:
    """One design at one size: ns a request, predicted (a range where the profile has one) and measured."""

    design: str
    bytes: int
    predicted: Interval
    measured: Spread
    io: float  # ns of predicted that the price model leaves out: the I/O itself and what else all designs share

    @property
    def error(self) -> float:
        """Of the middle of the prediction, as a share of what was measured; positive: predicted too much."""
        return (self.predicted.low + self.predicted.high) / 2 / self.measured.median - 1

    @property
    def access_error(self) -> float:
        """The same without what all designs share; nan where what is left is less than the quartiles of the measured
        time lie apart: so little of it that the measurement does not show it."""
        access = self.measured.median - self.io
        shown = access > self.measured.high - self.measured.low
        return (sum(self.predicted) / 2 - self.io) / access - 1 if shown else math.nan


@dataclass(frozen=True)
class Prediction:
    """Rows by size and design, on what they were measured, and with which profile."""

    profile: Profile
    where: str
    rows: Sequence[Forecast]

    @property
    def median_error(self) -> float:
        return statistics.median(abs(row.error) for row in self.rows)

    @property
    def worst(self) -> Forecast:
        return max(self.rows, key=lambda row: abs(row.error))

    @property
    def own(self) -> list[Forecast]:
        """Those of which the measurement shows what not all designs share: what a user chooses by."""
        return [row for row in self.rows if not math.isnan(row.access_error)]

    @property
    def median_own_error(self) -> float:
        return statistics.median([abs(row.access_error) for row in self.own] or [math.nan])

    @property
    def worst_own(self) -> Forecast | None:
        return max(self.own, key=lambda row: abs(row.access_error), default=None)

    def of_size(self, size: int) -> list[Forecast]:
        return [row for row in self.rows if row.bytes == size]

    @property
    def sizes(self) -> list[int]:
        return list(dict.fromkeys(row.bytes for row in self.rows))

    def swapped(self, size: int) -> list[tuple[str, str]]:
        """Pairs of designs that come in the other order when measured, and whose quartiles do not overlap: the first
        is predicted to be the cheaper one, and is not."""
        rows = sorted(self.of_size(size), key=lambda row: sum(row.predicted))
        return [
            (a.design, b.design)
            for i, a in enumerate(rows)
            for b in rows[i + 1 :]
            if a.measured.low > b.measured.high and sum(a.predicted) < sum(b.predicted)
        ]

    @property
    def good(self) -> bool:
        """All aims are met."""
        return (
            self.median_error < MEDIAN_AIM
            and abs(self.worst.error) <= WORST_AIM
            and not self.median_own_error >= MEDIAN_AIM
            and not (self.worst_own and abs(self.worst_own.access_error) > WORST_AIM)
            and not any(map(self.swapped, self.sizes))
        )


def host_only(counts: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of a request without what only a guest's CPU does: hops, hypercalls, I/O page-table entries."""
    gone = {"hops", "hops_by_edge", Event.HYPERCALLS.key, Event.IO_PTE_SET.key, Event.IO_PTE_CLEAR.key}
    return {key: value for key, value in counts.items() if key not in gone}


def counted(profile: Profile, design: str, pages: int) -> dict[str, Any]:
    """What the model counts for a write of so many pages."""
    return counts_of(Setup(policy_named(POLICY), profile), design_named(design), pages).as_dict()


# -- compiled requests -------------------------------------------------------------------------------------------------


def requests(host: TimedHost, designs: Sequence[str]) -> dict[str, Timed]:
    """A script for each design and size, REQUEST/design/pages, and the I/O itself, io/pages."""
    made: dict[str, Timed] = {f"io/{pages}": PrimitiveScript([host.write(pages)], whole=True) for pages in SIZES}
    for design in designs:
        for pages in SIZES:
            made[f"request/{design}/{pages}"] = PrimitiveScript(host.request(design, pages), whole=True)
    return made


def predict(
    profile: Profile | None = None,
    seconds: float = 10.0,
    designs: Sequence[str] = tuple(DESIGNS),
    progress: Advance = lambda done, total: None,
) -> Prediction:
    """Compiled requests of each design, 4 KiB to 1 MiB, and what the profile says of them; without one, the primitives
    are timed by turns with the requests, so that both meet the same moments. No CPU: no hops."""
    with TimedHost() as host:
        timed = requests(host, designs) | (dict(scripts(host)) if profile is None else _splices(host))
        taken = sample(timed, seconds, progress=progress)
    chosen = profile_of(NAME, found(taken), "", "compiled", BY_TURNS) if profile is None else profile
    return Prediction(chosen, "compiled host halves with conversions, no CPU", rows(taken, chosen, designs))


def _splices(host: TimedHost) -> dict[str, Timed]:
    return {f"splice/{pages}": PrimitiveScript([*host.splice_in(pages), *host.splice_out(pages)]) for pages in SIZES}


def rows(taken: Mapping[str, Array], profile: Profile, designs: Sequence[str]) -> list[Forecast]:
    """Rows from the samples of `requests`."""
    made = []
    for pages in SIZES:
        for design in designs:
            last = taken[f"splice/{pages}"][3] if design == "splice" else taken[f"io/{pages}"][0]
            io = float(Spread.of(last).median)
            cost = price(host_only(counted(profile, design, pages)), profile)
            made.append(
                Forecast(
                    design,
                    pages * PAGE_SIZE,
                    cost.plus(Interval(io, io)),
                    Spread.of(taken[f"request/{design}/{pages}"][0]),
                    io,
                )
            )
    return made
