"""What a front end keeps of the requests in flight, for a back end that comes after this one.

This device completes chains in the order in which they were made available, so the used index in the guest's memory
says all about what is done, and a back end that starts goes on there (virtio.virtqueue). The file of the protocol is
handed out, since front ends do not reconnect without it, and holds no descriptor's state.
"""

from pagewarden.kernel.door import Descriptor, memfd

_QUEUE, _ENTRY = 16, 16
"""Bytes before the entries of a ring, and of an entry of a split ring (vhost-user: struct QueueRegionSplit)."""


def inflight_file(queues: int, size: int) -> tuple[Descriptor, int]:
    """A file for so many rings, zeroes, and its length in bytes."""
    length = queues * -(-(_QUEUE + _ENTRY * size) // 64) * 64
    return memfd("pagewarden-inflight", length), length
