"""Where a served device runs, as its front end's session sees it."""

import socket
from collections.abc import Callable
from typing import Protocol

from pagewarden.vhost.inflight import InflightFile
from pagewarden.vhost.regions import MemoryRegion
from pagewarden.vhost.vrings import Vring
from pagewarden.virtio.ring import Ring


class DeviceHost(Protocol):
    """Where the device runs: in this process, or in one of its own."""

    offered: int
    """Feature bits of the device; where the front end takes VIRTIO_F_ACCESS_PLATFORM, ring addresses are I/O addresses.
    QEMU does so only where an IOMMU is between (hw/virtio/vhost.c, vhost_dev_set_features); a driver does always."""
    queues: int
    queue_size: int

    def read_config(self, offset: int, length: int) -> bytes: ...
    def accept(self, features: int) -> None:
        """Reset the device, then these features; Refused where it cannot be with them."""

    def place(self, part: MemoryRegion, fd: int) -> None:
        """A region was added: the file is open as long as it is there."""

    def displace(self, part: MemoryRegion) -> None:
        """It goes: nothing of it is used any more when this returns."""

    def start(self, vring: Vring, ring: Ring) -> None:
        """Serve a ring, by addresses as the device has them."""

    def stop(self, index: int) -> int:
        """Nothing of the ring is in flight afterwards; how many chains are done, modulo 2^16."""

    def back_channel(self, channel: socket.socket) -> None:
        """Where the front end hears questions of ours."""

    def translation(self, iova: int, size: int, user: int, access: int, kind: int) -> None:
        """An IOTLB message was read."""

    def keep(self, kept: InflightFile) -> None:
        """Where what is in flight of rings that are started from now on is kept, until the front end is gone."""

    def call_changed(self, vring: Vring) -> None:
        """A ring that runs has another call, or none."""

    def forget(self) -> None:
        """The front end is gone."""


class PolledHost(DeviceHost, Protocol):
    """A device host with descriptors of its own that are polled here."""

    polled: dict[int, Callable[[], bool]]
    """What to call when one can be read; True: again without that. Another object whenever it changes."""
