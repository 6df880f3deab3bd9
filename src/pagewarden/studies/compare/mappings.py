"""What DMA mappings cost at the border, by the two ways to make one reach the device: a bounce, or an opened page."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pagewarden.vocab import PAGE_SIZE
from pagewarden.vocab.compiled import njit
from pagewarden.workload.dma_mappings import BIDIRECTIONAL, FROM_DEVICE, DmaMappings


@dataclass(frozen=True, slots=True)
class MappingCounts:
    """Counts of a device's mappings, `device` "" for all: `copies` and `copied_bytes` if all of them bounced (a buffer
    that the device fills is copied when it is mapped, too: kernel/dma/swiotlb.c, swiotlb_tbl_map_single), `misses` and
    `invalidations` if each was opened in an IOMMU from its map until its unmap: a miss a page, one flush an end."""

    device: str
    maps: int
    bounced: int  # when it was recorded
    bytes: int
    copies: int  # if all of them bounced
    copied_bytes: int
    misses: int  # if all of them were opened in an IOMMU: pages that the device asks for
    invalidations: int
    opened_pages: int  # of those that were closed, a page that several mappings share opened once for all of them
    peak_pages: int  # open at once
    peak_bytes: int  # mapped at once, which is what is pinned
    open_byte_seconds: float | None  # of pages; None where nobody says when


def mapping_counts(load: DmaMappings, timed: bool = True) -> list[MappingCounts]:
    """Of all devices together, then of each where there are several. timed: its times are seconds, not an order."""
    found = [_counts("", load, timed)]
    if len(load.devices) > 1:
        found += [_counts(name, load.of_device(name), timed) for name in load.devices]
    return found


def _counts(device: str, load: DmaMappings, timed: bool) -> MappingCounts:
    made = load.made
    size, direction = load.size[made], load.direction[made]
    twice = (direction == FROM_DEVICE) | (direction == BIDIRECTIONAL)
    offset = (load.origin % np.uint64(PAGE_SIZE)).astype(np.int64)
    pages = (offset + load.size + PAGE_SIZE - 1) // PAGE_SIZE
    ended = np.flatnonzero(~load.opens & (load.maker >= 0))
    moves = made.astype(np.int64)
    moves[ended] = -1
    within = np.cumsum(moves * load.size)
    seconds = (load.time_ns[ended] - load.time_ns[load.maker[ended]]) / 1e9
    peak, opened = _open_pages(moves, load.origin, pages)
    return MappingCounts(
        device=device, maps=int(made.sum()), bounced=int((load.bounced & made).sum()), bytes=int(size.sum()),
        copies=int(len(size) + twice.sum()), copied_bytes=int(size.sum() + size[twice].sum()),
        misses=int(pages[made].sum()), invalidations=int((~load.opens).sum()),
        opened_pages=int(opened), peak_pages=int(peak), peak_bytes=int(within.max(initial=0)),
        open_byte_seconds=float((pages[ended] * PAGE_SIZE * seconds).sum()) if timed else None,
    )  # fmt: skip


@njit(nogil=True)
def _open_pages(moves: Any, origin: Any, pages: Any) -> tuple[int, int]:
    """Pages open at once at most, and how many were opened; buffers whose place is unknown have pages of their own."""
    holds: Any = {np.uint64(0): 0}
    alone, peak, opened = 0, 0, 0
    for i in range(len(moves)):
        if origin[i] == 0:
            alone += moves[i] * pages[i]
            opened += max(moves[i], 0) * pages[i]
        elif moves[i]:
            first = origin[i] // np.uint64(PAGE_SIZE)
            for page in range(first, first + np.uint64(pages[i])):
                count = moves[i] + (holds[page] if page in holds else 0)  # noqa: SIM401 (compiled: get may be None)
                opened += moves[i] == count == 1
                if count:
                    holds[page] = count
                else:
                    holds.pop(page)
        peak = max(peak, alone + len(holds) - 1)
    return peak, opened
