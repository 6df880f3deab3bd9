"""`pagewarden pool --json`."""

from typing import Literal

from pagewarden.report.documents.base import Document
from pagewarden.studies.pool import FullPool


class PoolSize(Document, kw_only=True, frozen=True):
    """`pagewarden pool`: does a load fit a bounce pool of `slots` of 2 KiB in `areas`.

    `full` has the first hundred of `refused` mappings. `smallest_slots` is the smallest pool that the kernel grants and
    that fits, `swiotlb` the word for its command line; both null where no pool does. `lost_events`: the trace's.
    `over_time`: a mapping's number, and the most slots in use from then to the next one. `worst_moment`: the
    pool in order, how much of each part is in use when it is fullest, or first too full.
    """

    verb: Literal["pool"] = "pool"
    load: str
    format: str
    mappings: int
    slots: int
    areas: int
    peak_slots: int
    fits: bool
    refused: int
    full: list[FullPool]
    smallest_slots: int | None
    swiotlb: str | None
    lost_events: int
    notes: list[str]
    over_time: list[tuple[int, int]]
    worst_moment: list[float]
