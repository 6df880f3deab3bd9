"""What every virtio device has: virtio 1.2, names verbatim from its listings (2.1, 2.7, 6).

Feature bits are bit numbers, as in the specification; all numbers in memory are little endian.
"""

import numpy as np

# device status (2.1)
ACKNOWLEDGE = 1
DRIVER = 2
DRIVER_OK = 4
FEATURES_OK = 8
DEVICE_NEEDS_RESET = 64

# reserved feature bits (6)
VIRTIO_F_INDIRECT_DESC = 28
VIRTIO_F_EVENT_IDX = 29
VIRTIO_F_VERSION_1 = 32
VIRTIO_F_ACCESS_PLATFORM = 33
VIRTIO_F_RING_PACKED = 34
VIRTIO_F_IN_ORDER = 35

# split virtqueues (2.7)
VIRTQ_DESC_F_NEXT = 1
VIRTQ_DESC_F_WRITE = 2
VIRTQ_DESC_F_INDIRECT = 4
VIRTQ_AVAIL_F_NO_INTERRUPT = 1
VIRTQ_USED_F_NO_NOTIFY = 1

virtq_desc = np.dtype(
    [
        ("addr", "<u8"),  # gpa of the buffer
        ("len", "<u4"),  # bytes
        ("flags", "<u2"),
        ("next", "<u2"),  # index of the next descriptor, if flags have VIRTQ_DESC_F_NEXT
    ]
)
virtq_used_elem = np.dtype(
    [
        ("id", "<u4"),  # index of the chain's first descriptor
        ("len", "<u4"),  # bytes written, from the first device-writable one on
    ]
)

VIRTQ_DESC_ALIGN = 16
VIRTQ_AVAIL_ALIGN = 2
VIRTQ_USED_ALIGN = 4
QUEUE_SIZE_LIMIT = 1 << 15
"""Largest size of a split virtqueue, entries (2.7)."""
