"""Where a split virtqueue lies, and when the other side wants to be told."""

import errno
import threading
from dataclasses import dataclass

from pagewarden.abi.virtio import (
    QUEUE_SIZE_LIMIT,
    VIRTQ_AVAIL_ALIGN,
    VIRTQ_DESC_ALIGN,
    VIRTQ_USED_ALIGN,
    virtq_desc,
    virtq_used_elem,
)
from pagewarden.vocab import Refused

RING = 4
"""Bytes of flags and idx before the entries of the avail ring and of the used ring (virtio 1.2, 2.7.6, 2.7.8)."""
_FENCE = threading.Lock()


def need_event(event: int, new: int, old: int) -> bool:
    """Whether the index passed the event that the other side waits for, going from old to new; all modulo 2^16
    (virtio 1.2, 2.7.10: vring_need_event)."""
    return (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF


def barrier() -> None:
    """Stores before, loads after: taking a lock is a locked instruction, a full barrier on x86."""
    with _FENCE:
        pass


@dataclass(frozen=True, slots=True)
class Ring:
    """The three parts of a split virtqueue; offsets are gpas, bytes (virtio 1.2, 2.7)."""

    size: int  # entries, a power of two
    desc: int
    avail: int
    used: int

    @property
    def used_event(self) -> int:
        """Where the driver says at which used index it wants an interrupt."""
        return self.avail + RING + 2 * self.size

    @property
    def avail_event(self) -> int:
        """Where the device says at which avail index it wants a kick."""
        return self.used + RING + virtq_used_elem.itemsize * self.size

    @property
    def parts(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """(gpa, bytes) of descriptor table, avail ring, used ring, each with its event index."""
        return (
            (self.desc, virtq_desc.itemsize * self.size),
            (self.avail, self.used_event + 2 - self.avail),
            (self.used, self.avail_event + 2 - self.used),
        )

    def checked(self, memory: int, size_max: int = QUEUE_SIZE_LIMIT) -> "Ring":
        """This ring, if it fits in a memory of so many bytes and a device with so many entries; Refused(EINVAL)."""
        if not 0 < self.size <= size_max or self.size & (self.size - 1):
            raise Refused(errno.EINVAL, f"a queue of {self.size} entries: not a power of two from 1 to {size_max}")
        named = (
            ("descriptor table", VIRTQ_DESC_ALIGN),
            ("avail ring", VIRTQ_AVAIL_ALIGN),
            ("used ring", VIRTQ_USED_ALIGN),
        )
        for (part, alignment), (start, length) in zip(named, self.parts, strict=True):
            if not 0 <= start <= start + length <= memory:
                raise Refused(errno.EINVAL, f"the {part} reaches beyond the memory", start)
            if start % alignment:
                raise Refused(errno.EINVAL, f"the {part} is not aligned to {alignment} bytes", start)
        return self

    @classmethod
    def placed(cls, size: int, start: int) -> "Ring":
        """The three parts in a row from `start`, a multiple of 16, each aligned; they end before avail_event + 2."""
        avail = start + virtq_desc.itemsize * size
        return cls(size, start, avail, -(-(avail + RING + 2 * size + 2) // VIRTQ_USED_ALIGN) * VIRTQ_USED_ALIGN)
