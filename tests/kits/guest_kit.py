"""What tests of guest programs share: a plain memory, a small block device, and a record of what the guest said."""

import ctypes
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import strategies as st

from pagewarden.abi.virtio_blk import SECTOR
from pagewarden.guest import pattern, watchdog
from pagewarden.guest.hypercalls import GuestReport
from pagewarden.guest.interpret import interpret
from pagewarden.guest.layout import Layout
from pagewarden.guest.listing import Code, assemble
from pagewarden.guest.program import Program, image, program
from pagewarden.guest.serve import Guest, serve
from pagewarden.guest.unicorn_cpu import UnicornCpu
from pagewarden.guest.warden import Warden
from pagewarden.port import Buffer, Cpu, HostView, Listener
from pagewarden.vocab import PAGE_SIZE, GuestStopped, PageRange, PrivateAccess

SECTORS = 512


class PlainMemory:
    """port.Memory without a kernel's guard: a table of shared pages, and a window that obeys it."""

    backing = "plain"

    def __init__(self, size: int) -> None:
        self.size = size
        self.bytes = mmap.mmap(-1, size)
        self.guest_address = ctypes.addressof(ctypes.c_char.from_buffer(self.bytes))
        self.shared = bytearray(size // PAGE_SIZE)
        self.window = PlainWindow(self)

    def populate(self, offset: int, data: Buffer) -> None:
        self.bytes[offset : offset + len(data)] = bytes(data)

    def share(self, pages: PageRange) -> None:
        self.shared[pages.start : pages.stop] = b"\1" * pages.count

    def unshare(self, pages: PageRange) -> None:
        self.shared[pages.start : pages.stop] = bytes(pages.count)

    def punch(self, pages: PageRange) -> None: ...
    def is_shared(self, page: int) -> bool:
        return bool(self.shared[page])

    def subscribe(self, listener: Listener) -> None: ...
    def statistics(self) -> dict[str, int]:
        return {}

    def close(self) -> None: ...


class PlainWindow:
    """port.HostView, as far as the small device needs it."""

    def __init__(self, memory: PlainMemory) -> None:
        self._memory, self.size = memory, memory.size

    def _check(self, offset: int, length: int) -> None:
        for page in range(offset // PAGE_SIZE, -(-(offset + length) // PAGE_SIZE)):
            if not 0 <= page < len(self._memory.shared) or not self._memory.shared[page]:
                raise PrivateAccess(14, "the page is private", page * PAGE_SIZE)

    def read(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        return self._memory.bytes[offset : offset + length]

    def write(self, offset: int, data: Buffer) -> None:
        self._check(offset, len(data))
        self._memory.bytes[offset : offset + len(data)] = bytes(data)

    def read_into(self, offset: int, target: Buffer) -> None:
        raise NotImplementedError

    def pread_from(self, fd: int, file_offset: int, segments: object) -> int:
        raise NotImplementedError

    def pwrite_to(self, fd: int, file_offset: int, segments: object) -> int:
        raise NotImplementedError


class SmallDevice:
    """A block device that serves chains of three descriptors through the window, with the disk in memory."""

    def __init__(self, window: HostView, layout: Layout, disk: bytearray) -> None:
        self._window, self._layout, self.disk = window, layout, disk
        self._next = 0

    def process(self, _queue: int = 0) -> None:
        (posted,) = struct.unpack("<H", self._window.read(self._layout.avail + 2, 2))
        while self._next & 0xFFFF != posted:
            ring = self._layout.avail + 4 + 2 * (self._next % self._layout.queue)
            (head,) = struct.unpack("<H", self._window.read(ring, 2))
            used = self._serve(head)
            place = self._layout.used + 4 + 8 * (self._next % self._layout.queue)
            self._window.write(place, struct.pack("<II", head, used))
            self._next += 1
        self._window.write(self._layout.used + 2, struct.pack("<H", posted))

    def _serve(self, head: int) -> int:
        chain = [
            struct.unpack("<QIHH", self._window.read(self._layout.shared + 16 * n, 16)) for n in range(head, head + 3)
        ]
        (header, _, _, _), (data, length, flags, _), (status, _, _, _) = chain
        kind, _, sector = struct.unpack("<IIQ", self._window.read(header, 16))
        at = sector * SECTOR
        assert (kind == 1) == (not flags & 2)
        if kind == 1:
            self.disk[at : at + length] = self._window.read(data, length)
        else:
            self._window.write(data, bytes(self.disk[at : at + length]))
        self._window.write(status, b"\0")
        return 1 if kind == 1 else length + 1


class Recorder:
    """A hypervisor that passes everything on and keeps the record."""

    def __init__(self, behind: Warden) -> None:
        self.behind = behind
        self.said: list[tuple[object, ...]] = []

    def hypercall(self, number: int, arguments: tuple[int, int, int]) -> int:
        self.said.append((number, *arguments))
        return self.behind.hypercall(number, arguments)

    def doorbell(self, queue: int) -> None:
        self.said.append(("doorbell", queue))
        self.behind.doorbell(queue)


class World(Recorder):
    """Recorder and memory: what the interpreter runs against."""

    def __init__(self, behind: Warden, memory: PlainMemory) -> None:
        super().__init__(behind)
        self._memory = memory

    def read(self, gpa: int, length: int) -> bytes:
        return self._memory.bytes[gpa : gpa + length]

    def write(self, gpa: int, data: bytes) -> None:
        self._memory.bytes[gpa : gpa + len(data)] = data


def random_disk(seed: int, sectors: int = SECTORS) -> bytearray:
    return bytearray(np.random.default_rng(seed).bytes(sectors * SECTOR))


def random_program(
    design: str,
    disk: bytearray,
    seed: int = 1,
    requests: int = 12,
    batch: int = 3,
    base: int = 0,
    largest: int = 16,
    queue: int = 0,
) -> Program:
    """Requests of 1 to `largest` sectors, reads and writes mixed, anywhere on the disk."""
    draw = np.random.default_rng(seed)
    sector = draw.integers(0, len(disk) // SECTOR - largest, requests)
    length = draw.integers(1, largest + 1, requests) * SECTOR
    return program(
        design,
        draw.integers(0, 2, requests),
        sector,
        length,
        pattern.sectors(bytes(disk)),
        batch=batch,
        base=base,
        queue=queue,
    )


CpuMaker = Callable[[PlainMemory], AbstractContextManager[Cpu]]


@contextmanager
def unicorn_cpu(memory: PlainMemory) -> Iterator[Cpu]:
    cpu = UnicornCpu(memory.guest_address, memory.size)
    try:
        yield cpu
    finally:
        cpu.close()


@dataclass(frozen=True)
class Trace:
    """Everything a run leaves behind."""

    outcome: GuestReport
    said: list[tuple[object, ...]]
    memory: bytes
    disk: bytes


DeviceMaker = Callable[[HostView, Layout, bytearray], SmallDevice]


def load(described: Program, code: Code, memory: PlainMemory) -> None:
    for gpa, content in image(described, code.content):
        memory.populate(gpa, content)


def trace(described: Program, disk: bytearray, cpu: CpuMaker | None, device: DeviceMaker = SmallDevice) -> Trace:
    """Run the program on this CPU, or interpreted, against a copy of the disk."""
    disk, memory = bytearray(disk), PlainMemory(described.layout.size)
    code = assemble(described)
    load(described, code, memory)
    warden = Warden(memory, [described], device(memory.window, described.layout, disk).process)
    record: Recorder
    if cpu is None:
        record = world = World(warden, memory)
        outcome = interpret(described, world)
    else:
        record = Recorder(warden)
        with cpu(memory) as made:
            outcome = serve(Guest(made, code, record, described.outs))
    return Trace(outcome, record.said, memory.bytes[:], bytes(disk))


class FlippingDevice(SmallDevice):
    """Changes a bit of what it reads from every third sector."""

    def __init__(self, window: HostView, layout: Layout, disk: bytearray) -> None:
        for at in range(0, len(disk), 3 * SECTOR):
            disk[at] ^= 0x10
        super().__init__(window, layout, disk)


class SilentDevice(SmallDevice):
    """Never answers."""

    rung = False

    def process(self, _queue: int = 0) -> None:
        SilentDevice.rung = True

    @staticmethod
    @contextmanager
    def clock() -> Iterator[None]:
        """The watchdog's time stands still until the device has been rung, however long the guest takes till then."""
        SilentDevice.rung = False
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(watchdog, "monotonic", lambda: time.monotonic() if SilentDevice.rung else 0.0)
            yield


@dataclass(frozen=True)
class Misdeed:
    """Machine code that no guest program should run, and a part of the report it gets on each CPU."""

    name: str
    code: bytes
    unicorn: str
    kvm: str

    @property
    def patience(self) -> float:
        """Seconds: short only where nothing but the watchdog ends it."""
        return 0.2 if self.name == "loop" else 30


_WILD = bytes.fromhex("48be0000000000010000")  # mov rsi, 1 << 40
WILD_CRASH, RESET = "crash.*gpa 0x10000000000", "crash.*KVM has reset the vCPU.*at rip 0x0"
"""A triple fault where KVM leaves the registers as they were, and where it resets them first."""
MISDEEDS = [
    Misdeed("load", _WILD + bytes.fromhex("488b06"), "fault.*gpa 0x10000000000", f"{WILD_CRASH}|{RESET}"),
    Misdeed("store", _WILD + bytes.fromhex("488906"), "fault.*gpa 0x10000000000", f"{WILD_CRASH}|{RESET}"),
    Misdeed("jump", _WILD + bytes.fromhex("ffe6"), "fault.*gpa 0x10000000000", f"crash.*rip 0x10000000000|{RESET}"),
    Misdeed("loop", bytes.fromhex("ebfe"), "no progress.*endless loop", "no progress.*endless loop"),
    Misdeed("talk", bytes.fromhex("ba00050000b803000000efebf3"), "wrote a port 11 times", "wrote a port 11 times"),
    Misdeed("ud2", bytes.fromhex("0f0b"), "crash.*nvalid instruction", "crash.*triple fault"),
    Misdeed("int3", bytes.fromhex("cc"), "crash.*interrupt 3", "crash.*triple fault"),
    Misdeed("divide", bytes.fromhex("31c9f7f1"), "crash", "crash.*triple fault"),
    Misdeed("hlt", bytes.fromhex("f4"), "halt", "crash"),
    Misdeed("in", bytes.fromhex("ba00050000ed"), "crash.*IN from port 0x500", "crash.*IN from port 0x500"),
    Misdeed("byte", bytes.fromhex("ba00050000ee"), "crash.*OUT", "crash.*OUT"),
    Misdeed("port", bytes.fromhex("e780"), "port 0x80, where nothing is", "port 0x80, where nothing is"),
    Misdeed("abort", bytes.fromhex("48c7c6f5ffffffba00050000b804000000ef"), "was answered -11", "was answered -11"),
]


def guest_of(code: bytes, cpu: Cpu, memory: PlainMemory, limit: int = 10) -> Guest:
    """A guest of raw machine code at gpa 0."""
    memory.populate(0, code)
    return Guest(cpu, Code(0, code, {"start": 0}), Warden(memory, [], lambda queue: None), limit)


LONG = os.environ.get("PAGEWARDEN_LONG") == "1"
ANY_CODE = st.binary(min_size=1, max_size=64)


def survives(code: bytes, cpu: Cpu, memory: PlainMemory) -> None:
    """Whatever a guest executes, its run ends, with a result or with a report."""
    with suppress(GuestStopped):
        serve(guest_of(code, cpu, memory), patience=0.1)
