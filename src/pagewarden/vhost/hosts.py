"""A device in this process, which sees all of the guest's memory: no guard, for comparison and for trusted devices."""

import errno
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from pagewarden.abi import virtio as abi
from pagewarden.memory.guarded_copies import Keeper
from pagewarden.memory.window import Window
from pagewarden.vhost.inflight import InflightFile
from pagewarden.vhost.messages import FrontEndFault
from pagewarden.vhost.regions import GuestRegions, MemoryRegion
from pagewarden.vhost.vrings import Vring, tell
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.virtio.queue import Processed
from pagewarden.virtio.ring import Ring
from pagewarden.virtio.virtqueue import ChainLedger
from pagewarden.vocab import PAGE_SIZE, Refused

BEHIND_IOMMU = (
    "the device is behind an IOMMU of QEMU's, whose addresses mean nothing in this mode: serve it with --mode iommu"
)
UNASKED = "sent an I/O translation, which nobody asked for"


class VhostDevice(Protocol):
    """A virtio device that can be served; virtio.transport.VirtioDevice is one. Methods raise as its do."""

    offered: int
    queue_size: int
    status: int

    @property
    def carried(self) -> int: ...
    def accept(self, features: int) -> None: ...
    def write_status(self, status: int) -> None: ...
    def read_config(self, offset: int, length: int) -> bytes: ...
    def start(self, index: int, ring: Ring, kept: ChainLedger | None = None) -> None: ...
    def stop(self, index: int) -> int: ...
    def process(self, index: int) -> Processed: ...


def take_features(device: VhostDevice, features: int) -> None:
    """Reset the device, then these features; FrontEndFault where it cannot be with them."""
    device.write_status(0)
    device.accept(features)
    for more in (abi.ACKNOWLEDGE | abi.DRIVER, abi.FEATURES_OK, abi.DRIVER_OK):
        device.write_status(more)
    if not features >> abi.VIRTIO_F_VERSION_1 & 1 and features:
        raise FrontEndFault("has a driver from before virtio 1.0, which is not served: disable-legacy=on")


class ServeCounts:
    """What a served device did."""

    def __init__(self) -> None:
        self.requests = self.carried = self.refused = self.violations = 0
        self.pages_opened = self.open_now = self.max_open = self.device_restarts = 0
        self.longest_open_ms = self.byte_seconds = 0.0
        self.pages_ever = 0
        self.probed = 0
        self.trouble: list[str] = []
        self.tell: Callable[[Mapping[str, object]], object] = lambda event: None
        """Hears what happens, each as `event` and its facts."""

    def opened(self, pages: int) -> None:
        """So many pages are open to the device from now on."""
        self.pages_opened += pages
        self.open_now += pages
        self.max_open = max(self.max_open, self.open_now)

    def closed(self, pages: int, seconds: float) -> None:
        """So many are not any more, which were for so long."""
        self.open_now -= pages
        self.longest_open_ms = max(self.longest_open_ms, seconds * 1000)
        self.byte_seconds += pages * PAGE_SIZE * seconds

    def blame(self, what: str) -> None:
        """Remember what went wrong, the first times."""
        self.refused += 1
        self.tell({"event": "refused", "why": what})
        if len(self.trouble) < 16:
            self.trouble.append(what)


class OpenHost:
    """A device_host.DeviceHost around a device whose view is the guest's memory itself."""

    def __init__(self, device: VhostDevice, memory: GuestRegions, queues: int, counts: ServeCounts) -> None:
        self._device, self._memory, self.queues, self.counts = device, memory, queues, counts
        self.offered, self.queue_size = device.offered, device.queue_size
        self._features = 0
        self._running: dict[int, Vring] = {}
        self.polled: dict[int, Callable[[], bool]] = {}
        self._since: dict[MemoryRegion, float] = {}
        self._kept: InflightFile | None = None

    def read_config(self, offset: int, length: int) -> bytes:
        return self._device.read_config(offset, length)

    def accept(self, features: int) -> None:
        take_features(self._device, features)
        self._features = features

    def place(self, part: MemoryRegion, fd: int) -> None:
        self._since[part] = time.monotonic()
        self.counts.opened(part.size // PAGE_SIZE)
        self.counts.pages_ever = max(self.counts.pages_ever, self.counts.open_now)

    def displace(self, part: MemoryRegion) -> None:
        self.counts.closed(part.size // PAGE_SIZE, time.monotonic() - self._since.pop(part))

    def start(self, vring: Vring, ring: Ring) -> None:
        if self._features >> abi.VIRTIO_F_ACCESS_PLATFORM & 1:
            raise Refused(errno.EINVAL, BEHIND_IOMMU)
        try:
            kept = None if self._kept is None else self._kept.ring(vring.index, ring.size)
            self._device.start(vring.index, ring, kept)
        except DeviceNeedsReset as broken:
            self._give_up(vring, broken)
        else:
            self._run(vring, True)

    def stop(self, index: int) -> int:
        if vring := self._running.get(index):
            self._run(vring, False)
        try:
            return self._device.stop(index)
        except Refused:  # it never came to run
            return 0 if vring is None else vring.base

    def back_channel(self, channel: socket.socket) -> None:
        channel.close()

    def translation(self, iova: int, size: int, user: int, access: int, kind: int) -> None:
        raise FrontEndFault(UNASKED)

    def call_changed(self, vring: Vring) -> None: ...

    def keep(self, kept: InflightFile) -> None:
        self._kept = kept

    def forget(self) -> None:
        self._kept = None

    def close(self) -> None: ...

    def _kicked(self, vring: Vring) -> bool:
        """Serve what waits in a ring; True where the driver keeps adding, so that no kick will come."""
        vring.drain()
        try:
            done = self._device.process(vring.index)
        except DeviceNeedsReset as broken:
            self._give_up(vring, broken)
            return False
        self.counts.requests += done.completed
        if done.want_interrupt:
            tell(vring.call)
        return done.more

    def count(self) -> None:
        """Bring the counts up to date."""
        self.counts.carried = self._device.carried

    def _run(self, vring: Vring, on: bool) -> None:
        if on:
            self._running[vring.index] = vring
        else:
            self._running.pop(vring.index, None)
        self.polled = {each.kick: partial(self._kicked, each) for each in self._running.values()}

    def _give_up(self, vring: Vring, broken: DeviceNeedsReset) -> None:
        """The ring is not served before the driver resets the device."""
        self._run(vring, False)
        self.counts.blame(str(broken))
        tell(vring.error)


def view_of(memory: GuestRegions) -> Window:
    """The guest's memory as a device in this process has it."""
    return Window(memory.region, Keeper(lend=memory.lend))
