"""`pagewarden compare --json` of DMA mappings."""

from typing import Literal

from msgspec import Struct

from pagewarden.report.documents.base import Document


class MappingCost(Struct, kw_only=True, frozen=True):
    """Counts of a device's mappings, `device` "" for all: `copies` and `copied_bytes` if all of them bounced,
    `misses` and `invalidations` if each was opened in an IOMMU from its map until its unmap, one page a miss."""

    device: str
    maps: int
    bounced: int
    bytes: int
    copies: int
    copied_bytes: int
    misses: int
    invalidations: int
    peak_pages: int
    peak_bytes: int
    open_byte_seconds: float | None


class ComparedMappings(Document, kw_only=True, frozen=True):
    """`pagewarden compare` of a trace of DMA mappings, or with `--driver linux-virtio-blk` of a workload's."""

    verb: Literal["compare"] = "compare"
    load: str
    format: str
    lost_events: int
    notes: list[str]
    devices: list[MappingCost]
