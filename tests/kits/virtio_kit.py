"""A memory that refuses private pages, and a rig: driver, device and disk around it."""

import errno
import itertools
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pagewarden.abi import virtio, virtio_blk
from pagewarden.port import Buffer, HostView
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.driver import Driver, Used
from pagewarden.virtio.queue import Processed
from pagewarden.virtio.ring import Ring
from pagewarden.vocab import PAGE_SIZE, PrivateAccess

SECTOR = virtio_blk.SECTOR
IN, OUT, FLUSH = virtio_blk.VIRTIO_BLK_T_IN, virtio_blk.VIRTIO_BLK_T_OUT, virtio_blk.VIRTIO_BLK_T_FLUSH
OK, IOERR, UNSUPP = virtio_blk.VIRTIO_BLK_S_OK, virtio_blk.VIRTIO_BLK_S_IOERR, virtio_blk.VIRTIO_BLK_S_UNSUPP
INDIRECT, EVENT, V1 = (
    1 << bit for bit in (virtio.VIRTIO_F_INDIRECT_DESC, virtio.VIRTIO_F_EVENT_IDX, virtio.VIRTIO_F_VERSION_1)
)
DEFAULT = (
    V1
    | INDIRECT
    | EVENT
    | sum(
        1 << bit
        for bit in (
            virtio_blk.VIRTIO_BLK_F_FLUSH,
            virtio_blk.VIRTIO_BLK_F_DISCARD,
            virtio_blk.VIRTIO_BLK_F_WRITE_ZEROES,
        )
    )
)


class FakeView:
    """port.HostView over an array of bytes; pages in `private` do not answer, as the kernel's copies would not."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.bytes = np.zeros(size, np.uint8)
        self.private: set[int] = set()

    def answering(self, offset: int, length: int) -> int:
        """Bytes before the first private page."""
        if not 0 <= offset <= offset + length <= self.size:
            raise ValueError(f"[{offset}, {offset + length}) is not in {self.size} bytes")
        for page in range(offset // PAGE_SIZE, -(-(offset + length) // PAGE_SIZE)):
            if page in self.private:
                return max(0, page * PAGE_SIZE - offset)
        return length

    def _check(self, offset: int, length: int) -> None:
        good = self.answering(offset, length)
        if good < length:
            raise PrivateAccess(errno.EFAULT, "private", offset + good)

    def read(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        return self.bytes[offset : offset + length].tobytes()

    def write(self, offset: int, data: Buffer) -> None:
        self._check(offset, len(data))
        self.bytes[offset : offset + len(data)] = np.frombuffer(data, np.uint8)

    def read_into(self, offset: int, target: Buffer) -> None:
        memoryview(target).cast("B")[:] = self.read(offset, len(target))

    def _parts(self, segments: Sequence[tuple[int, int]]) -> tuple[list[memoryview], int | None]:
        """What answers, in order, and where that ends."""
        parts = []
        for offset, length in segments:
            good = self.answering(offset, length)
            parts.append(self.bytes[offset : offset + good].data)
            if good < length:
                return parts, offset + good
        return parts, None

    def pread_from(self, fd: int, file_offset: int, segments: Sequence[tuple[int, int]]) -> int:
        parts, stop = self._parts(segments)
        moved = os.preadv(fd, parts, file_offset)
        if stop is not None:
            raise PrivateAccess(errno.EFAULT, "private", stop)
        return moved

    def pwrite_to(self, fd: int, file_offset: int, segments: Sequence[tuple[int, int]]) -> int:
        parts, stop = self._parts(segments)
        moved = os.pwritev(fd, parts, file_offset)
        if stop is not None:
            raise PrivateAccess(errno.EFAULT, "private", stop)
        return moved


class VectoredFake(FakeView):
    """port.VectoredView, place by place."""

    def gather(self, places: NDArray[np.int64], count: int, target: NDArray[np.uint8]) -> None:
        data = b"".join([self.read(*place) for place in places[:, :count].T.tolist()])
        target[: len(data)] = np.frombuffer(data, np.uint8)[: len(target)]

    def scatter(self, places: NDArray[np.int64], count: int, data: NDArray[np.uint8]) -> None:
        for offset, length in places[:, :count].T.tolist():
            self.write(offset, data[:length].tobytes())
            data = data[length:]

    def transfer(self, fd: int, runs: NDArray[np.int64], places: NDArray[np.int64]) -> int:
        for done, (direction, offset, first, stop) in enumerate(runs[:, :4].tolist()):
            segments = list(zip(*places[:, first:stop].tolist(), strict=True))
            try:
                call = (self.pread_from, self.pwrite_to)[direction]
                if call(fd, offset, segments) != sum(length for _, length in segments):
                    return done
            except (IndexError, OSError, PrivateAccess):
                return done
        return len(runs)

    def add16(self, offset: int, amount: int) -> None:
        self.write(offset, (int.from_bytes(self.read(offset, 2), "little") + amount & 0xFFFF).to_bytes(2, "little"))


def request(kind: int, sector: int) -> bytes:
    """A virtio_blk_req."""
    return struct.pack("<IIQ", kind & 0xFFFFFFFF, 0, sector & (1 << 64) - 1)


class Arena:
    """Buffers one after the other from a start, with gaps that nobody names."""

    def __init__(self, start: int, gap: int = 64) -> None:
        self._next, self._gap = start, gap

    def take(self, length: int, alignment: int = 1) -> int:
        start = -(-self._next // alignment) * alignment
        self._next = start + length + self._gap
        return start


class Rig:
    """A driver and a device with one queue or more, on one view; every chain has buffers of its own."""

    def __init__(
        self,
        view: HostView,
        disk: Disk,
        features: int = DEFAULT,
        size: int = 16,
        queues: int = 1,
        here: bool = True,
    ) -> None:
        """here: the device serves in this process."""
        self.view, self.disk, self.features = view, disk, features
        rings = PAGE_SIZE
        self.rings: dict[int, Ring] = {}
        self.drivers: list[Driver] = []
        for index in range(queues):
            ring = Ring.placed(size, rings)
            self.rings[index] = ring
            self.drivers.append(Driver(view, ring, bool(features & EVENT)))
            rings = -(-(ring.avail_event + 2) // PAGE_SIZE) * PAGE_SIZE
        self.start = rings
        self.arena = Arena(rings)
        self.device = BlockDevice(view, disk, queues, max(size, 16))
        if here:
            self.device.resume(features, self.rings)

    def post(
        self,
        kind: int,
        sector: int,
        out: bytes = b"",
        into: int = 0,
        queue: int = 0,
        indirect: bool = False,
        cuts: Sequence[int] = (),
    ) -> "Posted":
        """Make a request available, its bytes cut into descriptors at these places; not yet published."""
        header = request(kind, sector) + out
        start, writable = self.arena.take(len(header)), self.arena.take(into + 1)
        self.view.write(start, header)
        self.view.write(writable, b"\xee" * (into + 1))
        readable, writables = pieces(start, len(header), cuts), pieces(writable, into + 1, cuts)
        table = self.arena.take(16 * (len(readable) + len(writables)), 16) if indirect else None
        head = self.drivers[queue].add_chain(readable, writables, table)
        return Posted(self.view, head, writable, into)

    def serve(self, queue: int = 0) -> tuple[Processed, list[Used]]:
        """Publish, process, reap."""
        self.drivers[queue].publish()
        processed = self.device.process(queue)
        return processed, self.drivers[queue].reap()

    def do(self, kind: int, sector: int, out: bytes = b"", into: int = 0) -> tuple[int, bytes, int]:
        """One request: status, data, used length."""
        posted = self.post(kind, sector, out, into)
        _, (used,) = self.serve()
        return posted.status, posted.data, used.length


class Posted:
    """A request on its way: where its answer goes."""

    def __init__(self, view: HostView, head: int, writable: int, into: int) -> None:
        self._view, self.head, self._writable, self._into = view, head, writable, into

    @property
    def data(self) -> bytes:
        return self._view.read(self._writable, self._into)

    @property
    def status(self) -> int:
        return self._view.read(self._writable + self._into, 1)[0]


def pieces(start: int, length: int, cuts: Sequence[int]) -> list[tuple[int, int]]:
    """[start, start + length) cut at these offsets that fall inside."""
    edges = sorted({0, length, *(cut for cut in cuts if 0 < cut < length)})
    return [(start + a, b - a) for a, b in itertools.pairwise(edges)]


def image_file(tmp_path: Path) -> Iterator[int]:
    """For a fixture `image`: an image of 64 KiB with different bytes in each sector."""
    fd = os.open(tmp_path / "image", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, np.random.default_rng(1).bytes(64 << 10), 0)
    yield fd
    os.close(fd)


def image_disk(image: int) -> Disk:
    return Disk(image, serial="disk-1")


def plain_rig(disk: Disk) -> Iterator[Rig]:
    made = Rig(FakeView(1 << 20), disk)
    yield made
    made.device.close()
