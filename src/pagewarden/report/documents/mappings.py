"""`pagewarden compare --json` of DMA mappings."""

from typing import Literal

from pagewarden.report.documents.base import Document
from pagewarden.studies.compare.mappings import MappingCounts


class ComparedMappings(Document, kw_only=True, frozen=True):
    """`pagewarden compare` of a trace of DMA mappings, or with `--driver linux-virtio-blk` of a workload's."""

    verb: Literal["compare"] = "compare"
    load: str
    format: str
    lost_events: int
    notes: list[str]
    devices: list[MappingCounts]
