"""A virtio block device: features, status, configuration, queues. It knows nothing of how a kick travels.

Whoever carries the kicks (an exit, an eventfd, vhost-user) calls process(queue) and raises the interrupt it asks for.
"""

import errno
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from pagewarden.abi import virtio as abi
from pagewarden.abi import virtio_blk as blk
from pagewarden.port import HostView
from pagewarden.virtio.block import BlockQueue, Processed
from pagewarden.virtio.chains import SIZE_MAX
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.virtio.requests import RANGES_MAX, REQUEST_MAX
from pagewarden.virtio.ring import Ring
from pagewarden.virtio.transfers import DISCARD_MAX
from pagewarden.vocab import Refused

Result = TypeVar("Result")
_ALWAYS = (
    abi.VIRTIO_F_VERSION_1,
    abi.VIRTIO_F_ACCESS_PLATFORM,
    abi.VIRTIO_F_INDIRECT_DESC,
    abi.VIRTIO_F_EVENT_IDX,
    abi.VIRTIO_F_IN_ORDER,
    blk.VIRTIO_BLK_F_SIZE_MAX,
    blk.VIRTIO_BLK_F_SEG_MAX,
    blk.VIRTIO_BLK_F_BLK_SIZE,
    blk.VIRTIO_BLK_F_FLUSH,
    blk.VIRTIO_BLK_F_MQ,
)


class BlockDevice:
    """Its state: features (driver's choice, 0 before), status (virtio 1.2, 2.1), queues by index."""

    def __init__(self, view: HostView, disk: Disk, queues: int = 1, queue_size: int = 256) -> None:
        """queue_size: entries that the driver may use at most, and the longest chain."""
        if not 0 < queue_size <= SIZE_MAX:
            raise ValueError(f"a queue of {queue_size} entries: this device has 1 to {SIZE_MAX}")
        self._view, self._disk, self._count, self.queue_size = view, disk, queues, queue_size
        more = (blk.VIRTIO_BLK_F_RO,) if disk.read_only else (blk.VIRTIO_BLK_F_DISCARD, blk.VIRTIO_BLK_F_WRITE_ZEROES)
        self.offered = sum(1 << bit for bit in _ALWAYS + more)
        self.features = self.status = 0
        self._queues: dict[int, BlockQueue] = {}
        self._broken: DeviceNeedsReset | None = None

    def accept(self, features: int) -> None:
        """The driver's features; they count once it sets FEATURES_OK. Refused(EINVAL) after that."""
        if self.status & abi.FEATURES_OK:
            raise Refused(errno.EINVAL, "features cannot change after FEATURES_OK")
        self.features = features

    def write_status(self, status: int) -> None:
        """What the driver writes into the status field: 0 resets, a bit that is set stays set. FEATURES_OK is not
        taken over when the features cannot be served: the driver reads the status back (virtio 1.2, 3.1.1)."""
        if status == 0:
            self.reset()
            return
        if status & abi.FEATURES_OK and not self._servable():
            status &= ~abi.FEATURES_OK
        self.status |= status & ~abi.DEVICE_NEEDS_RESET

    def _servable(self) -> bool:
        return not self.features & ~self.offered and bool(self.features >> abi.VIRTIO_F_VERSION_1 & 1)

    def set_queue(self, index: int, ring: Ring) -> None:
        """A fresh ring, all zero. Refused(EINVAL) for one that cannot be, or too early, or too late."""
        if not 0 <= index < self._count or index in self._queues or not self.status & abi.FEATURES_OK:
            raise Refused(errno.EINVAL, f"queue {index} of {self._count} cannot be set up now")
        self._queues[index] = BlockQueue(index, self._view, ring, self._disk, self.features, self.queue_size)

    def resume(self, features: int, rings: dict[int, Ring]) -> None:
        """Take over rings from a device that died, at any moment: go on after what the used rings show.

        A fresh ring begins at 0 the same way. Requests that were under way are done again. Afterwards call process for
        each queue, kicked or not; its first call asks for an interrupt, since the last one may have got lost.
        Raises Refused(EINVAL), DeviceNeedsReset.
        """
        self.reset()
        self.accept(features)
        self.write_status(abi.ACKNOWLEDGE | abi.DRIVER | abi.FEATURES_OK)
        for index, ring in rings.items():
            self.set_queue(index, ring)
            self._watched(self._queues[index].resume)
        self.write_status(abi.DRIVER_OK)

    def process(self, index: int) -> Processed:
        """Serve a queue. Raises DeviceNeedsReset, now and until the reset: tell the driver of a configuration change,
        which stands for the interrupt too; Refused(EINVAL) when there is no such queue yet."""
        if self._broken:
            raise self._broken.with_traceback(None)
        if not self.status & abi.DRIVER_OK or index not in self._queues:
            raise Refused(errno.EINVAL, f"queue {index} was kicked before it was set up")
        return self._watched(self._queues[index].process)

    def _watched(self, act: Callable[[], Result]) -> Result:
        try:
            return act()
        except DeviceNeedsReset as error:
            self._broken = error
            self.status |= abi.DEVICE_NEEDS_RESET
            raise

    def read_config(self, offset: int, length: int) -> bytes:
        """Bytes of struct virtio_blk_config; beyond it, zeroes."""
        return self._config()[offset : offset + length].ljust(length, b"\0")

    def _config(self) -> bytes:
        config = np.zeros((), blk.virtio_blk_config)
        config["capacity"], config["blk_size"] = self._disk.capacity, blk.SECTOR
        config["seg_max"] = segments = max(1, self.queue_size - 2)
        config["size_max"] = 1 << (REQUEST_MAX // segments).bit_length() - 1
        config["num_queues"] = self._count
        for name in ("discard", "write_zeroes"):
            config[f"max_{name}_sectors"], config[f"max_{name}_seg"] = DISCARD_MAX, RANGES_MAX
        config["discard_sector_alignment"] = config["write_zeroes_may_unmap"] = 1
        return config.tobytes()

    def reset(self) -> None:
        """Forget the driver: no features, no queues, status 0."""
        for queue in self._queues.values():
            queue.close()
        self._queues.clear()
        self.features = self.status = 0
        self._broken = None

    close = reset
