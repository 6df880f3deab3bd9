"""The block device as the untrusted host side of an isolated memory runs it."""

import pagewarden.memory.scatter_gather  # noqa: F401  while the process may still load it
from pagewarden.memory.isolated.side import HostSide
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.virtio.ring import Ring
from virtio_kit import DEFAULT

RESET, LEAVE = 1 << 20, 1 << 21
"""What it reports when it needs a reset, and what tells it to end; else requests completed, and the queue to serve."""


def serve(host: HostSide, ring: tuple[int, int, int, int]) -> None:
    """Resume, then serve the queue at each word from the warden; report how many requests that were."""
    device = BlockDevice(host, Disk(host.fds[0]))
    device.resume(DEFAULT, {0: Ring(*ring)})
    host.report(0)
    while (told := host.listen()) != LEAVE:
        try:
            host.report(device.process(told).completed)
        except DeviceNeedsReset as error:
            host.report(RESET, str(error).encode()[:240])
