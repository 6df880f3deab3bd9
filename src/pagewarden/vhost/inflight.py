"""What a front end keeps of the chains in flight, for a back end that comes after this one.

The format and its order of steps: QEMU's docs/interop/vhost-user.rst, "Inflight I/O tracking", for split rings. This
device completes chains in order, so that the used index alone would do for its own successor; the file serves one that
does not, and this device where it follows such a one. A device without a guard marks only what goes the long way
(virtio.at_once): chains without a mark are taken from the avail ring again, which is the same.
"""

import os
import stat
from contextlib import suppress

import numpy as np

from pagewarden.abi.vhost_user import DESC_STATE_SPLIT, INFLIGHT_VERSION, QUEUE_REGION_SPLIT
from pagewarden.kernel.door import Descriptor, memfd
from pagewarden.vhost.messages import FrontEndFault
from pagewarden.virtio.virtqueue import Heads

_ALIGNMENT = 64
_MODULO = 0xFFFF


def _stride(size: int) -> int:
    """Bytes of a ring of so many entries (libvhost-user.c, vu_inflight_queue_size)."""
    return -(-(QUEUE_REGION_SPLIT.itemsize + DESC_STATE_SPLIT.itemsize * size) // _ALIGNMENT) * _ALIGNMENT


def inflight_file(queues: int, size: int) -> tuple[Descriptor, int]:
    """A file for so many rings, zeroes, and its length in bytes."""
    length = queues * _stride(size)
    return memfd("pagewarden-inflight", length), length


class InflightFile:
    """The front end's file, for so many rings of at most `size` entries."""

    def __init__(self, file: Descriptor, queues: int, size: int, length: int) -> None:
        """FrontEndFault for a file that is none, or too short."""
        self.file, self.queues, self.size = file, queues, size
        status = os.fstat(file.fd)
        if not stat.S_ISREG(status.st_mode) or not queues * _stride(size) <= length <= status.st_size:
            file.close()
            raise FrontEndFault(f"keeps what is in flight of {queues} rings of {size} entries in {length} bytes")

    def offset(self, index: int, entries: int) -> int:
        """Where this ring begins; FrontEndFault for one that was not said to be there."""
        if index >= self.queues or entries > self.size:
            raise FrontEndFault(
                f"keeps what is in flight of {self.queues} rings of {self.size} entries, not of {index}"
            )
        return index * _stride(self.size)

    def ring(self, index: int, entries: int) -> "InflightRing":
        """What is kept of this ring."""
        return InflightRing(os.dup(self.file.fd), self.offset(index, entries), self.size)


class InflightRing:
    """A virtio.virtqueue.ChainLedger: one ring's part of the file. A copy is kept here, and written as a whole: it is
    this device's alone. A file that does not take it (a front end may seal or shorten its own) keeps nothing."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        """fd: is taken over."""
        self._file, self._offset = Descriptor(fd), offset
        self._bytes = np.zeros(QUEUE_REGION_SPLIT.itemsize + DESC_STATE_SPLIT.itemsize * size, np.uint8)
        self._head = self._bytes[: QUEUE_REGION_SPLIT.itemsize].view(QUEUE_REGION_SPLIT)[0]
        self._states = self._bytes[QUEUE_REGION_SPLIT.itemsize :].view(DESC_STATE_SPLIT)
        self._taken: Heads = np.zeros(0, np.int64)
        self._counter = 0

    def resume(self, used: int) -> list[int]:
        head, states = self._head, self._states
        with suppress(OSError):
            os.preadv(self._file.fd, [self._bytes.data], self._offset)
        last = used - int(head["used_idx"]) & _MODULO
        if head["version"] != INFLIGHT_VERSION or last > len(states):
            self._bytes[:] = 0  # new, or of another life of the ring
        at = int(head["last_batch_head"])
        for _ in range(min(last, len(states))):  # handed back, though the marks do not say so
            states["inflight"][at % len(states)] = 0
            at = int(states["next"][at % len(states)])
        head["version"], head["desc_num"], head["used_idx"] = INFLIGHT_VERSION, len(states), used
        found = np.flatnonzero(states["inflight"] == 1)
        self._counter = int(states["counter"].max(initial=0))
        self._write()
        return list(found[np.argsort(states["counter"][found], kind="stable")].tolist())

    def taken(self, heads: Heads, used: int) -> None:
        states, self._taken = self._states, heads.copy()
        states["counter"][heads] = np.arange(len(heads), dtype=np.uint64) + np.uint64(self._counter + 1 & (1 << 62) - 1)
        self._counter += len(heads)
        states["next"][heads] = [self._head["last_batch_head"], *heads[:-1].tolist()]
        states["inflight"][heads] = 1
        self._head["last_batch_head"], self._head["used_idx"] = heads[-1], used
        self._write()

    def handed_back(self, used: int) -> None:
        self._states["inflight"][self._taken] = 0
        self._head["used_idx"] = used
        self._write()

    def _write(self) -> None:
        with suppress(OSError):
            os.pwrite(self._file.fd, self._bytes.data, self._offset)
