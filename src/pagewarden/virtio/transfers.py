"""The commit of a batch: data between memory and disk, run by run, in order, or what does not overlap at once."""

import errno
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.abi import virtio_blk as blk
from pagewarden.port import HostView, QueueingView
from pagewarden.virtio.disk import BOUNCE, ONE_BY_ONE, Disk, aligned
from pagewarden.virtio.gather import Pairs, Vectored, pairs, places_of
from pagewarden.virtio.work import BATCH, END, IN_AT, IN_BYTES, OP, OUT_AT, OUT_BYTES, START

DISCARD_MAX = 8192
"""Most sectors of a range to discard or to zero (max_discard_sectors, max_write_zeroes_sectors): 4 MiB."""
_NAMES = {
    blk.VIRTIO_BLK_T_FLUSH: "fdatasync of the disk",
    blk.VIRTIO_BLK_T_GET_ID: "identity of the disk",
    blk.VIRTIO_BLK_T_DISCARD: "discard on the disk",
    blk.VIRTIO_BLK_T_WRITE_ZEROES: "zeroes on the disk",
}
Failures = list[tuple[int, int]]
"""(request of the batch, VIRTIO_BLK_S_*) for each that did not end well."""
_WRITES = frozenset({blk.VIRTIO_BLK_T_OUT, blk.VIRTIO_BLK_T_DISCARD, blk.VIRTIO_BLK_T_WRITE_ZEROES})
_NOT_THESE_PAGES = frozenset({errno.EFAULT, errno.EINVAL})
"""What the kernel says of pages that it may not pin, or of parts that are not aligned, for a file without a cache."""


class Transfers:
    """What one queue does to its disk. PrivateAccess passes through; an OSError becomes VIRTIO_BLK_S_IOERR, and
    Disk.trouble tells the host of the first."""

    def __init__(self, view: HostView, disk: Disk, vectored: Vectored, write_back: bool) -> None:
        """write_back: the driver flushes; else what it wrote is stable before it is returned (virtio 1.2, 5.2.6.2)."""
        self._view, self._disk, self._vectored, self._write_back = view, disk, vectored, write_back
        self._calls = {blk.VIRTIO_BLK_T_IN: view.pread_from, blk.VIRTIO_BLK_T_OUT: view.pwrite_to}
        self._buffer: Any = None
        self._queueing: QueueingView | None = None
        self._whole = np.zeros(BATCH, np.uint8)
        if disk.direct:
            self._queueing, disk.engine = _queueing(view)

    def perform(self, runs: NDArray[np.int64], segments: NDArray[np.int64], rows: NDArray[np.int64]) -> Failures:
        """Do the runs, of segments, for requests (columns of both as in work), and say which requests failed."""
        failures: Failures = []
        at = 0
        while at < len(runs):
            tried, missed = self._at_once(runs[at:], segments)
            for run in missed:
                failures += self._alone(runs[at + run], segments, rows)
            at += tried
            if at < len(runs) and not (tried and self._queueing):
                failures += self._alone(runs[at], segments, rows)
                at += 1
        if not self._write_back and not self._stable(runs):
            failures += [
                (request, blk.VIRTIO_BLK_S_IOERR)
                for op, *_, first, count, _ in runs.tolist()
                if op in _WRITES
                for request in range(first, first + count)
            ]
        return failures

    def _at_once(self, runs: NDArray[np.int64], segments: NDArray[np.int64]) -> tuple[int, list[int]]:
        """The first of the runs, as many as go through, or as go together: how many, and which did not go through."""
        if self._queueing is None:
            return self._vectored.transfer(self._disk.fd, runs, segments), []
        tried = self._queueing.together(self._disk.fd, runs, segments, self._whole)
        return tried, np.flatnonzero(self._whole[:tried] == 0).tolist()

    def _alone(self, run: NDArray[np.int64], segments: NDArray[np.int64], rows: NDArray[np.int64]) -> Failures:
        """A run that went not at once."""
        op, _, begin, stop, first, count, _ = run.tolist()
        if op in self._calls:
            return self._one_by_one(op, range(first, first + count), segments, rows)
        if status := self._special(op, pairs(segments[:, begin:stop], stop - begin)):
            return [(request, status) for request in range(first, first + count)]
        return []

    def _one_by_one(
        self, op: int, wanted: Iterable[int], segments: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> Failures:
        """A run that did not go through, request by request. A part of a write that failed may be on the disk, as
        on any disk."""
        failures: Failures = []
        columns = [OUT_AT, IN_AT, OUT_BYTES, START]
        if op == blk.VIRTIO_BLK_T_IN:
            columns = [IN_AT, END, IN_BYTES, START]
        for request in wanted:
            begin, stop, length, sector = rows[request, columns].tolist()
            parts = pairs(segments[:, begin:stop], stop - begin)
            if not self._moved(op, sector * blk.SECTOR, parts, length):
                failures.append((request, blk.VIRTIO_BLK_S_IOERR))
        return failures

    def _moved(self, op: int, position: int, parts: Pairs, length: int) -> bool:
        """Whether all of a request went between the disk and the memory, through a buffer of this process if need be:
        a disk without a cache pins the guest's pages, which not all memory allows, and wants them aligned."""
        what = f"{length} bytes at byte {position} of the disk"
        try:
            moved = self._calls[op](self._disk.fd, position, parts)
        except OSError as error:
            if error.errno not in _NOT_THESE_PAGES:
                self._disk.blame(error, what)
                return False
            try:
                moved = self._bounced(op, position, parts)
            except OSError as again:
                blocks = f", which moves whole blocks of {self._disk.block}"
                self._disk.blame(again, what + blocks if again.errno == errno.EINVAL else what)
                return False
        except ValueError as error:  # a view with limits of its own
            self._disk.blame(OSError(errno.EINVAL, str(error)), what)
            return False
        if moved != length:
            self._disk.blame(OSError(errno.EIO, f"only {moved} of them moved"), what)
        return moved == length

    def _bounced(self, op: int, position: int, parts: Pairs) -> int:
        if self._buffer is None:
            self._buffer = aligned(BOUNCE)
        total = 0
        for places in _pieces(parts, BOUNCE):
            count, length = places.shape[1], int(places[1].sum())
            part = self._buffer[:length]
            if op == blk.VIRTIO_BLK_T_OUT:
                self._vectored.gather(places, count, part)
                moved = os.pwrite(self._disk.fd, part.data, position + total)
            else:
                moved = os.preadv(self._disk.fd, [part.data], position + total)
                if moved == length:
                    self._vectored.scatter(places, count, part)
            total += moved
            if moved < length:
                break
        return total

    def _special(self, op: int, segments: Pairs) -> int:
        """What is rare: flush, identity, discard, write-zeroes; its status."""
        try:
            if op == blk.VIRTIO_BLK_T_FLUSH:
                self._disk.flush()
            elif op == blk.VIRTIO_BLK_T_GET_ID:
                places = places_of(_first(segments, blk.VIRTIO_BLK_ID_BYTES))
                self._vectored.scatter(places, places.shape[1], np.frombuffer(bytearray(self._disk.identity), np.uint8))
            else:
                return self._range(op, segments)
        except OSError as error:
            self._disk.blame(error, _NAMES[op])
            return blk.VIRTIO_BLK_S_IOERR
        return blk.VIRTIO_BLK_S_OK

    def _range(self, op: int, segments: Pairs) -> int:
        """Discard or zero the range of the request, if it is good."""
        data: NDArray[Any] = np.zeros(1, blk.virtio_blk_discard_write_zeroes)
        self._vectored.gather(places_of(segments), len(segments), data.view(np.uint8))
        sector, sectors, flags = data.tolist()[0]
        unmap = blk.VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP if op == blk.VIRTIO_BLK_T_WRITE_ZEROES else 0
        if flags & ~unmap:
            return blk.VIRTIO_BLK_S_UNSUPP
        if sectors > DISCARD_MAX or sector > self._disk.capacity - sectors:
            return blk.VIRTIO_BLK_S_IOERR
        give_back = op == blk.VIRTIO_BLK_T_DISCARD or bool(flags & unmap)
        self._disk.zero(sector * blk.SECTOR, sectors * blk.SECTOR, give_back)
        return blk.VIRTIO_BLK_S_OK

    def _stable(self, runs: NDArray[np.int64]) -> bool:
        if _WRITES.isdisjoint(runs[:, OP].tolist()):
            return True
        return self._special(blk.VIRTIO_BLK_T_FLUSH, []) == blk.VIRTIO_BLK_S_OK


def _queueing(view: HostView) -> tuple[QueueingView | None, str]:
    """The view, if it has many transfers under way at once, and Disk.engine in words."""
    why = "the memory has no such thing"
    if isinstance(view, QueueingView):
        none = view.no_queue()
        if none is None:
            return view, "io_uring"
        why = none
    return None, f"{ONE_BY_ONE}; no io_uring: {why}"


def _first(segments: Pairs, length: int) -> Pairs:
    """The first `length` bytes of the segments."""
    kept = []
    for start, size in segments:
        kept.append((start, min(size, length)))
        length -= min(size, length)
        if not length:
            break
    return kept


def _pieces(segments: Pairs, most: int) -> Iterator[NDArray[np.int64]]:
    """The segments in lots of so many bytes, all but the last full."""
    lot: Pairs = []
    room = most
    for start, left in segments:
        while left:
            take = min(left, room)
            lot.append((start, take))
            start, left, room = start + take, left - take, room - take
            if not room:
                yield places_of(lot)
                lot, room = [], most
    if lot:
        yield places_of(lot)
