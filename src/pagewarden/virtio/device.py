"""A virtio block device: what it offers, its configuration, and queues on a disk."""

import numpy as np

from pagewarden.abi import virtio_blk as blk
from pagewarden.port import HostView
from pagewarden.virtio.block import BlockQueue
from pagewarden.virtio.chains import SIZE_MIN
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.requests import REQUEST_MAX
from pagewarden.virtio.ring import Ring
from pagewarden.virtio.transfers import DISCARD_MAX
from pagewarden.virtio.transport import VirtioDevice
from pagewarden.virtio.work import SIZE_MAX

_ALWAYS = (
    blk.VIRTIO_BLK_F_SIZE_MAX,
    blk.VIRTIO_BLK_F_SEG_MAX,
    blk.VIRTIO_BLK_F_BLK_SIZE,
    blk.VIRTIO_BLK_F_FLUSH,
    blk.VIRTIO_BLK_F_MQ,
)


class BlockDevice(VirtioDevice[BlockQueue]):
    """A disk."""

    def __init__(self, view: HostView, disk: Disk, queues: int = 1, queue_size: int = 256) -> None:
        """queue_size: entries that the driver may use at most, and the longest chain. ValueError for one that is too
        long, or too short for header, data and status."""
        if not SIZE_MIN <= queue_size <= SIZE_MAX:
            raise ValueError(f"a queue of {queue_size} entries: this device has {SIZE_MIN} to {SIZE_MAX}")
        more = (blk.VIRTIO_BLK_F_RO,) if disk.read_only else (blk.VIRTIO_BLK_F_DISCARD, blk.VIRTIO_BLK_F_WRITE_ZEROES)
        super().__init__(view, sum(1 << bit for bit in _ALWAYS + more), queues, queue_size)
        self._disk = disk

    def _new_queue(self, index: int, ring: Ring) -> BlockQueue:
        return BlockQueue(index, self._view, ring, self._disk, self.features, self.queue_size)

    def _config(self) -> bytes:
        config = np.zeros((), blk.virtio_blk_config)
        config["capacity"], config["blk_size"] = self._disk.capacity, self._disk.block
        config["seg_max"] = segments = self.queue_size - 2
        config["size_max"] = 1 << (REQUEST_MAX // segments).bit_length() - 1
        config["num_queues"] = self._count
        for name in ("discard", "write_zeroes"):
            config[f"max_{name}_sectors"], config[f"max_{name}_seg"] = DISCARD_MAX, 1
        config["discard_sector_alignment"] = self._disk.block // blk.SECTOR
        config["write_zeroes_may_unmap"] = 1
        return config.tobytes()
