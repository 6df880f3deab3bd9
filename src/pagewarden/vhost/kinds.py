"""What is served, apart from where it runs."""

from collections.abc import Callable
from dataclasses import dataclass

from pagewarden.port import HostView
from pagewarden.vhost.hosts import ServeCounts, VhostDevice
from pagewarden.vhost.regions import GuestRegions

RING = 128
"""Entries of a disk's ring at least, QEMU's default: a driver fills so many with one request, header and status in."""


@dataclass(frozen=True)
class DeviceKind:
    """What is served, wherever it runs."""

    make: Callable[[HostView, int], VhostDevice]
    """The device in this process, on this view, with so many entries in a queue: for what it offers, its configuration,
    and to serve without a guard."""
    program: Callable[..., None]
    """The function that a process of its own runs; see confined.block_device. It must be importable by name."""
    files: tuple[int, ...] = ()
    words: tuple[object, ...] = ()
    """Descriptors and words that the program gets after what all have."""
    queues: int = 1
    shortest: int = 1
    """Entries that a ring has at least, when guarded."""


@dataclass(frozen=True)
class ServedDevice:
    """view: for a device that has the configuration of the process's alone. say: hears what went wrong. probe: the
    device's process tries pages that are not lent."""

    kind: DeviceKind
    view: HostView
    regions: GuestRegions
    counts: ServeCounts
    say: Callable[[str], None]
    probe: bool = False
