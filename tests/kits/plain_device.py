"""The block device once more, as slowly and plainly as its rules read: what the compiled one is compared with."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pagewarden.virtio.requests import REQUEST_MAX
from pagewarden.virtio.ring import Ring
from pagewarden.vocab import PAGE_SIZE
from virtio_kit import FLUSH, IN, IOERR, OK, OUT, SECTOR, UNSUPP

GET_ID, DISCARD, ZEROES = 8, 11, 13
NEXT, WRITE, INDIRECT = 1, 2, 4
Segments = list[tuple[int, int]]


class NeedsReset(Exception):
    """The ring is bad."""


@dataclass
class Asked:
    """A request: its head, header, data both ways, and where the status goes."""

    head: int
    header: bytes
    out: Segments
    into: Segments
    status: int


class PlainDevice:
    """One queue with indirect tables and event indices; it works on copies of memory and disk."""

    def __init__(self, memory: bytes, disk: bytes, ring: Ring, longest: int, private: set[int], done: int) -> None:
        self.memory, self.disk = bytearray(memory), bytearray(disk)
        self.ring, self.longest, self.private, self.done = ring, longest, private, done
        self._seen: set[int] = set()

    def process(self) -> tuple[int, bool]:
        """Batch after batch, for data may land in the ring and make more: how many requests, and whether more wait.

        NeedsReset, with memory and disk as the last good batch left them."""
        completed = 0
        while True:
            completed += self._batch(self._waiting())
            more = self._waiting() > 0
            if not more or completed >= self.ring.size:
                return completed, more

    def _waiting(self) -> int:
        index: int = struct.unpack_from("<H", self.memory, self.ring.avail + 2)[0]
        waiting = index - self.done & 0xFFFF
        if waiting > self.ring.size:
            raise NeedsReset("index")
        return waiting

    def _batch(self, waiting: int) -> int:
        self._seen.clear()
        asked = [self._ask(self.done + n) for n in range(waiting)]
        answers = [self._serve(one) for one in asked]
        for one, (status, _) in zip(asked, answers, strict=True):
            self.memory[one.status] = status
        for n, (one, (_, length)) in enumerate(zip(asked, answers, strict=True)):
            place = self.ring.used + 4 + 8 * ((self.done + n) % self.ring.size)
            struct.pack_into("<II", self.memory, place, one.head, length)
        if waiting:
            used = struct.unpack_from("<H", self.memory, self.ring.used + 2)[0]
            self.done = self.done + waiting & 0xFFFF
            struct.pack_into("<H", self.memory, self.ring.avail_event, self.done)
            struct.pack_into("<H", self.memory, self.ring.used + 2, used + waiting & 0xFFFF)
        return waiting

    def _ask(self, entry: int) -> Asked:
        (head,) = struct.unpack_from("<H", self.memory, self.ring.avail + 4 + 2 * (entry % self.ring.size))
        readable: Segments = []
        writable: Segments = []
        for addr, length, flags in self._chain(head):
            self._good(addr, length)
            if flags & WRITE:
                writable.append((addr, length))
            elif writable:
                raise NeedsReset("order")
            else:
                readable.append((addr, length))
        bytes_out, bytes_in = size(readable), size(writable)
        if bytes_out < 16 or bytes_in == 0 or bytes_out - 16 + bytes_in - 1 > REQUEST_MAX:
            raise NeedsReset("sizes")
        for addr, length in readable + writable:
            if any(page in self.private for page in range(addr // PAGE_SIZE, (addr + length - 1) // PAGE_SIZE + 1)):
                raise NeedsReset("private")
        last, length = writable[-1]
        return Asked(
            head, self._read(first(readable, 16)), after(readable, 16), first(writable, bytes_in - 1), last + length - 1
        )

    def _good(self, addr: int, length: int) -> None:
        if length == 0 or addr + length > len(self.memory):
            raise NeedsReset("place")

    def _chain(self, head: int) -> Iterator[tuple[int, int, int]]:
        index, count = head, 0
        while True:
            if index >= self.ring.size or index in self._seen:
                raise NeedsReset("index")
            self._seen.add(index)
            addr, length, flags, after = struct.unpack_from("<QIHH", self.memory, self.ring.desc + 16 * index)
            count += 1
            if flags & INDIRECT:
                self._good(addr, length)
                if flags & NEXT or length % 16 or count - 1 + length // 16 > self.longest:
                    raise NeedsReset("table")
                if any(page in self.private for page in range(addr // PAGE_SIZE, (addr + length - 1) // PAGE_SIZE + 1)):
                    raise NeedsReset("private")
                yield from self._table(addr, length // 16)
                return
            yield addr, length, flags
            if not flags & NEXT:
                return
            index = after

    def _table(self, place: int, entries: int) -> Iterator[tuple[int, int, int]]:
        index, seen = 0, set()
        while True:
            if index >= entries or index in seen:
                raise NeedsReset("index")
            seen.add(index)
            addr, length, flags, after = struct.unpack_from("<QIHH", self.memory, place + 16 * index)
            if flags & INDIRECT:
                raise NeedsReset("nested")
            yield addr, length, flags
            if not flags & NEXT:
                return
            index = after

    def _serve(self, one: Asked) -> tuple[int, int]:
        """Status and used length."""
        kind, _, sector = struct.unpack("<IIQ", one.header)
        status, filled = OK, 0
        if kind in (IN, OUT):
            segments = one.into if kind == IN else one.out
            length = size(segments)
            if length == 0 or length % SECTOR or sector * SECTOR + length > len(self.disk):
                status = IOERR
            elif kind == IN:
                self._write(segments, bytes(self.disk[sector * SECTOR : sector * SECTOR + length]))
                filled = length
            else:
                self.disk[sector * SECTOR : sector * SECTOR + length] = self._read(segments)
        elif kind == GET_ID:
            if size(one.into) < 20:
                status = IOERR
            else:
                self._write(first(one.into, 20), b"disk-1".ljust(20, b"\0"))
                filled = 20
        elif kind in (DISCARD, ZEROES):
            status = self._range(kind, one.out)
        elif kind != FLUSH:
            status = UNSUPP
        return status, filled + 1 if filled == size(one.into) else filled

    def _range(self, kind: int, segments: Segments) -> int:
        if size(segments) > 16:
            return UNSUPP
        if size(segments) < 16:
            return IOERR
        sector, count, flags = struct.unpack("<QII", self._read(segments))
        if flags & ~(kind == ZEROES):
            return UNSUPP
        if count > 8192 or (sector + count) * SECTOR > len(self.disk):
            return IOERR
        self.disk[sector * SECTOR : (sector + count) * SECTOR] = bytes(count * SECTOR)
        return OK

    def _read(self, segments: Segments) -> bytes:
        return b"".join(self.memory[addr : addr + length] for addr, length in segments)

    def _write(self, segments: Segments, data: bytes) -> None:
        for addr, length in segments:
            self.memory[addr : addr + length] = data[:length]
            data = data[length:]


def size(segments: Segments) -> int:
    return sum(length for _, length in segments)


def first(segments: Segments, length: int) -> Segments:
    kept = []
    for addr, n in segments:
        if length:
            kept.append((addr, min(n, length)))
        length -= min(n, length)
    return kept


def after(segments: Segments, skip: int) -> Segments:
    kept = []
    for addr, n in segments:
        if n > skip:
            kept.append((addr + skip, n - skip))
        skip -= min(n, skip)
    return kept
