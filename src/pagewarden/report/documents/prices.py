"""`pagewarden calibrate --json` and `pagewarden run --predict --json`."""

from typing import Literal

from msgspec import Struct

from pagewarden.report.documents.base import Document, Pair


class MeasuredPrice(Struct, kw_only=True, frozen=True):
    """`median`, `quartiles`, `deciles` and `bend` are null where nothing was timed. `deciles`: the least of its
    samples, each tenth of them, the most; of a price from a straight line, what single samples would have made it.

    `bend` is how far the medians lie off a straight line, as a share. `parameter`: not known here, so that what depends
    on it is a range; `why` says why this one.
    """

    name: str
    unit: Literal["ns", "ns_per_byte"]
    range: Pair
    parameter: bool
    median: float | None
    quartiles: Pair | None
    deciles: list[float] | None = None
    samples: int
    bend: float | None
    source: str
    why: str


class MadeProfile(Struct, kw_only=True, frozen=True):
    """`cpu` is the one whose exits were timed, empty without one; `replaced`: the file was there before."""

    name: str
    about: str
    busy: bool
    cpu: str
    file: str
    replaced: bool
    prices: list[MeasuredPrice]


class Calibrated(Document, kw_only=True, frozen=True):
    """`pagewarden calibrate`: one profile, or two: the second was measured beside a busy thread."""

    verb: Literal["calibrate"] = "calibrate"
    profiles: list[MadeProfile]


class PredictedRequest(Struct, kw_only=True, frozen=True):
    """A request's time, predicted and measured. `error` is of the prediction's middle, as a share of `measured_ns`.

    `access_error` is the same without `shared_ns`, what all designs have in common, and null where what is left
    is less than the quartiles of the measured time lie apart.
    """

    design: str
    bytes: int
    predicted_ns_range: Pair
    measured_ns: float
    measured_ns_quartiles: Pair
    samples: int
    error: float
    shared_ns: float
    access_error: float | None


class WrongOrder(Struct, frozen=True):
    """Two designs, of which the first was predicted to be the cheaper one, and is not."""

    bytes: int
    designs: tuple[str, str]


class Predicted(Document, kw_only=True, frozen=True):
    """`pagewarden run --predict`: prediction by this host's prices against the clock. `good`: all aims were met.

    The `own` errors are of what a design adds to the I/O that all of them do; null where nothing was added.
    """

    verb: Literal["predict"] = "predict"
    where: str
    profile: str
    prices: dict[str, Pair]
    rows: list[PredictedRequest]
    median_error: float
    worst_error: float
    median_own_error: float | None
    worst_own_error: float | None
    wrong_order: list[WrongOrder]
    good: bool
