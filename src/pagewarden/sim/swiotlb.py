"""The kernel's bounce pool: slots of 2 KiB, in areas, in segments of 128, found from where the last search ended.

As kernel/dma/swiotlb.c does it since Linux 6.9 where the pool does not grow (CONFIG_SWIOTLB_DYNAMIC unset):
swiotlb_search_pool_area, swiotlb_release_slots. tests/sim/test_swiotlb.py holds it against recorded kernels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab import PAGE_SIZE
from pagewarden.vocab.compiled import njit
from pagewarden.workload.dma_mappings import SLOT, DmaMappings

SEGMENT = 128
"""Slots of a segment; no mapping crosses one (IO_TLB_SEGSIZE), so none is larger than 256 KiB."""
DEFAULT_SLOTS = 32768
"""64 MiB (IO_TLB_DEFAULT_SIZE)."""


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool as it was set up. slots: a power of two; areas: too; align: a device's min_align_mask + 1, 1 for none."""

    slots: int
    areas: int = 1
    align: int = 1

    @property
    def area_slots(self) -> int:
        """Slots of one area."""
        return self.slots // self.areas


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """What became of each event. slot: where a mapping went, -1 where there was no room or nothing was asked."""

    slot: NDArray[np.int64]
    used: NDArray[np.int64]  # slots in use after the event
    refused: NDArray[np.int64]  # events for which there was no room
    taken: NDArray[np.bool_]  # slots in use behind the last event


def granted(slots: int, areas: int) -> Pool:
    """The pool that `swiotlb=SLOTS,AREAS` gives (setup_io_tlb_npages, swiotlb_adjust_nareas, limit_nareas): slots
    in whole segments, then areas and slots rounded up to powers of two, a segment an area at least."""
    areas = 1 << max(areas - 1, 0).bit_length()
    slots = max(-(-slots // SEGMENT) * SEGMENT, SEGMENT * areas)
    return Pool(1 << (slots - 1).bit_length(), areas)


def replay(load: DmaMappings, pool: Pool, base: int | None = None, until: int | None = None) -> Replay:
    """Take the bounced mappings of a load through a pool.

    base: the pool's first address, where the load was recorded with this very pool: what was mapped before the
    recording is put where it was, and each area begins its search where the first mapping says. None: an empty pool,
    from its beginning. until: events to take. A mapping that failed when it was recorded asks again, and gives back at
    once what it gets.
    """
    end = len(load) if until is None else until
    free = (SEGMENT - np.arange(pool.slots) % SEGMENT).astype(np.int32)
    used, start = np.zeros(pool.areas, np.int64), np.zeros(pool.areas, np.int64)
    slot, before = np.full(len(load), -1, np.int64), np.full(len(load), -1, np.int64)
    if base is not None:
        inside = load.bounced & (load.address >= base) & (load.address < base + pool.slots * SLOT)
        where = np.where(inside, (load.address - np.uint64(base)) // np.uint64(SLOT), 0).astype(np.int64)
        before = np.where(inside & ~load.opens & (load.maker < 0), where, -1)
        for area in range(pool.areas):
            first = np.flatnonzero(inside & load.opens & ~load.failed & (where // pool.area_slots == area))
            start[area] = where[first[0]] % pool.area_slots if len(first) else 0
    total, refused = np.zeros(len(load), np.int64), np.zeros(len(load), np.bool_)
    _replay(
        load.opens[:end], load.maker[:end], load.size[:end], load.cpu[:end], load.bounced[:end], load.failed[:end],
        load.origin[:end], before[:end], free, used, start, pool.area_slots, pool.align, slot, total, refused,
    )  # fmt: skip
    return Replay(slot[:end], total[:end], np.flatnonzero(refused[:end]), free == 0)


@njit(nogil=True)
def _replay(
    opens: Any, maker: Any, size: Any, cpu: Any, bounced: Any, failed: Any, origin: Any, before: Any, free: Any,
    used: Any, start: Any, area_slots: int, align: int, slot: Any, total: Any, refused: Any,
) -> None:  # fmt: skip
    areas, now = len(used), 0
    for i in range(len(opens)):  # what is there when it begins
        if before[i] >= 0:
            need = (size[i] + SLOT - 1) // SLOT
            _take(free, before[i], need)
            used[before[i] // area_slots] += need
            now += need
    for i in range(len(opens)):
        total[i] = now
        if not bounced[i]:
            continue
        if opens[i]:
            offset = origin[i] & np.uint64(align - 1) & np.uint64(SLOT - 1)
            need = (size[i] + np.int64(offset) + SLOT - 1) // SLOT
            first = cpu[i] & (areas - 1)
            for step in range(areas):
                area = (first + step) % areas
                at = _search(free, used, start, area, area_slots, need, size[i], origin[i], align)
                if at >= 0:
                    break
            refused[i] = at < 0
            if at < 0:
                continue
            _take(free, at, need)
            used[area] += need
            start[area] = (at + need) % area_slots if at + need < (area + 1) * area_slots else 0
            now += need
            if failed[i]:
                _give(free, at, need)
                used[area] -= need
                now -= need
                continue
            slot[i] = at
        else:
            at = before[i] if maker[i] < 0 else slot[maker[i]]
            if at < 0:
                continue
            source = origin[maker[i]] if maker[i] >= 0 else np.uint64(0)
            need = (size[i] + np.int64(source & np.uint64(align - 1) & np.uint64(SLOT - 1)) + SLOT - 1) // SLOT
            _give(free, at, need)
            used[at // area_slots] -= need
            now -= need
        total[i] = now


@njit(nogil=True)
def _search(
    free: Any, used: Any, start: Any, area: int, area_slots: int, need: int, size: int, origin: Any, align: int
) -> Any:  # fmt: skip
    """A run of free slots in an area, -1 if there is none: aligned to a page from a page's size on, or with the same
    place in `align` as the buffer has."""
    if need > area_slots - used[area]:
        return -1
    mask = np.uint64(align - 1) & ~np.uint64(SLOT - 1)
    pages = mask == 0 and size >= PAGE_SIZE
    step = PAGE_SIZE // SLOT if pages else int(mask // np.uint64(SLOT)) + 1
    at, looked = start[area], 0
    while looked < area_slots:
        place = area * area_slots + at
        fits = place % step == 0 if pages else (np.uint64(place * SLOT) & mask) == (origin & mask)
        if fits and free[place] >= need:
            return place
        move = step if fits else 1
        at += move
        looked += move
        if at >= area_slots:
            at = 0
    return -1


@njit(nogil=True)
def _take(free: Any, at: int, need: int) -> None:
    free[at : at + need] = 0
    _recount(free, at - 1, 0)


@njit(nogil=True)
def _give(free: Any, at: int, need: int) -> None:
    end = at + need
    count = free[end] if end % SEGMENT != 0 else 0
    for i in range(end - 1, at - 1, -1):
        count += 1
        free[i] = count
    _recount(free, at - 1, count)


@njit(nogil=True)
def _recount(free: Any, last: int, count: int) -> None:
    """How long the free runs are that end with `last`, in its segment."""
    while last >= 0 and last % SEGMENT != SEGMENT - 1 and free[last] > 0:
        count += 1
        free[last] = count
        last -= 1
