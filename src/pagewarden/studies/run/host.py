"""The host's half of a run: a virtio block device, and the way of the design to the bytes of each request.

Rings and headers are read by guarded copies whatever the design; what the design says is how the data goes.
"""

import errno
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pagewarden.abi import virtio, virtio_blk
from pagewarden.designs import Copy, Do, Hop, Options, Steps, Syscall, design_named
from pagewarden.guest.program import Program
from pagewarden.law import Op
from pagewarden.port import HostView, Segments, VectoredView
from pagewarden.sim.memory import ModelMemory
from pagewarden.studies.run.disk import DiskFile
from pagewarden.studies.run.host_error import Errors, MemoryRefuses
from pagewarden.studies.run.host_half import Done, Request
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.ring import Ring
from pagewarden.vocab import Event, InternalError, PageRange, PrivateAccess, Refused

FEATURES = 1 << virtio.VIRTIO_F_VERSION_1 | 1 << virtio_blk.VIRTIO_BLK_F_FLUSH
"""What the guest's driver takes: with FLUSH a write is not on stable storage at once, as on any disk with a cache."""


RequestPath = Callable[[Request], Done]
"""How one request's bytes go between the guest's memory and the disk."""


@dataclass
class HostTally:
    """What the host did for the requests so far, by its own account. each: what every request adds to that."""

    each: dict[Event, int] = field(default_factory=dict)
    events: Counter[Event] = field(default_factory=Counter)
    errors: Errors = field(default_factory=Errors)

    def add(self, done: Done) -> None:
        self.events.update(done.events)
        self.events.update(self.each)


class DesignView:
    """port.HostView for a device of one design, a port.VectoredView if `view` is one: what goes to or from the disk
    takes the design's path, and no other: of an error there the device hears EIO, for which it has no way round."""

    def __init__(self, view: HostView, disk: int, path: RequestPath, tally: HostTally) -> None:
        self._view, self._disk, self._path, self._tally = view, disk, path, tally
        self.size, self.read, self.write, self.read_into = view.size, view.read, view.write, view.read_into
        if isinstance(view, VectoredView):
            self.gather, self.scatter, self.add16, self.transfer = view.gather, view.scatter, view.add16, _none_at_once

    def pread_from(self, fd: int, file_offset: int, segments: Segments) -> int:
        if fd != self._disk:
            return self._view.pread_from(fd, file_offset, segments)
        return self._move(file_offset, segments, False)

    def pwrite_to(self, fd: int, file_offset: int, segments: Segments) -> int:
        if fd != self._disk:
            return self._view.pwrite_to(fd, file_offset, segments)
        return self._move(file_offset, segments, True)

    def _move(self, position: int, segments: Segments, to_file: bool) -> int:
        """A call that moved a part is followed by another one: the rest goes through, or an error says why not."""
        moved = 0
        for offset, length in segments:
            end = moved + length
            while moved < end:
                rest = end - moved
                request = Request(offset + length - rest, rest, position + moved, to_file)
                try:
                    done = self._path(request)
                except OSError as error:
                    self._tally.errors.note(error, f"{request.length:,} bytes at byte {request.position:,} of the disk")
                    raise Noted(errno.EIO, "noted") from error
                if not done.moved:
                    return moved
                self._tally.add(done)
                moved += done.moved
        return moved


def _none_at_once(fd: int, runs: object, places: object) -> int:
    """port.VectoredView.transfer, which leaves every run to pread_from and pwrite_to."""
    return 0


class Noted(OSError):
    """An error that somebody has noted."""


class WatchedDisk(Disk):
    """A disk whose errors are noted, all of them."""

    def __init__(self, fd: int, read_only: bool, errors: Errors) -> None:
        super().__init__(fd, read_only)
        self._errors = errors

    def blame(self, error: OSError, what: str) -> None:
        if not isinstance(error, Noted):
            self._errors.note(error, what)


def ring_of(described: Program) -> Ring:
    """Where the guest program has its queue."""
    at = described.layout
    return Ring(at.queue, at.shared, at.avail, at.used)


class LocalDevice:
    """The device in this process: a host that cooperates."""

    restarts = 0

    def __init__(
        self, described: Program, view: HostView, disk: DiskFile, path: RequestPath, tally: HostTally, *,
        resume: bool = False,
    ) -> None:  # fmt: skip
        """resume: the rings are in use already."""
        self.tally = tally
        self._device = BlockDevice(
            DesignView(view, disk.fd, path, self.tally),
            WatchedDisk(disk.fd, disk.read_only, tally.errors),
            described.queue + 1,
            described.layout.queue,
        )
        if resume:
            self._device.resume(FEATURES, {described.queue: ring_of(described)})
            return
        self._device.accept(FEATURES)
        self._device.write_status(virtio.ACKNOWLEDGE | virtio.DRIVER | virtio.FEATURES_OK)
        self._device.set_queue(described.queue, ring_of(described))
        self._device.write_status(virtio.DRIVER_OK)

    def notify(self, queue: int) -> None:
        """The doorbell: all that waits is served before this returns."""
        while self._device.process(queue).more:
            pass

    def close(self) -> None:
        self._device.close()


class ModelHalf:
    """The host's half of the procedures, on the model's memory, with bytes: what HostHalf is to live memory."""

    def __init__(self, memory: ModelMemory, design: str, disk: int) -> None:
        self._memory, self._disk = memory, disk
        design_of = design_named(design)
        self._steps = {write: _host_part(design_of(Options(), memory.policy, write).steps) for write in (True, False)}

    def __call__(self, request: Request) -> Done:
        """As HostHalf's paths: raises PrivateAccess, MemoryRefuses where the law does otherwise."""
        steps = self._steps[request.to_file]
        data = b"" if request.to_file else os.pread(self._disk, request.length, request.position)
        taken: list[Op] = []
        try:
            for step in steps:
                if isinstance(step, Do):
                    data = self._do(step, request, data)
                    taken += _GIVEN_BACK.get(step.op, ())
                    taken = [op for op in taken if op is not step.op]
        finally:  # of a request that was refused half way, nothing is left in the host
            for op in taken:
                self._memory.perform((Do(op),), PageRange.covering(request.offset, request.length))
        if request.to_file:
            os.pwrite(self._disk, data, request.position)
        return Done(
            len(data),
            sum(isinstance(step, Syscall) and step.access for step in steps),
            copies=sum(isinstance(step, Copy) for step in steps),
        )

    def _do(self, step: Do, request: Request, data: bytes) -> bytes:
        try:
            self._memory.perform((step,), PageRange.covering(request.offset, request.length))
        except PrivateAccess:
            raise
        except Refused as refused:
            raise MemoryRefuses(refused.errno, refused.why) from refused
        if step.op in _LOADS:
            return self._memory.contents.read(step.op, request.offset, request.length)
        if step.op in _STORES:
            self._memory.contents.write(step.op, request.offset, data)
        return data


_GIVEN_BACK = {Op.HOST_MMAP: (Op.HOST_MUNMAP, Op.HOST_TLBI), Op.FD_GET: (Op.UNPIN,)}
"""What a host that has taken something must still do, until it has done it."""
_LOADS = (Op.HOST_LOAD, Op.UACCESS_READ, Op.KMAP_READ)
_STORES = (Op.HOST_STORE, Op.UACCESS_WRITE, Op.KMAP_WRITE)


def _host_part(steps: Steps) -> Steps:
    """From the exit to the host until the guest is resumed."""
    flat = [inner for step in steps for inner in (getattr(step, "then", None) or (step,))]
    edges = [step.edge if isinstance(step, Hop) else "" for step in flat]
    if "hyp>host" not in edges:
        raise InternalError("a design without an exit to the host")
    return tuple(flat[edges.index("hyp>host") + 1 : edges.index("host>hyp")])
