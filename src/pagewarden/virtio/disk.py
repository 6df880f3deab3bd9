"""The image behind a block device: an open file and what the device does to it beside reading and writing."""

import errno
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.abi.virtio_blk import SECTOR, VIRTIO_BLK_ID_BYTES
from pagewarden.kernel.files import flags
from pagewarden.vocab import PAGE_SIZE

BOUNCE = 1 << 20
"""Bytes that pass through this process at a time where the kernel does not take the guest's pages."""
ONE_BY_ONE = "preadv and pwritev, one after another"
_NO_HOLES = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV})
"""What fallocate(2) says of a file, or a file system, that cannot have holes."""


def aligned(size: int) -> NDArray[np.uint8]:
    """Zeroes that begin at a page: a file without a cache (O_DIRECT) takes nothing less."""
    whole = np.zeros(size + PAGE_SIZE, np.uint8)
    skip = -whole.ctypes.data % PAGE_SIZE
    return whole[skip : skip + size]


class Disk:
    """Offsets and lengths are bytes. Methods raise OSError as the file does.

    capacity: sectors, fixed when opened; a last part of less than a sector is out of reach.
    direct: without a page cache (O_DIRECT): a transfer pins the pages of memory. Not to be changed afterwards.
    block: bytes that the file moves as a whole (the logical block size of an O_DIRECT file, else a sector).
    engine: how the transfers go, in words: ONE_BY_ONE, where a page cache makes that the quickest; "io_uring" without
    one, a batch at once; or why not. Known once a queue is set up.
    trouble: the first error of this host that cost a request, None so far: the guest learns only that there was one.
    """

    def __init__(
        self,
        fd: int,
        read_only: bool = False,
        serial: str = "pagewarden",
        punch: Callable[[int, int, int], None] | None = None,
    ) -> None:
        """punch(fd, offset, length) makes a hole that reads as zeroes (fallocate(2)); without it, or where the file has
        none, zeroes are written."""
        self.fd, self.read_only, self._punch = fd, read_only, punch
        self.capacity = os.lseek(fd, 0, os.SEEK_END) // SECTOR
        self.identity = serial.encode()[:VIRTIO_BLK_ID_BYTES].ljust(VIRTIO_BLK_ID_BYTES, b"\0")
        self.direct = bool(flags(fd) & os.O_DIRECT)
        self.block = _block_of(fd)
        self.engine = ONE_BY_ONE
        self.trouble: OSError | None = None
        self._zeroes: Any = None

    def blame(self, error: OSError, what: str) -> None:
        """Remember the first failure, with what the device was about."""
        if self.trouble is None:
            self.trouble = OSError(error.errno or errno.EIO, f"{what}: {error.strerror or error}")

    def flush(self) -> None:
        """What was written is on stable storage afterwards."""
        os.fdatasync(self.fd)

    def zero(self, offset: int, length: int, unmap: bool) -> None:
        """Make the range read as zeroes; unmap: its blocks may be given back."""
        if not length or (unmap and self._punched(offset, length)):
            return
        if self._zeroes is None:
            self._zeroes = aligned(BOUNCE).data
        end = offset + length
        while offset < end:
            offset += os.pwrite(self.fd, self._zeroes[: end - offset], offset)

    def _punched(self, offset: int, length: int) -> bool:
        if self._punch is None:
            return False
        try:
            self._punch(self.fd, offset, length)
        except OSError as error:
            if error.errno not in _NO_HOLES:
                raise
            self._punch = None
            return False
        return True


def _block_of(fd: int) -> int:
    """The smallest whole that can be read; a sector where that cannot be tried."""
    buffer = aligned(PAGE_SIZE).data
    for size in (SECTOR, 1024, 2048, PAGE_SIZE):
        try:
            os.preadv(fd, [buffer[:size]], size)
        except OSError as error:
            if error.errno == errno.EINVAL:
                continue
        return size
    return SECTOR
