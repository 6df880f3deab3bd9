"""One queue of a block device: whole batches, checked, then done, then handed back.

Check all, then commit. A batch is the chains that wait (up to chains.BATCH of them and chains.DESCRIPTORS descriptors).
Ring, tables and headers are copied once and judged as copies, and a byte of every page of data and status is touched,
before the first byte moves. A batch with one bad chain is refused as a whole: its good requests are not done either,
their statuses and the used ring stay as they were, and the driver finds them unfinished after its reset. Batches before
it are complete. Only a page that turns private between the check and the transfer is met later: then data of this
batch may have moved, within the buffers and sectors that the driver named, and still nothing of it is handed back.

What a request asks in vain (a sector beyond the disk, an unknown type, a disk that fails) is no fault of the ring: its
status says VIRTIO_BLK_S_IOERR or VIRTIO_BLK_S_UNSUPP and the others go on.
"""

import threading
from typing import NamedTuple

from pagewarden.abi import virtio_blk as blk
from pagewarden.abi.virtio import VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC
from pagewarden.port import HostView
from pagewarden.virtio.at_once import WANTED, AtOnce
from pagewarden.virtio.batch import Batch
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.virtio.gather import Vectored
from pagewarden.virtio.ring import Ring
from pagewarden.virtio.transfers import Transfers
from pagewarden.virtio.virtqueue import Virtqueue
from pagewarden.virtio.work import Work
from pagewarden.vocab import PrivateAccess

_OPTIONAL = (
    (blk.VIRTIO_BLK_T_FLUSH, blk.VIRTIO_BLK_F_FLUSH),
    (blk.VIRTIO_BLK_T_DISCARD, blk.VIRTIO_BLK_F_DISCARD),
    (blk.VIRTIO_BLK_T_WRITE_ZEROES, blk.VIRTIO_BLK_F_WRITE_ZEROES),
)


class Processed(NamedTuple):
    """What a call of process did."""

    completed: int  # requests handed back
    want_interrupt: bool  # the driver asked to be told of them
    more: bool  # the driver keeps adding: call again, no kick will come


class BlockQueue:
    """The queue `index`; its methods are called by whoever has `busy`.

    stopping: a reset waits for the batch under way, no other one begins.
    """

    def __init__(self, index: int, view: HostView, ring: Ring, disk: Disk, features: int, longest: int) -> None:
        """features: as negotiated. longest: descriptors of a chain, at most chains.SIZE_MAX.
        Raises Refused(EINVAL) for a ring that cannot be."""
        self._size = ring.checked(view.size, longest).size
        self._memory = Vectored(view)
        self._work = work = Work()
        work["memory"], work["longest"] = view.size, longest * (features >> VIRTIO_F_INDIRECT_DESC & 1)
        work["capacity"], work["kinds"], work["sealed"] = disk.capacity, kinds(features), disk.read_only
        self._queue = Virtqueue(index, self._memory, ring, bool(features >> VIRTIO_F_EVENT_IDX & 1), work)
        self._batch = Batch(index, self._memory, work)
        self._at_once = AtOnce(view, ring, work)
        self._transfers = Transfers(view, disk, self._memory, bool(features >> blk.VIRTIO_BLK_F_FLUSH & 1))
        self.busy, self.stopping = threading.Lock(), False

    def process(self) -> Processed:
        """Serve what waits, about a ring of requests at most. Raises DeviceNeedsReset."""
        try:
            completed, wanted = 0, 0
            while True:
                done, seen = self._batch_at_once(completed)
                completed, wanted, waiting = completed + done, wanted | seen & WANTED, seen & ~WANTED
                if not waiting or completed >= self._size or self.stopping:
                    return tuple.__new__(Processed, (completed, wanted > 0, waiting > 0))
        except PrivateAccess as error:
            raise self._private(error) from error

    def resume(self) -> None:
        """Go on where the used ring says that a device before this one stopped. Raises DeviceNeedsReset."""
        try:
            self._queue.resume()
        except PrivateAccess as error:
            raise self._private(error) from error

    def _private(self, error: PrivateAccess) -> DeviceNeedsReset:
        where = error.offset
        return DeviceNeedsReset(self._queue.index, self._batch.culprit(where), f"gpa {where or 0:#x} is private")

    def close(self) -> None:
        self._at_once.close()
        self._memory.close()

    def _batch_at_once(self, completed: int) -> tuple[int, int]:
        """A batch of what waits: how many requests, and how many chains wait by now, plus WANTED where the driver asked
        to be told of those or of the `completed` since the kick."""
        done = self._at_once.take()
        if done > 0:
            self._transfer()
            seen = self._at_once.finish(completed)
            if seen >= 0:
                return done, seen
            if seen == -1:
                self._queue.publish()
        elif done < 0:
            done = self._serve(self._queue.snapshot())
        waiting, wanted = self._queue.look(completed + done)
        return done, waiting | WANTED * wanted

    def _serve(self, waiting: int) -> int:
        """A batch of what waits, from the snapshot to the used ring; how many requests."""
        if not waiting:
            return 0
        self._batch.take(waiting)
        self._queue.hold()
        self._transfer()
        self._queue.publish()
        return self._work["chains"]

    def _transfer(self) -> None:
        batch = self._batch
        for request, status in self._transfers.perform(batch.runs[self._work["runs"]], batch.segments, batch.rows):
            batch.fail(request, status)


def kinds(features: int) -> int:
    """A bit for each VIRTIO_BLK_T_* that a device with these features does."""
    always = 1 << blk.VIRTIO_BLK_T_IN | 1 << blk.VIRTIO_BLK_T_OUT | 1 << blk.VIRTIO_BLK_T_GET_ID
    return always | sum((features >> feature & 1) << kind for kind, feature in _OPTIONAL)
