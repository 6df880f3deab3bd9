"""The DMA mappings that a stock driver makes of requests: what crosses the border of a guest as it is.

linux-virtio-blk: drivers/block/virtio_blk.c and drivers/virtio/virtio_ring.c of Linux 6.12, as QEMU offers the device;
tests/lab/guest_check.py holds it against such a guest.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab import PAGE_SIZE
from pagewarden.workload.dma_mappings import FROM_DEVICE, TO_DEVICE, DmaMappings
from pagewarden.workload.in_flight import most_in_flight
from pagewarden.workload.model import Workload

DRIVERS = {"linux-virtio-blk": "Linux's virtio_blk: header, segments, status and the indirect table of each request"}
HEADER, STATUS, DESCRIPTOR, RANGE = 16, 1, 16, 16
"""Bytes: virtio_blk_outhdr, the status, a descriptor, a range to discard (virtio 1.3, 2.7.5 and 5.2.6)."""


@dataclass(frozen=True, slots=True)
class VirtioBlk:
    """Limits of the driver's queue, as /sys/block/DISK/queue says. Bytes, but for segments."""

    segments: int = 254  # seg_max: the queue's 256 descriptors but the header's and the status's
    segment: int = 256 << 10  # swiotlb_max_mapping_size, where mappings bounce
    request: int = 1280 << 10  # max_sectors_kb
    contiguous: int = PAGE_SIZE  # how much of a buffer lies together in the guest's memory
    indirect: bool = True  # VIRTIO_F_INDIRECT_DESC was offered: a request has a table of its own

    def read(self, length: int) -> list[tuple[int, int]]:
        """Size and direction of each mapping of a read of so many bytes, in their order."""
        return self._requests(length, FROM_DEVICE)

    def write(self, length: int) -> list[tuple[int, int]]:
        """The same of a write."""
        return self._requests(length, TO_DEVICE)

    def flush(self) -> list[tuple[int, int]]:
        """The same of a flush."""
        return self._one([], TO_DEVICE)

    def discard(self, ranges: int = 1) -> list[tuple[int, int]]:
        """The same of a discard, or write-zeroes, of so many ranges."""
        return self._one([ranges * RANGE], TO_DEVICE)

    def _requests(self, length: int, direction: int) -> list[tuple[int, int]]:
        size = min(self.contiguous, self.segment)
        most = min(self.request // size, self.segments) * size  # what one request takes of a buffer that lies so
        found: list[tuple[int, int]] = []
        for start in range(0, length, max(most, size)):
            here = min(max(most, size), length - start)
            found += self._one([min(size, here - at) for at in range(0, here, size)], direction)
        return found

    def _one(self, segments: list[int], direction: int) -> list[tuple[int, int]]:
        table = [((len(segments) + 2) * DESCRIPTOR, TO_DEVICE)] * self.indirect
        data = [(size, direction) for size in segments]
        return [(HEADER, TO_DEVICE), *data, (STATUS, FROM_DEVICE), *table]


def mappings_of(load: Workload, driver: VirtioBlk, depth: int | None = None) -> DmaMappings:
    """A workload's mappings as the driver makes them, in the order of their requests' beginning: as many requests in
    flight as the workload itself says, or `depth`, each ended before the next beyond that begins."""
    n = load.requests
    over = np.minimum(np.arange(n) + (depth or load.depth), n) if depth or load.until is None else load.until
    said = depth or load.depth > 1 or load.until is not None
    most = f"in flight at once: at most {most_in_flight(over):,}"
    assumed = f"one request in flight is assumed, which {load.format} does not say: pool --depth N says otherwise"
    kinds, of = np.unique(np.stack([load.length.astype(np.int64), load.write]), axis=1, return_inverse=True)
    of = of.reshape(-1)
    lists = [(driver.write if write else driver.read)(int(length)) for length, write in kinds.T.tolist()]
    sizes = np.array([size for one in lists for size, _ in one], np.int64)
    directions = np.array([direction for one in lists for _, direction in one], np.uint8)
    starts = np.cumsum([0, *map(len, lists)])[:-1]
    count = np.array([len(one) for one in lists], np.int64)[of]
    ending, beginning = np.bincount(over, count, n + 1).astype(np.int64), np.append(count, 0)  # before each request
    before = np.cumsum(ending + beginning) - ending - beginning
    order = np.argsort(over, kind="stable")
    place = np.cumsum(count[order]) - count[order]  # those that end together do so in the order of their beginning
    place -= (np.cumsum(ending) - ending)[over[order]]
    ended = np.empty(n, np.int64)
    ended[order] = place
    request = np.repeat(np.arange(n), count)
    within = np.arange(len(request)) - np.repeat(np.cumsum(count) - count, count)
    made = (before + ending)[:n][request] + within
    ends = (before[over] + ended)[request] + within
    total = 2 * len(request)
    opens, maker = np.zeros(total, np.bool_), np.full(total, -1, np.int64)
    opens[made], maker[ends] = True, made
    pick = starts[of[request]] + within
    size, direction = _both(sizes[pick], made, ends), _both(directions[pick], made, ends)
    owner = np.zeros(load.requests, np.int16) if load.owner is None else load.owner.astype(np.int16)
    zeros = np.zeros(total, np.uint64)
    return DmaMappings(
        load.name, f"{load.format}, as linux-virtio-blk maps it", opens, maker, size, direction,
        np.zeros(total, np.int16), _both(owner[request], made, ends), np.arange(total), np.ones(total, np.bool_),
        np.zeros(total, np.bool_), zeros, zeros, ("virtio-blk",), notes=(*load.notes, most if said else assumed),
    )  # fmt: skip


def _both(values: NDArray[Any], made: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[Any]:
    """A value of each mapping at the events of both its ends."""
    found = np.zeros(2 * len(values), values.dtype)
    found[made] = found[ends] = values
    return found
