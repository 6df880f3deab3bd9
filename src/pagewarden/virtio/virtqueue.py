"""The device side of a split virtqueue: what is available, what was used, who wants to be told.

The device completes chains in the order in which they were made available and publishes a batch as a whole, so one
number says everything about its progress: the used index, which lies in the memory. A device that died is resumed by
reading it; chains after it are done again, which a block device may do.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.abi.virtio import VIRTQ_AVAIL_F_NO_INTERRUPT, VIRTQ_USED_F_NO_NOTIFY, virtq_desc, virtq_used_elem
from pagewarden.port import HostView, MappedView
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.virtio.gather import Scratch, Segments
from pagewarden.virtio.ring import RING, Ring, barrier, need_event
from pagewarden.vocab import PAGE_SIZE

_MODULO = 0xFFFF
_PATIENCE = 100
"""Times that two copies of an index may differ in a row: a driver at work changes it in between once in a while."""
_LOOK = 10
"""Bytes that tell what waits: flags and index, twice, then an event index or the start of the ring."""


class Virtqueue:
    """One queue; every method raises PrivateAccess when the ring is not shared, DeviceNeedsReset when it is absurd.

    done: chains completed, modulo 2^16: the next one to take, and the used index.
    """

    def __init__(self, index: int, view: HostView, ring: Ring, event_idx: bool, scratch: Scratch) -> None:
        self.index, self.ring, self.done = index, ring, 0
        self._view, self._event_idx, self._scratch = view, event_idx, scratch
        self._mapped = view if isinstance(view, MappedView) else None
        self._owed = False  # an interrupt that may have got lost
        size, start = ring.size, RING + RING
        self._copy = np.zeros(_LOOK + 2 * size + virtq_desc.itemsize * size, np.uint8)
        self._indices = self._copy[:_LOOK].view("<u2")
        self._table = self._copy[start + 2 * size:start + 2 * size + virtq_desc.itemsize * size].view("<i8")
        self.entries: NDArray[Any] = self._copy[start:start + 2 * size].view("<u2")
        self.words: NDArray[Any] = np.zeros(2 * size, np.int64)
        # The kernel copies byte by byte: an index is good when two copies in a row agree. What it counts is copied
        # after it, in the same call.
        end = ring.avail_event + 2
        touched = [(max(ring.used, page), 1) for page in range(ring.used // PAGE_SIZE * PAGE_SIZE, end, PAGE_SIZE)]
        twice = [(ring.avail, RING), (ring.avail, RING)]
        self._whole = [*twice, (ring.avail + RING, 2 * size), (ring.desc, virtq_desc.itemsize * size), *touched]
        self._look = [*twice, (ring.used_event, 2)]

    def resume(self) -> None:
        """Go on after the last chain that was published by whoever served this ring before."""
        index = np.zeros(2, "<u2")
        self._scratch.gather([(self.ring.used + 2, 2)], index)
        self.done = int(index[0])
        self._owed = True
        self._scratch.scatter(*self._armed())
        barrier()

    def snapshot(self) -> int:
        """Copy avail ring and descriptor table, once, into `entries` and `words`, and touch the used ring; how many
        chains wait."""
        waiting = self._read(self._whole)
        self.words[:] = self._table
        return waiting

    def _read(self, segments: Segments) -> int:
        indices = self._indices
        for _ in range(_PATIENCE):
            self._scratch.gather(segments, self._copy)
            if indices[1] == indices[3]:
                break
        else:
            raise DeviceNeedsReset(self.index, None, "the avail index does not hold still")
        waiting = int(indices[3]) - self.done & _MODULO
        if waiting > self.ring.size:
            raise DeviceNeedsReset(self.index, None, f"the avail index jumped to {indices[3]}, {waiting} ahead of "
                                                     f"{self.done} in a queue of {self.ring.size} entries")
        return waiting

    def publish(self, used: NDArray[np.uint32], marks: Segments, statuses: bytes) -> None:
        """Write statuses to their marks and hand the chains back, then ask for a kick at the next one.

        used: virtq_used_elem in avail order, as uint32 pairs. The used index goes last, in one piece.
        """
        count, size = len(used) // 2, self.ring.size
        at = self.done & (size - 1)
        fit = min(count, size - at)
        base, entry = self.ring.used + RING, virtq_used_elem.itemsize
        places = [*marks, (base + entry * at, entry * fit)]
        if fit < count:
            places.append((base, entry * (count - fit)))
        self.done = self.done + count & _MODULO
        event, data = self._armed()
        self._scratch.scatter(places + event, statuses + used.tobytes() + data)
        if self._mapped:
            self._mapped.add16(self.ring.used + 2, count)
        else:
            self._view.write(self.ring.used + 2, self.done.to_bytes(2, "little"))
        barrier()

    def _armed(self) -> tuple[list[tuple[int, int]], bytes]:
        """Where and what to write for a kick at the next chain. It comes a little before the used index: look once
        more afterwards, the driver may have been quicker."""
        if self._event_idx:
            return [(self.ring.avail_event, 2)], self.done.to_bytes(2, "little")
        return [(self.ring.used, 2)], b"\0\0"

    def hold(self) -> None:
        """Say that no kick is needed for now. With event indices there is nothing to do: the event is in the past."""
        if not self._event_idx:
            self._scratch.scatter([(self.ring.used, 2)], VIRTQ_USED_F_NO_NOTIFY.to_bytes(2, "little"))

    def look(self, completed: int) -> tuple[int, bool]:
        """How many chains wait by now, and whether the driver asked to be told about the last `completed` ones; the
        latter is True once after a resume."""
        waiting = self._read(self._look)
        owed, self._owed = self._owed, False
        if owed or not completed:
            return waiting, owed
        flags, event = int(self._indices[2]), int(self._indices[4])
        if self._event_idx:
            return waiting, need_event(event, self.done, self.done - completed)
        return waiting, not flags & VIRTQ_AVAIL_F_NO_INTERRUPT
