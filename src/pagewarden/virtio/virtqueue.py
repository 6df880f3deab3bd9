"""The device side of a split virtqueue: what is available, what was used, who wants to be told.

The device completes chains in the order in which they were made available and publishes a batch as a whole, so one
number says everything about its progress: the used index, which lies in the memory. A device that died is resumed by
reading it; chains after it are done again, which a block device may do.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.abi.virtio import VIRTQ_AVAIL_F_NO_INTERRUPT, VIRTQ_USED_F_NO_NOTIFY, virtq_desc, virtq_used_elem
from pagewarden.virtio.chains import BATCH, PLACES
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.virtio.gather import Vectored, places_of
from pagewarden.virtio.ring import RING, Ring, barrier, need_event
from pagewarden.vocab import PAGE_SIZE
from pagewarden.vocab.compiled import njit

_MODULO = 0xFFFF
_PATIENCE = 100
"""Times that two copies of an index may differ in a row: a driver at work changes it in between once in a while."""
_LOOK = 10
"""Bytes that tell what waits: flags and index, twice, then an event index or the start of the ring."""
_ELEM = virtq_used_elem.itemsize


class Virtqueue:
    """One queue; every method raises PrivateAccess when the ring is not shared, DeviceNeedsReset when it is absurd.

    done: chains completed, modulo 2^16: the next one to take, and the used index.
    entries, words: the avail ring and the descriptor table (int64, two a descriptor) as the last snapshot found them.
    """

    def __init__(self, index: int, memory: Vectored, ring: Ring, event_idx: bool) -> None:
        self.index, self.ring, self.done = index, ring, 0
        self._memory, self._event_idx = memory, event_idx
        self._owed = False  # an interrupt that may have got lost
        size, start = ring.size, 2 * RING
        table = start + -(-2 * size // 8) * 8
        self._copy = np.zeros(table + virtq_desc.itemsize * size, np.uint8)
        self._indices = self._copy[:_LOOK].data.cast("H")
        self.entries: NDArray[Any] = self._copy[start : start + 2 * size].view("<u2")
        self.words: NDArray[Any] = self._copy[table:].view("<i8")
        # The kernel copies byte by byte: an index is good when two copies in a row agree. What it counts is copied
        # after it, in the same call. The used ring is only touched.
        twice = [(ring.avail, RING), (ring.avail, RING)]
        fill = [(ring.avail, table - start - 2 * size)]  # so that the table is aligned
        touched = [
            (max(ring.used, page), 1)
            for page in range(ring.used // PAGE_SIZE * PAGE_SIZE, ring.avail_event + 2, PAGE_SIZE)
        ]
        entries, words = (ring.avail + RING, 2 * size), (ring.desc, self.words.nbytes)
        self._whole = places_of([*twice, entries, *fill, words, *touched])
        self._look = places_of([*twice, (ring.used_event, 2)])
        self._event_at = ring.avail_event if event_idx else ring.used
        self._places, self._data = np.zeros((2, BATCH + 3), np.int64), np.zeros((_ELEM + 1) * BATCH + 2, np.uint8)

    def resume(self) -> None:
        """Go on after the last chain that was published by whoever served this ring before."""
        index = np.zeros(2, np.uint8)
        self._memory.gather(places_of([(self.ring.used + 2, 2)]), 1, index)
        self.done = int(index.view("<u2")[0])
        self._owed = True
        self._tell(self.done if self._event_idx else 0)
        barrier()

    def snapshot(self) -> int:
        """Copy avail ring and descriptor table, once; how many chains wait."""
        return self._read(self._whole, self._copy)

    def look(self, completed: int) -> tuple[int, bool]:
        """How many chains wait by now, and whether the driver asked to be told about the last `completed` ones; the
        latter is True once after a resume."""
        waiting = self._read(self._look, self._copy[:_LOOK])
        owed, self._owed = self._owed, False
        if owed or not completed:
            return waiting, owed
        flags, event = self._indices[2], self._indices[4]
        if self._event_idx:
            return waiting, need_event(event, self.done, self.done - completed)
        return waiting, not flags & VIRTQ_AVAIL_F_NO_INTERRUPT

    def _read(self, places: NDArray[np.int64], target: NDArray[np.uint8]) -> int:
        indices = self._indices
        for _ in range(_PATIENCE):
            self._memory.gather(places, places.shape[1], target)
            if indices[1] == indices[3]:
                break
        else:
            raise DeviceNeedsReset(self.index, None, "the avail index does not hold still")
        waiting = indices[3] - self.done & _MODULO
        if waiting > self.ring.size:
            raise DeviceNeedsReset(
                self.index,
                None,
                f"the avail index jumped to {indices[3]}, {waiting} ahead of "
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

    def publish(
        self, used: NDArray[np.uint8], statuses: NDArray[np.uint8], count: int, marks: NDArray[np.int64], marked: int
    ) -> None:
        """Write `count` statuses to their `marked` places and hand the chains back, and ask for a kick at the next one.

        used: bytes of virtq_used_elem in avail order. The used index goes last, in one piece. The kick is asked
        for a little before it: look once more afterwards, the driver may have been quicker.
        """
        done = self.done + count & _MODULO
        ring = self.ring
        event = done if self._event_idx else 0
        places = lay_out(
            marks,
            marked,
            statuses,
            used,
            count,
            self.done & ring.size - 1,
            ring.used + RING,
            ring.size,
            self._event_at,
            event,
            self._places,
            self._data,
        )
        self._memory.scatter(self._places, places, self._data[: (_ELEM + 1) * count + 2])
        self._memory.add16(ring.used + 2, count)
        self.done = done
        barrier()


def _lay_out(
    marks: Any,
    marked: int,
    statuses: Any,
    used: Any,
    count: int,
    at: int,
    base: int,
    size: int,
    event_at: int,
    event: int,
    places: Any,
    data: Any,
) -> int:
    """Statuses, used elements from entry `at` on, wrapped, and the event: their bytes and places; how many places."""
    for k in range(marked):
        places[0, k], places[1, k] = marks[0, k], marks[1, k]
    for k in range(count):
        data[k] = statuses[k]
    for k in range(_ELEM * count):
        data[count + k] = used[k]
    fit = min(count, size - at)
    places[0, marked], places[1, marked] = base + _ELEM * at, _ELEM * fit
    places[0, marked + 1], places[1, marked + 1] = base, _ELEM * (count - fit)
    places[0, marked + 2], places[1, marked + 2] = event_at, 2
    data[(_ELEM + 1) * count], data[(_ELEM + 1) * count + 1] = event & 0xFF, event >> 8
    return marked + 3


lay_out: Any = njit(f"i8({PLACES},i8,u1[::1],u1[::1],i8,i8,i8,i8,i8,i8,{PLACES},u1[::1])")(_lay_out)
