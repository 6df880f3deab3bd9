"""The device side of a split virtqueue: what is available, what was used, who wants to be told.

The device completes chains in the order in which they were made available and publishes a batch as a whole, so one
number says everything about its progress: the used index, which lies in the memory. A device that died is resumed by
reading it; chains after it are done again, which a block device may do.
"""

from typing import Any, Protocol

import numpy as np
from numba import types
from numpy.typing import NDArray

from pagewarden.abi.virtio import VIRTQ_AVAIL_F_NO_INTERRUPT, VIRTQ_USED_F_NO_NOTIFY, virtq_desc, virtq_used_elem
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.virtio.gather import Vectored, places_of
from pagewarden.virtio.ring import RING, Ring, barrier, need_event
from pagewarden.virtio.work import RECORD, Work
from pagewarden.vocab import PAGE_SIZE
from pagewarden.vocab.compiled import njit

_MODULO = 0xFFFF
_PATIENCE = 100
"""Times that two copies of an index may differ in a row: a driver at work changes it in between once in a while."""
_LOOK = 10
"""Bytes that tell what waits: flags and index, twice, then an event index or the start of the ring."""
_ELEM = virtq_used_elem.itemsize


Heads = NDArray[np.int64]


class ChainLedger(Protocol):
    """What somebody keeps of the chains of a ring that are in flight, for a device that comes after this one. Used: the
    used index at that moment."""

    def resume(self, used: int) -> list[int]:
        """Heads that a device before this one had taken and not handed back, in the order in which it took them."""

    def taken(self, heads: Heads, used: int) -> None: ...
    def handed_back(self, used: int) -> None: ...


class Virtqueue:
    """One queue; every method raises PrivateAccess when the ring is not shared, DeviceNeedsReset when it is absurd.

    It works on a copy of avail ring and descriptor table, which it makes by the view's calls.
    """

    def __init__(self, index: int, memory: Vectored, ring: Ring, event_idx: bool, work: Work) -> None:
        self.index, self.ring, self._work = index, ring, work
        self._memory, self._event_idx = memory, event_idx
        self.kept: ChainLedger | None = None
        self.again: list[int] = []
        """Heads that come before what the avail ring says, from where it was resumed on."""
        self._resumed = 0
        size, start = ring.size, 2 * RING
        table = start + -(-2 * size // 8) * 8
        self._copy = np.zeros(table + virtq_desc.itemsize * size, np.uint8)
        self._indices = self._copy[:_LOOK].data.cast("H")
        at = self._copy.ctypes.data
        self._places_of_copy = at + table, at + start - RING
        # The kernel copies byte by byte: an index is good when two copies in a row agree. What it counts is copied
        # after it, in the same call. The used ring is only touched.
        twice = [(ring.avail, RING), (ring.avail, RING)]
        fill = [(ring.avail, table - start - 2 * size)]  # so that the table is aligned
        touched = [
            (max(ring.used, page), 1)
            for page in range(ring.used // PAGE_SIZE * PAGE_SIZE, ring.avail_event + 2, PAGE_SIZE)
        ]
        entries, words = (ring.avail + RING, 2 * size), (ring.desc, virtq_desc.itemsize * size)
        self._whole = places_of([*twice, entries, *fill, words, *touched])
        self._look = places_of([*twice, (ring.used_event, 2)])
        self._event_at = ring.avail_event if event_idx else ring.used
        self._places, self._data = work.table("places"), work.table("data")
        work["size"], work["done"], work["events"] = size, 0, event_idx

    @property
    def done(self) -> int:
        """Chains completed, modulo 2^16: the next one to take, and the used index."""
        return self._work["done"]

    def resume(self) -> None:
        """Go on after the last chain that was published by whoever served this ring before."""
        index = np.zeros(2, np.uint8)
        self._memory.gather(places_of([(self.ring.used + 2, 2)]), 1, index)
        self._work["done"] = int(index.view("<u2")[0])
        self._work["owed"] = True
        if self.kept is not None:
            self.again, self._resumed = self.kept.resume(self.done), self.done
        self._tell(self.done if self._event_idx else 0)
        barrier()

    def snapshot(self) -> int:
        """Copy avail ring and descriptor table, once; how many chains wait."""
        self._work["desc"], self._work["avail"] = self._places_of_copy
        waiting = self._read(self._whole, self._copy)
        if self.again:
            self._put_again()
        return waiting

    def _put_again(self) -> None:
        """What the avail ring has there may be done already, by a device that did not go by its order."""
        size, since = self.ring.size, self.done - self._resumed & _MODULO
        self.again = self.again if since < len(self.again) else []
        entries = self._copy[2 * RING : 2 * (RING + size)].view("<u2")
        for nth in range(since, len(self.again)):
            entries[(self._resumed + nth) % size] = self.again[nth]

    def taken(self) -> None:
        """The batch of the record will be done."""
        if self.kept is not None:
            self.kept.taken(self._work.table("heads")[: self._work["chains"]], self.done)

    def look(self, completed: int) -> tuple[int, bool]:
        """How many chains wait by now, and whether the driver asked to be told about the last `completed` ones; the
        latter is True once after a resume."""
        waiting = self._read(self._look, self._copy[:_LOOK])
        owed, self._work["owed"] = self._work["owed"], False
        if owed or not completed:
            return waiting, bool(owed)
        if self._event_idx:
            return waiting, need_event(self._indices[4], self.done, self.done - completed)
        return waiting, not self._indices[2] & VIRTQ_AVAIL_F_NO_INTERRUPT

    def _read(self, places: NDArray[np.int64], target: NDArray[np.uint8]) -> int:
        indices = self._indices
        for _ in range(_PATIENCE):
            self._memory.gather(places, places.shape[1], target)
            if indices[1] == indices[3]:
                break
        else:
            raise DeviceNeedsReset(self.index, None, "the avail index does not hold still")
        index = indices[3]
        waiting = index - self.done & _MODULO
        if waiting > self.ring.size:
            raise DeviceNeedsReset(
                self.index,
                None,
                f"the avail index jumped to {index}, {waiting} ahead of "
                f"{self.done} in a queue of {self.ring.size} entries",
            )
        return waiting

    def hold(self) -> None:
        """Say that no kick is needed for now. With event indices there is nothing to do: the event is in the past."""
        if not self._event_idx:
            self._tell(VIRTQ_USED_F_NO_NOTIFY)

    def _tell(self, value: int) -> None:
        data = np.array([value & 0xFF, value >> 8], np.uint8)
        self._memory.scatter(places_of([(self._event_at, 2)]), 1, data)

    def publish(self) -> None:
        """Write the statuses of the batch, if any, and hand its chains back, and ask for a kick at the next one.

        The used index goes last, in one piece. The kick is asked for a little before it: look once more afterwards, the
        driver may have been quicker.
        """
        work, ring = self._work, self.ring
        count, done = work["chains"], self.done + work["chains"] & _MODULO
        event = done if self._event_idx else 0
        places = lay_out(work.record, ring.used + RING, self._event_at, event)
        statuses = count if work["marked"] else 0
        self._memory.scatter(self._places, places, self._data[: statuses + _ELEM * count + 2])
        self._memory.add16(ring.used + 2, count)
        work["done"] = done
        barrier()
        if self.kept is not None:
            self.kept.handed_back(done)


def _lay_out(work: Any, base: int, event_at: int, event: int) -> int:
    """Statuses, used elements from where they go on, wrapped, and the event: bytes and places; how many places."""
    x = work[0]
    count, marked, at = x.chains, x.marked, x.done & (x.size - 1)
    places, data = x.places, x.data
    for k in range(marked):
        places[0, k], places[1, k] = x.marks[0, k], x.marks[1, k]
    lead = count if marked else 0
    for k in range(lead):
        data[k] = x.statuses[k]
    for k in range(_ELEM * count):
        data[lead + k] = x.used_elements[k >> 2] >> (8 * (k & 3)) & 0xFF
    fit = min(count, x.size - at)
    places[0, marked], places[1, marked] = base + _ELEM * at, _ELEM * fit
    places[0, marked + 1], places[1, marked + 1] = base, _ELEM * (count - fit)
    places[0, marked + 2], places[1, marked + 2] = event_at, 2
    lead += _ELEM * count
    data[lead], data[lead + 1] = event & 0xFF, event >> 8
    return int(marked) + 3


lay_out: Any = njit(types.int64(RECORD, types.int64, types.int64, types.int64))(_lay_out)
