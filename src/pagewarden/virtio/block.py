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
from typing import NamedTuple, TypeVar

import numpy as np

from pagewarden.abi import virtio_blk as blk
from pagewarden.abi.virtio import VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC
from pagewarden.port import HostView
from pagewarden.virtio import chains, faults, requests
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.virtio.gather import Vectored, pairs
from pagewarden.virtio.ring import Ring
from pagewarden.virtio.transfers import Transfers
from pagewarden.virtio.virtqueue import Virtqueue
from pagewarden.vocab import PrivateAccess

Result = TypeVar("Result")


class Processed(NamedTuple):
    """What a call of process did."""

    completed: int  # requests handed back
    want_interrupt: bool  # the driver asked to be told of them
    more: bool  # the driver keeps adding: call again, no kick will come


class BlockQueue:
    """The queue `index`; process it from one thread at a time."""

    def __init__(self, index: int, view: HostView, ring: Ring, disk: Disk, features: int, longest: int) -> None:
        """features: as negotiated. longest: descriptors of a chain, at most chains.SIZE_MAX.
        Raises Refused(EINVAL) for a ring that cannot be."""
        self._ring = ring.checked(view.size, longest)
        self._vectored = Vectored(view)
        self.queue = Virtqueue(index, self._vectored, ring, bool(features >> VIRTIO_F_EVENT_IDX & 1))
        self._longest = longest * (features >> VIRTIO_F_INDIRECT_DESC & 1)
        self._memory, self._capacity, self._kinds = view.size, disk.capacity, kinds(features, disk.read_only)
        self._transfers = Transfers(view, disk, self._vectored, bool(features >> blk.VIRTIO_BLK_F_FLUSH & 1))
        self._turn = 0
        self._seen = np.zeros(ring.size, np.int64)
        self._narrow, self._wide = (np.zeros((3, chains.DESCRIPTORS), np.int64) for _ in range(2))
        self._starts, self._begins = (np.zeros(chains.BATCH + 1, np.int64) for _ in range(2))
        self._heads = np.zeros(chains.BATCH, np.int64)
        self._tables, self._segments = (np.zeros((2, chains.DESCRIPTORS), np.int64) for _ in range(2))
        self._pieces = np.zeros((2, requests.PIECES), np.int64)
        self._requests = np.zeros((chains.BATCH, requests.FIELDS), np.int64)
        self._headers = np.zeros(2 * chains.BATCH, np.int64)
        self._header_bytes = self._headers.view(np.uint8)
        self._runs = np.zeros((chains.BATCH, requests.RUN_FIELDS), np.int64)
        self._statuses, self._used = np.zeros(chains.BATCH, np.uint8), np.zeros(2 * chains.BATCH, np.uint32)
        self._used_bytes = self._used.view(np.uint8)
        self._marks = np.zeros((2, chains.BATCH), np.int64)
        self._flat, self._bounds, self._chains = self._narrow, self._starts, 0  # the batch under way

    def process(self) -> Processed:
        """Serve what waits, about a ring of requests at most. Raises DeviceNeedsReset."""
        return self._guarded(self._process)

    def resume(self) -> None:
        """Go on where the used ring says that a device before this one stopped. Raises DeviceNeedsReset."""
        self._guarded(self.queue.resume)

    def _guarded(self, act: Callable[[], Result]) -> Result:
        try:
            return act()
        except PrivateAccess as error:
            raise DeviceNeedsReset(self.queue.index, self._culprit(error.offset),
                                   f"gpa {error.offset or 0:#x} is private") from error

    def close(self) -> None:
        self._vectored.close()

    def _process(self) -> Processed:
        completed, wanted = 0, False
        while True:
            self._chains = 0
            waiting = self.queue.snapshot()
            if waiting:
                self.queue.hold()
                completed += self._batch(waiting)
            waiting, now = self.queue.look(completed)
            wanted = wanted or now
            if not waiting or completed >= self._ring.size:
                return Processed(completed, wanted, waiting > 0)

    def _batch(self, waiting: int) -> int:
        self._take(waiting)
        self._frame()
        taken = self._chains
        runs, marks = requests.classify(self._headers, self._requests, self._heads, taken, self._capacity, self._kinds,
                                        self._runs, self._statuses, self._used, self._marks)
        segments = pairs(self._segments, int(self._requests[taken - 1, requests.END]))
        for request, status in self._transfers.perform(self._runs[:runs].tolist(), segments, self._requests):
            self._fail(request, status)
        self.queue.publish(self._used_bytes, self._statuses, taken, self._marks, marks)
        self._chains = 0
        return taken

    def _take(self, waiting: int) -> None:
        """Chains of the snapshot into a flat list of descriptors, indirect ones in place."""
        self._turn += 1
        self._flat, self._bounds = self._narrow, self._starts
        tables = self._judged(chains.flatten(
            self.queue.words, self.queue.entries, self.queue.done, waiting, self._memory, self._longest, self._seen,
            self._turn, self._flat, self._bounds, self._heads, self._tables))
        if not tables:
            return
        words = np.empty(int(self._tables[1, :tables].sum()) // 8, np.int64)
        self._vectored.gather(self._tables, tables, words.view(np.uint8))
        taken = self._chains
        self._judged(chains.expand(self._flat, self._bounds, taken, words, self._memory, self._wide, self._begins))
        self._flat, self._bounds = self._wide, self._begins

    def _frame(self) -> None:
        """Headers, data and statuses found, headers copied, all pages touched."""
        pieces = self._judged(requests.frame(self._flat, self._bounds, self._chains, self._segments, self._requests,
                                             self._pieces))
        self._vectored.gather(self._pieces, pieces, self._header_bytes[:requests.HEADER * self._chains])

    def _judged(self, verdict: tuple[int, int, int, int, int]) -> int:
        taken, fault, chain, detail, items = verdict
        if fault:
            raise DeviceNeedsReset(self.queue.index, int(self._heads[chain]), faults.describe(fault, detail))
        self._chains = taken
        return items

    def _fail(self, request: int, status: int) -> None:
        self._statuses[request] = status
        self._used[2 * request + 1] = self._requests[request, requests.IN_BYTES] == 0

    def _culprit(self, offset: int | None) -> int | None:
        """The head of the first chain of the batch under way with a descriptor that holds this gpa."""
        if offset is None:
            return None
        for chain in range(self._chains):
            part = self._flat[:, self._bounds[chain]:self._bounds[chain + 1]]
            if ((part[chains.ADDR] <= offset) & (offset < part[chains.ADDR] + part[chains.LEN])).any():
                return int(self._heads[chain])
        return None


def kinds(features: int, read_only: bool) -> int:
    """A bit for each VIRTIO_BLK_T_* that a device with these features does."""
    def bit(kind: int, feature: int) -> int:
        return (features >> feature & 1) << kind
    done = 1 << blk.VIRTIO_BLK_T_IN | 1 << blk.VIRTIO_BLK_T_GET_ID | bit(blk.VIRTIO_BLK_T_FLUSH, blk.VIRTIO_BLK_F_FLUSH)
    if read_only:
        return done
    return (done | 1 << blk.VIRTIO_BLK_T_OUT | bit(blk.VIRTIO_BLK_T_DISCARD, blk.VIRTIO_BLK_F_DISCARD)
            | bit(blk.VIRTIO_BLK_T_WRITE_ZEROES, blk.VIRTIO_BLK_F_WRITE_ZEROES))
