"""What the block device itself costs a request, from ring to used: `python bench/virtio.py`.

4 KiB reads of random sectors, each chain with buffers of its own, on a uffd-window memory (every access goes through
the kernel, which checks it) or, where that is missing, on a plain mapping. The transfer to the disk is left out: the
plain devices' is answered at once; the device, which makes it within its compiled pass, reads /dev/zero, and what those
reads take by themselves is measured beside it and subtracted. The time is the thread's own on the CPU, so that a busy
machine disturbs it little. Beside the device, in turn with it, two plain ones in Python: a guarded accessor for each
field, and the mapping touched directly, where a private page would kill them.
"""

import os
import statistics
import struct
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from pagewarden.abi.virtio import VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_VERSION_1, VIRTQ_DESC_F_INDIRECT
from pagewarden.abi.virtio_blk import VIRTIO_BLK_F_FLUSH
from pagewarden.memory import PageRange, PrivateMemory, Unavailable, Window
from pagewarden.port import Buffer
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.driver import Driver
from pagewarden.virtio.ring import Ring

FEATURES = sum(1 << bit for bit in (VIRTIO_F_VERSION_1, VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_BLK_F_FLUSH))
SIZE, BLOCK, MEMORY = 512, 4096, 8 << 20
DESC = struct.Struct("<QIHH")
ROUNDS, LEAST = 9, 20_000_000


class NoDisk:
    """The window, but a transfer between memory and disk is over at once."""

    def __init__(self, window: Window) -> None:
        self.size, self.memory = window.size, window.memory
        self.read, self.write, self.read_into = window.read, window.write, window.read_into

    def pread_from(self, fd: int, file_offset: int, segments: Sequence[tuple[int, int]]) -> int:
        return BLOCK * len(segments)

    pwrite_to = pread_from


class Direct(NoDisk):
    """Reads and writes touch the mapping."""

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self.read = lambda offset, length: bytes(self.memory[offset : offset + length])
        self.write = self._write

    def _write(self, offset: int, data: Buffer) -> None:
        self.memory[offset : offset + len(data)] = data


class PlainDevice:
    """The same work, one descriptor at a time: direct or indirect chains of header, data, status."""

    def __init__(self, view: NoDisk, ring: Ring, sectors: int) -> None:
        self._view, self._ring, self._sectors, self._done = view, ring, sectors, 0

    def process(self) -> int:
        view, ring, begun = self._view, self._ring, self._done
        (index,) = struct.unpack("<H", view.read(ring.avail + 2, 2))
        while self._done != index:
            (head,) = struct.unpack("<H", view.read(ring.avail + 4 + 2 * (self._done % ring.size), 2))
            length = self._serve(head)
            view.write(ring.used + 4 + 8 * (self._done % ring.size), struct.pack("<II", head, length))
            self._done = self._done + 1 & 0xFFFF
        view.write(ring.used + 2, struct.pack("<H", self._done))
        view.write(ring.avail_event, struct.pack("<H", self._done))
        view.read(ring.avail + 2, 2), view.read(ring.used_event, 2)
        return self._done - begun & 0xFFFF

    def _chain(self, head: int) -> list[tuple[int, int, int]]:
        table, limit, index = self._ring.desc, self._ring.size, head
        chain: list[tuple[int, int, int]] = []
        while len(chain) < limit:
            addr, length, flags, after = DESC.unpack(self._view.read(table + 16 * index, 16))
            if not length or addr + length > self._view.size:
                raise ValueError("a descriptor beyond the memory")
            if flags & VIRTQ_DESC_F_INDIRECT:
                table, limit, index = addr, length // 16, 0
                continue
            chain.append((addr, length, flags))
            if not flags & 1:
                break
            index = after
        return chain

    def _serve(self, head: int) -> int:
        (header, _, _), (data, length, _), (status, _, _) = self._chain(head)
        kind, _, sector = struct.unpack("<IIQ", self._view.read(header, 16))
        good = kind == 0 and sector + length // 512 <= self._sectors
        if good:
            self._view.pread_from(-1, sector * 512, [(data, length)])
        self._view.write(status, b"\0" if good else b"\1")
        return length + 1


def rings(
    window: Window, indirect: bool, kind: int = 0, blocks: int | None = None
) -> tuple[Ring, Callable[[int], None]]:
    """A ring whose entries are all made, for so many of the disk's blocks; the function makes so many more available.
    kind: VIRTIO_BLK_T_*, in or out."""
    ring = Ring.placed(SIZE, 0)
    driver = Driver(window, ring, event_idx=True)
    place = -(-(ring.avail_event + 2) // 4096) * 4096
    chains = SIZE if indirect else SIZE // 4
    sectors = np.random.default_rng(7).permutation(blocks or chains).tolist()
    buffers = -(-(place + 128 * chains) // BLOCK) * BLOCK
    for n in range(chains):
        header, data = place + 128 * n, (buffers + BLOCK * n, BLOCK)
        window.write(header, struct.pack("<IIQ", kind, 0, sectors[n] * 8))
        parts = ([(header, 16)], [data, (header + 16, 1)]) if kind == 0 else ([(header, 16), data], [(header + 16, 1)])
        driver.add_chain(*parts, header + 32 if indirect else None)
    entries = window.read(ring.avail + 4, 2 * chains)
    window.write(ring.avail + 4, entries * (SIZE // chains))
    memory, index = window.memory, 0

    def post(count: int) -> None:
        nonlocal index
        index = index + count & 0xFFFF
        memory[ring.avail + 2 : ring.avail + 4] = struct.pack("<H", index)

    return ring, post


def measure(process: Callable[[], object], post: Callable[[int], None], batch: int) -> float:
    """Nanoseconds a request, of this thread's CPU time: others of the machine do not count, unless they slow it."""
    count = 1
    while (spent := rounds(process, post, batch, count)) < LEAST:
        count *= 2
    return (spent - rounds(lambda: None, post, 0, count)) / (count * batch)


def rounds(process: Callable[[], object], post: Callable[[int], None], batch: int, count: int) -> int:
    begin = time.thread_time_ns()
    for _ in range(count):
        post(batch)
        process()
    return time.thread_time_ns() - begin


def transfers(window: Window, image: int) -> None:
    """The same with the file read for good, beside nothing but the reads."""
    table: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        ring, post = rings(window, False)
        device = BlockDevice(window, Disk(image), queue_size=SIZE)
        device.resume(FEATURES, {0: ring})
        table[0].append(measure(partial(device.process, 0), post, 32))
        device.close()
        offsets = (np.random.default_rng(7).permutation(SIZE)[:32] * BLOCK).tolist()
        parts = [[window.memory[BLOCK * n : BLOCK * (n + 1)]] for n in range(512, 544)]
        table[1].append(measure(partial(bare, image, parts, offsets), lambda count: None, 32))
    middle = [statistics.median(column) for column in table]
    print(
        f"\nwith the file read (page cache), batches of 32: {middle[0]:.0f} ns a request; "
        f"preadv from Python alone: {middle[1]:.0f}; ratio {middle[0] / middle[1]:.2f}"
    )


def bare(file: int, parts: list[list[memoryview]], offsets: list[int]) -> None:
    for part, offset in zip(parts, offsets, strict=True):
        os.preadv(file, part, offset)


def processor(kind: int, window: Window, ring: Ring, disk: Disk) -> tuple[Callable[[], object], Callable[[], object]]:
    """What serves the ring, and what ends it."""
    if kind:
        return PlainDevice((NoDisk, Direct)[kind - 1](window), ring, disk.capacity).process, lambda: None
    device = BlockDevice(window, disk, queue_size=SIZE)
    device.resume(FEATURES, {0: ring})
    return partial(device.process, 0), device.close


def reading(window: Window, file: int) -> float:
    """Nanoseconds of one of the device's reads, by the same compiled call, many at once."""
    count = 1000
    runs = np.array([[0, 0, n % 512, n % 512 + 1] for n in range(count)], np.int64)
    places = np.array([[MEMORY // 2 + BLOCK * n for n in range(512)], [BLOCK] * 512], np.int64)
    begin = time.thread_time_ns()
    for _ in range(20):
        assert window.transfer(file, runs, places) == count
    return (time.thread_time_ns() - begin) / (20 * count)


def row(window: Window, zeroes: Disk, indirect: bool, batch: int) -> None:
    table: list[list[float]] = [[], [], []]
    for _ in range(ROUNDS):
        for kind in range(3):
            ring, post = rings(window, indirect)
            process, close = processor(kind, window, ring, zeroes)
            table[kind].append(measure(process, post, batch) - (0 if kind else reading(window, zeroes.fd)))
            close()
    middle = [statistics.median(column) for column in table]
    cells = [f"{m:.0f} ({min(c):.0f}-{max(c):.0f})" for m, c in zip(middle, table, strict=True)]
    print(
        f"{'indirect' if indirect else 'direct':10} {batch:5} {cells[0]:>18} {cells[1]:>22} {cells[2]:>20}"
        f" {middle[1] / middle[0]:9.1f} {middle[2] / middle[0]:7.1f}"
    )


def main() -> None:
    try:
        memory = PrivateMemory(MEMORY, "uffd-window")
    except Unavailable as missing:
        print(f"no uffd-window here ({missing}): plain memory")
        memory = PrivateMemory(MEMORY, "memfd")
    memory.share(PageRange(0, MEMORY // 4096))
    image = os.memfd_create("image")
    os.pwrite(image, bytes(SIZE * BLOCK), 0)
    zeroes = Disk(os.open("/dev/zero", os.O_RDONLY))
    zeroes.capacity = SIZE * 8
    print(
        f"backing {memory.backing}, {BLOCK} B random reads, queue of {SIZE}; ns of CPU a request without the "
        f"transfer, median of {ROUNDS} (spread)"
    )
    print(f"{'chains':10} {'batch':>5} {'device':>18} {'plain, guarded':>22} {'plain, direct':>20} {'ratios':>17}")
    for indirect in (False, True):
        for batch in (1, 8, 32, 128):
            row(memory.window, zeroes, indirect, batch)
    transfers(memory.window, image)


if __name__ == "__main__":
    main()
