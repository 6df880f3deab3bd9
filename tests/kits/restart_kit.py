"""A guest and its device in two processes on one memory, and a disk whose unflushed writes can be lost."""

import mmap
import os
import random
import select
import signal
import struct
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pagewarden.port import Buffer
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.driver import Driver
from pagewarden.virtio.ring import Ring
from pagewarden.vocab import PAGE_SIZE
from virtio_kit import DEFAULT, FLUSH, IN, OK, OUT, SECTOR, VectoredFake, request

SECTORS = 64
SLOT, SLOTS = 8192, 24
MOST = 8
"""Sectors of a request at most."""


class SharedView(VectoredFake):
    """A memory that both processes map; 2-byte numbers move in one piece. Each access is a step at which to die."""

    def __init__(self, file: int, size: int) -> None:
        super().__init__(0)
        self.size = size
        self.bytes = np.frombuffer(mmap.mmap(file, size), np.uint8)
        self._words = self.bytes.view("<u2")
        self.left = -1  # steps until death, if positive

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def read(self, offset: int, length: int) -> bytes:
        return struct.pack("<H", self._words[offset // 2]) if length == 2 else super().read(offset, length)

    def write(self, offset: int, data: Buffer) -> None:
        if len(data) == 2:
            self._words[offset // 2] = int.from_bytes(data, "little")
        else:
            super().write(offset, data)

    def gather(self, places: NDArray[np.int64], count: int, target: NDArray[np.uint8]) -> None:
        self.step()
        super().gather(places, count, target)

    def scatter(self, places: NDArray[np.int64], count: int, data: NDArray[np.uint8]) -> None:
        for place in range(count):
            self.step()
            super().scatter(places[:, place:], 1, data)
            data = data[places[1, place] :]
        self.step()

    def transfer(self, fd: int, runs: NDArray[np.int64], places: NDArray[np.int64]) -> int:
        for done in range(len(runs)):
            self.step()
            if not super().transfer(fd, runs[done : done + 1], places):
                return done
        return len(runs)

    def add16(self, offset: int, amount: int) -> None:
        self._words[offset // 2] += np.uint16(amount)
        self.step()


class VolatileDisk(Disk):
    """Writes go to a file that stands for the drive's cache; a flush copies it to the one that keeps."""

    def __init__(self, cache: int, keeps: int, view: SharedView) -> None:
        super().__init__(cache)
        self._keeps, self._view = keeps, view

    def flush(self) -> None:
        for sector in range(SECTORS):
            if sector % 16 == 0:
                self._view.step()
            os.pwrite(self._keeps, os.pread(self.fd, SECTOR, sector * SECTOR), sector * SECTOR)


def serve(view: SharedView, disk: Disk, rings: dict[int, Ring], kick: int, interrupt: int) -> None:
    """The device process: resumes, looks at every queue, then waits for kicks, for ever."""
    device = BlockDevice(view, disk, len(rings), 16)
    device.resume(DEFAULT, rings)
    queues = set(rings)
    while True:
        for queue in sorted(queues):
            while (processed := device.process(queue)).more:
                pass
            if processed.want_interrupt:
                os.write(interrupt, bytes([queue]))
        queues = set(os.read(kick, 100))
        if not queues:
            return  # the guest is gone


@dataclass
class Pending:
    """A request under way."""

    kind: int
    slot: int
    sector: int
    data: bytes  # of a write
    length: int  # of a read, bytes
    settled: dict[int, bytes] = field(default_factory=dict)  # of a flush: what was complete when it was made


class Guest:
    """The driver's process: posts at random, checks what comes back, and knows what the disk must hold."""

    def __init__(self, files: tuple[int, int, int], dice: random.Random) -> None:
        """files: memory, the disk's cache, what the disk keeps; all zero."""
        self.file, self.cache, self.keeps = files
        self.dice = dice
        rings, at = {}, PAGE_SIZE
        for queue, size in enumerate((16, 8)):
            rings[queue] = Ring.placed(size, at)
            at += 2 * PAGE_SIZE
        self.rings, self._slots = rings, at
        self.size = at + SLOT * SLOTS
        os.ftruncate(self.file, self.size)
        self.view = SharedView(self.file, self.size)
        self.view.bytes[:] = 0xA5
        self.drivers = [Driver(self.view, ring, event_idx=True) for ring in rings.values()]
        self.kick, self.interrupt = os.pipe(), os.pipe()
        self.content = {sector: bytes(SECTOR) for sector in range(SECTORS)}  # as the last completed write left it
        self.kept = dict(self.content)  # what no loss of power may take
        self.written: dict[int, set[bytes]] = {sector: set() for sector in range(SECTORS)}  # ever asked for since kept
        self.pending: list[dict[int, Pending]] = [{} for _ in rings]
        self.completed = self.child = self.death = 0

    def start(self, steps: int = -1) -> None:
        """A device process; it kills itself at its step number `steps`."""
        self.child = os.fork()
        if self.child:
            self.death = os.pidfd_open(self.child)
            return
        try:
            os.close(self.kick[1])
            self.view.left = steps
            disk = VolatileDisk(self.cache, self.keeps, self.view)
            serve(self.view, disk, self.rings, self.kick[0], self.interrupt[1])
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(1)

    def end(self, signal_number: int = signal.SIGKILL) -> None:
        """kill -9, if it still lives; it must not have died of anything else."""
        os.kill(self.child, signal_number)
        _, status = os.waitpid(self.child, 0)
        os.close(self.death)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

    def run(self, until: float, requests: int, leave: int = -1) -> str:
        """Wait for the interrupt that is due, then post so many, reap, wait for more. How it ended: finished, died,
        left: it has rung `leave` times, and the device is at work; or late: the time was over (time.monotonic)."""
        left, due = requests, any(self.pending)
        while left > 0 or any(self.pending):
            if due:
                wait = max(0.0, until - time.monotonic())
                told, _, _ = select.select([self.interrupt[0], self.death], [], [], wait)
                if not told or self.death in told:
                    return "died" if told else "late"
                os.read(self.interrupt[0], 100)
            if left > 0:
                posted = self._post(min(left, self.dice.randint(1, 6)))
                left -= posted
                leave -= posted > 0
                if leave == 0:
                    return "left"
            due = not self._reap()
        return "finished"

    def _post(self, count: int) -> int:
        queue = self.dice.randrange(len(self.drivers))
        driver, posted = self.drivers[queue], 0
        while posted < count and driver.free >= 4 and (made := self._make()):
            place = self._slots + SLOT * made.slot
            self.view.write(place + 64, request(made.kind, made.sector) + made.data)
            status = place + SLOT - 64
            self.view.write(status, b"\xee")
            readable = [(place + 64, 16), *([(place + 80, len(made.data))] if made.data else [])]
            writable = [*([(place + 80, made.length)] if made.length else []), (status, 1)]
            table = place if self.dice.random() < 0.4 else None  # the first 64 bytes: a table of up to four
            self.pending[queue][driver.add_chain(readable, writable, table)] = made
            posted += 1
        if driver.publish():
            os.write(self.kick[1], bytes([queue]))
        return posted

    def _make(self) -> Pending | None:
        """A request that meets no other one under way where it writes, so that the outcome is certain."""
        busy = [pending for queue in self.pending for pending in queue.values()]
        slots = set(range(SLOTS)) - {pending.slot for pending in busy}
        if not slots:
            return None
        kind = self.dice.choice((IN, IN, OUT, OUT, OUT, FLUSH))
        slot = min(slots)
        if kind == FLUSH:
            return Pending(kind, slot, 0, b"", 0, dict(self.content))
        count = self.dice.randint(1, MOST)
        sector = self.dice.randrange(SECTORS - count)
        if any(
            sector < other.sector + sectors(other) and other.sector < sector + count and OUT in (kind, other.kind)
            for other in busy
        ):
            return None
        data = self.dice.randbytes(count * SECTOR) if kind == OUT else b""
        for n, one in blocks(sector, data):
            self.written[n].add(one)
        return Pending(kind, slot, sector, data, count * SECTOR if kind == IN else 0)

    def _reap(self) -> bool:
        back = False
        for driver, pending in zip(self.drivers, self.pending, strict=True):
            for used in driver.reap():
                back = True
                self.completed += 1
                self._check(pending.pop(used.head), used.length)
            driver.ask_interrupt(self.dice.choice((1, 1, 2)) if len(pending) > 1 else 1)
            for used in driver.reap():
                back = True
                self.completed += 1
                self._check(pending.pop(used.head), used.length)
        return back

    def _check(self, done: Pending, length: int) -> None:
        place = self._slots + SLOT * done.slot
        assert self.view.read(place + SLOT - 64, 1)[0] == OK and length == done.length + 1
        if done.kind == IN:
            expected = b"".join(self.content[done.sector + n] for n in range(done.length // SECTOR))
            assert self.view.read(place + 80, done.length) == expected
        for n, one in blocks(done.sector, done.data):
            self.content[n] = one
        if done.kind == FLUSH:
            self.kept |= done.settled

    def lose_power(self) -> None:
        """What was flushed is there; of the rest, each sector has what was last written or what was kept.

        What the device completed before it died is complete: it may be lost, but it is not done again.
        """
        self._reap()
        flights = [pending for queue in self.pending for pending in queue.values() if pending.kind == OUT]
        flushes = [pending for queue in self.pending for pending in queue.values() if pending.kind == FLUSH]
        flying = {n for pending in flights for n, _ in blocks(pending.sector, pending.data)}
        for sector in range(SECTORS):
            kept, cached = (os.pread(file, SECTOR, sector * SECTOR) for file in (self.keeps, self.cache))
            assert kept == self.kept[sector] or kept in self.written[sector], f"sector {sector} lost a flushed write"
            left = self.dice.choice((kept, cached))
            for file in (self.keeps, self.cache):
                os.pwrite(file, left, sector * SECTOR)
            self.kept[sector] = left
            for flush in flushes:
                flush.settled[sector] = left
            if sector not in flying:
                self.content[sector] = left
                self.written[sector] = {left}

    def untouched(self) -> Iterator[tuple[int, bytes]]:
        """What lies between the buffers, and what nobody named."""
        yield 0, self.view.read(0, PAGE_SIZE)
        for slot in range(SLOTS):
            place = self._slots + SLOT * slot
            yield place + 80 + MOST * SECTOR, self.view.read(place + 80 + MOST * SECTOR, SLOT - 144 - MOST * SECTOR)
            yield place + SLOT - 63, self.view.read(place + SLOT - 63, 63)


def sectors(pending: Pending) -> int:
    return (len(pending.data) + pending.length) // SECTOR


def blocks(sector: int, data: bytes) -> list[tuple[int, bytes]]:
    return [(sector + at // SECTOR, data[at : at + SECTOR]) for at in range(0, len(data), SECTOR)]
