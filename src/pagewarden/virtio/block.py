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

from collections.abc import Callable

from pagewarden.abi import virtio_blk as blk
from pagewarden.port import HostView
from pagewarden.virtio.at_once import (
    COMPLETED,
    LACKING,
    LONG_WAY,
    MOVED,
    NOT_LENT,
    TAKEN,
    UNSEEN,
    WAITING,
    WANTED,
    AtOnce,
    finish,
    serve,
)
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.queue import DeviceQueue, Processed
from pagewarden.virtio.ring import Ring
from pagewarden.virtio.transfers import Transfers
from pagewarden.virtio.work import BATCH
from pagewarden.vocab import PrivateAccess

_OPTIONAL = (
    (blk.VIRTIO_BLK_T_FLUSH, blk.VIRTIO_BLK_F_FLUSH),
    (blk.VIRTIO_BLK_T_DISCARD, blk.VIRTIO_BLK_F_DISCARD),
    (blk.VIRTIO_BLK_T_WRITE_ZEROES, blk.VIRTIO_BLK_F_WRITE_ZEROES),
)


_ENDED = {COMPLETED * n + WANTED * w: Processed(n, bool(w), False) for n in range(BATCH + 1) for w in (0, 1)}
"""What a first batch comes to that leaves nothing waiting, by what `serve` answers: one made anew takes 0.2 us."""

ROUNDS = 2
"""Of questions for pages: of what the ring names, and of what tables name."""


class BlockQueue(DeviceQueue):
    """The queue of a disk."""

    def __init__(self, index: int, view: HostView, ring: Ring, disk: Disk, features: int, longest: int) -> None:
        """As DeviceQueue."""
        super().__init__(index, view, ring, features, longest)
        work = self._work
        work["capacity"], work["kinds"], work["sealed"] = disk.capacity, kinds(features), disk.read_only
        self._at_once, self._record = AtOnce(view, ring, work), work.address
        write_back = bool(features >> blk.VIRTIO_BLK_F_FLUSH & 1)
        self._transfers = Transfers(view, disk, self._memory, write_back)
        work["disk"] = disk.fd
        if not disk.direct:  # else somebody must hold the pages
            work["quick"] = 1 << blk.VIRTIO_BLK_T_IN | write_back << blk.VIRTIO_BLK_T_OUT

    def process(self) -> Processed:
        """Serve what waits, about a ring of requests at most. Raises DeviceNeedsReset."""
        try:
            completed = wanted = 0
            while True:
                seen: int = serve(self._record, completed)
                if not completed and (ended := _ENDED.get(seen)):
                    return ended
                if seen < 0:
                    seen = self._the_rest(seen, completed)
                completed += seen >> 32
                wanted |= seen & WANTED
                if not seen & WAITING or completed >= self._size or self.stopping:
                    return Processed(completed, wanted > 0, seen & WAITING > 0)
        except PrivateAccess as error:
            raise self._private(error) from error

    def close(self) -> None:
        self._at_once.close()
        super().close()

    def _the_rest(self, seen: int, completed: int) -> int:
        """What is left of a batch that `serve` did not end; answers what that does."""
        if seen == NOT_LENT:
            lent = not self._queue.again and self._at_once.borrow()
            seen = serve(self._record, completed) if lent else LONG_WAY
        for _ in range(ROUNDS):
            if seen == LACKING:
                self._batch.ahead()
                seen = serve(self._record, completed)
        if seen == TAKEN:
            self._transfer()
            seen = finish(self._record, completed)
        if seen >= 0:
            return seen
        done = self._work["chains"]
        if seen == MOVED:
            self._queue.publish()
        elif seen != UNSEEN:
            done = self._serve(self._queue.snapshot())
        waiting, wanted = self._queue.look(completed + done)
        return waiting | WANTED * wanted | COMPLETED * done

    def _taken(self, waiting: int) -> Callable[[], None]:
        self._batch.take(waiting)
        return self._transfer

    def _transfer(self) -> None:
        batch = self._batch
        for request, status in self._transfers.perform(batch.runs[self._work["runs"]], batch.segments, batch.rows):
            batch.fail(request, status)


def kinds(features: int) -> int:
    """A bit for each VIRTIO_BLK_T_* that a device with these features does."""
    always = 1 << blk.VIRTIO_BLK_T_IN | 1 << blk.VIRTIO_BLK_T_OUT | 1 << blk.VIRTIO_BLK_T_GET_ID
    return always | sum((features >> feature & 1) << kind for kind, feature in _OPTIONAL)
