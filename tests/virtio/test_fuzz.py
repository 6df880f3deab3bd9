"""Rings made of dice: whatever they hold, the device does what the plain one does, byte for byte, or refuses as well.

Both are compared whole, after refusals too. PAGEWARDEN_LONG=1 runs more than a million chains.
"""

import itertools
import os
import struct
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from pagewarden.memory import PageRange, PrivateMemory
from pagewarden.port import HostView
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.virtio.ring import Ring
from pagewarden.vocab import PAGE_SIZE
from plain_device import NeedsReset, PlainDevice
from virtio_kit import DEFAULT, FakeView, image_disk, image_file

image, disk = pytest.fixture(image_file), pytest.fixture(image_disk)
CHAINS = 1_100_000 if os.environ.get("PAGEWARDEN_LONG") == "1" else 20_000
MEMORY, IMAGE = 64 * PAGE_SIZE, 64 << 10
BUFFERS = 4 * PAGE_SIZE
"""Rings lie below, everything else from here on; some of the pages are private."""
LONGEST = 64
KINDS = [0, 0, 0, 0, 1, 1, 1, 4, 8, 11, 13, 13, 2, 99]
SIZES = [1, 2, 4, 8, 16, 32, 64]


class Dice:
    """Random rings: mostly right, then spoiled in a few places, or not."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def below(self, limit: int) -> int:
        return int(self.rng.integers(limit))

    def place(self, length: int) -> int:
        return BUFFERS + self.below(max(1, MEMORY - BUFFERS - length))

    def cut(self, start: int, length: int) -> list[tuple[int, int]]:
        edges = sorted({0, length, *(self.rng.integers(1, length, self.below(3)).tolist() if length > 1 else [])})
        return [(start + a, b - a) for a, b in itertools.pairwise(edges)]

    def request(self, memory: bytearray) -> list[tuple[int, int, int]]:
        """The descriptors of a request whose bytes are in place: (gpa, bytes, flags)."""
        kind = KINDS[self.below(len(KINDS))]
        sectors = 1 + self.below(4)
        out, into = {0: (0, 512 * sectors), 1: (512 * sectors, 0), 8: (0, 20)}.get(kind, (0, 0))
        data = self.rng.bytes(out)
        if kind in (11, 13):
            ranges = [(self.below(130), self.below(4), self.below(20) == 0) for _ in range(1 + sectors // 4)]
            data = b"".join(struct.pack("<QII", *one) for one in ranges)
        header = struct.pack("<IIQ", kind, 0, self.below(IMAGE // 512 + 1)) + data
        readable, writable = self.place(len(header)), self.place(into + 1)
        memory[readable : readable + len(header)] = header
        return [(*part, 0) for part in self.cut(readable, len(header))] + [
            (*part, 2) for part in self.cut(writable, into + 1)
        ]

    def link(self, memory: bytearray, table: int, parts: list[tuple[int, int, int]], indices: list[int]) -> None:
        for (gpa, length, flags), index, after in zip(parts, indices, [*indices[1:], -1], strict=True):
            more = (flags, 0) if after < 0 else (flags | 1, after)
            struct.pack_into("<QIHH", memory, table + 16 * index, gpa, length, *more)

    def fill(self, memory: bytearray, ring: Ring, done: int) -> int:
        """Make chains until the descriptors are used up or luck ends; how many. Indices begin at done."""
        free = self.rng.permutation(ring.size).tolist()
        count = 0
        while free and self.below(30):
            parts = self.request(memory)
            if self.below(3) == 0:
                table = self.place(16 * len(parts))
                self.link(memory, table, parts, list(range(len(parts))))
                parts = [(table, 16 * len(parts), 4)]
            if len(parts) > len(free):
                break
            indices = [free.pop() for _ in parts]
            self.link(memory, ring.desc, parts, indices)
            struct.pack_into("<H", memory, ring.avail + 4 + 2 * ((done + count) % ring.size), indices[0])
            count += 1
        struct.pack_into("<H", memory, ring.avail + 2, done + count & 0xFFFF)
        struct.pack_into("<H", memory, ring.used + 2, done)
        return count

    def spoil(self, memory: bytearray, ring: Ring) -> None:
        """A few bytes of table, avail ring or buffers become other ones."""
        spots = [(ring.desc, 16 * ring.size), (ring.avail, 6 + 2 * ring.size), (BUFFERS, MEMORY - BUFFERS)]
        for _ in range(self.below(4)):
            start, length = spots[min(self.below(8) // 2, 2) if self.below(3) else 0]
            at = start + self.below(length)
            memory[at] = (memory[at] ^ 1 << self.below(8)) if self.below(2) else self.below(256)


Make = Callable[[bytes, set[int]], tuple[HostView, Callable[[], bytes]]]
"""A view of a memory with these bytes and private pages, and what tells its bytes afterwards, private ones too."""


def fake(memory: bytes, private: set[int]) -> tuple[HostView, Callable[[], bytes]]:
    view = FakeView(MEMORY)
    view.bytes[:] = np.frombuffer(memory, np.uint8)
    view.private = private
    return view, view.bytes.tobytes


def compare(dice: Dice, disk: Disk, outcomes: Counter[str], make: Make = fake) -> int:
    """One ring through both devices; how many chains it had."""
    ring = Ring.placed(SIZES[dice.below(len(SIZES))], 16 * dice.below(64))
    memory = bytearray(dice.rng.bytes(MEMORY))
    done = dice.below(1 << 16) if dice.below(2) else 0xFFFF - dice.below(4)
    count = dice.fill(memory, ring, done)
    if dice.below(3):
        dice.spoil(memory, ring)
    private = {BUFFERS // PAGE_SIZE + dice.below(60)} if dice.below(4) == 0 else set()
    view, content = make(bytes(memory), private)
    before = os.pread(disk.fd, 2 * IMAGE, 0)
    device = BlockDevice(view, disk, queue_size=LONGEST)
    device.resume(DEFAULT, {0: ring})
    struct.pack_into("<H", memory, ring.avail_event, int.from_bytes(view.read(ring.used + 2, 2), "little"))
    plain = PlainDevice(bytes(memory), before, ring, LONGEST, private, done)
    try:
        expected = plain.process()
        outcomes["served"] += expected[0]
        assert device.process(0)[::2] == expected
    except NeedsReset as why:
        outcomes[str(why)] += 1
        with pytest.raises(DeviceNeedsReset):
            device.process(0)
    assert content() == plain.memory and os.pread(disk.fd, 2 * IMAGE, 0) == plain.disk
    device.close()
    return max(count, 1)


def test_any_ring_is_served_as_the_plain_device_does_or_refused(disk: Disk) -> None:
    chains, seed, outcomes = 0, 0, Counter[str]()
    while chains < CHAINS:
        try:
            chains += compare(Dice(seed), disk, outcomes)
        except BaseException:
            print(f"seed {seed}")
            raise
        seed += 1
    print(f"{seed} rings: {dict(outcomes)}")
    assert outcomes["served"] > CHAINS // 8
    assert {"index", "order", "sizes", "private", "place", "table", "nested"} <= outcomes.keys()


def test_the_window_makes_no_difference(disk: Disk) -> None:
    memory = PrivateMemory(MEMORY, "uffd-window")

    def window(content: bytes, private: set[int]) -> tuple[HostView, Callable[[], bytes]]:
        for page in range(MEMORY // PAGE_SIZE):
            if memory.is_shared(page) == (page in private):
                (memory.unshare if page in private else memory.share)(PageRange(page, page + 1))
        memory.private_write(0, content)
        return memory.window, lambda: memory.private_read(0, MEMORY)

    with memory:
        outcomes = Counter[str]()
        for seed in range(500):
            compare(Dice(seed), disk, outcomes, window)
    assert outcomes["served"] > 500 and outcomes["private"]


def test_pages_of_pure_noise_do_no_harm(disk: Disk) -> None:
    """Bytes without any sense: refused, or, where the indices happen to agree, nothing to do."""
    rng = np.random.default_rng(2)
    before = os.pread(disk.fd, 2 * IMAGE, 0)
    for _ in range(CHAINS // 100):
        view = FakeView(MEMORY)
        view.bytes[:] = np.frombuffer(rng.bytes(MEMORY), np.uint8)
        ring = Ring.placed(int(rng.choice(SIZES)), 0)
        noise = view.bytes[ring.desc : ring.desc + 16 * ring.size].view("<u2")
        noise[:] = rng.choice([0, 1, 2, 3, 4, 16, 512, 0xFFFF], len(noise))
        used = int.from_bytes(view.read(ring.used + 2, 2), "little")
        view.write(ring.avail + 2, (used + 1 & 0xFFFF).to_bytes(2, "little"))
        device = BlockDevice(view, disk, queue_size=LONGEST)
        device.resume(DEFAULT, {0: ring})
        was = view.bytes.tobytes()
        try:
            device.process(0)
        except DeviceNeedsReset:
            assert view.bytes.tobytes() == was
        device.close()
    assert os.pread(disk.fd, 2 * IMAGE, 0) == before
