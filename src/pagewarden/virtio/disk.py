"""The image behind a block device: an open file and what the device does to it beside reading and writing."""

import os
from collections.abc import Callable

from pagewarden.abi.virtio_blk import SECTOR, VIRTIO_BLK_ID_BYTES

_ZEROES = bytes(1 << 20)


class Disk:
    """Offsets and lengths are bytes. Methods raise OSError as the file does.

    capacity: sectors, fixed when opened; a last part of less than a sector is out of reach.
    """

    def __init__(
        self,
        fd: int,
        read_only: bool = False,
        serial: str = "pagewarden",
        punch: Callable[[int, int, int], None] | None = None,
    ) -> None:
        """punch(fd, offset, length) makes a hole that reads as zeroes (fallocate(2)); without it a discard does nothing
        and zeroes are written."""
        self.fd, self.read_only, self._punch = fd, read_only, punch
        self.capacity = os.lseek(fd, 0, os.SEEK_END) // SECTOR
        self.identity = serial.encode()[:VIRTIO_BLK_ID_BYTES].ljust(VIRTIO_BLK_ID_BYTES, b"\0")

    def flush(self) -> None:
        """What was written is on stable storage afterwards."""
        os.fdatasync(self.fd)

    def discard(self, offset: int, length: int) -> None:
        if self._punch:
            self._punch(self.fd, offset, length)

    def zero(self, offset: int, length: int, unmap: bool) -> None:
        """Make the range read as zeroes; unmap: its blocks may be given back."""
        if unmap and self._punch:
            self._punch(self.fd, offset, length)
            return
        end = offset + length
        while offset < end:
            offset += os.pwrite(self.fd, memoryview(_ZEROES)[: end - offset], offset)
