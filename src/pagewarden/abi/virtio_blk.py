"""The block device: virtio 1.2, 5.2; names verbatim from its listings. Feature bits are bit numbers."""

import numpy as np

VIRTIO_BLK_F_SIZE_MAX = 1
VIRTIO_BLK_F_SEG_MAX = 2
VIRTIO_BLK_F_RO = 5
VIRTIO_BLK_F_BLK_SIZE = 6
VIRTIO_BLK_F_FLUSH = 9
VIRTIO_BLK_F_MQ = 12
VIRTIO_BLK_F_DISCARD = 13
VIRTIO_BLK_F_WRITE_ZEROES = 14

VIRTIO_BLK_T_IN = 0
VIRTIO_BLK_T_OUT = 1
VIRTIO_BLK_T_FLUSH = 4
VIRTIO_BLK_T_GET_ID = 8
VIRTIO_BLK_T_DISCARD = 11
VIRTIO_BLK_T_WRITE_ZEROES = 13

VIRTIO_BLK_S_OK = 0
VIRTIO_BLK_S_IOERR = 1
VIRTIO_BLK_S_UNSUPP = 2

VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP = 1
VIRTIO_BLK_ID_BYTES = 20
"""Bytes of the answer to VIRTIO_BLK_T_GET_ID (5.2.6)."""
SECTOR = 512
"""Bytes; sectors count in this unit whatever blk_size says (5.2.5)."""

virtio_blk_req = np.dtype(
    [  # what the driver writes before the data
        ("type", "<u4"),
        ("reserved", "<u4"),
        ("sector", "<u8"),
    ]
)
virtio_blk_discard_write_zeroes = np.dtype(
    [
        ("sector", "<u8"),
        ("num_sectors", "<u4"),
        ("flags", "<u4"),  # bit 0: unmap; the others are reserved
    ]
)
virtio_blk_config = np.dtype(
    [
        ("capacity", "<u8"),  # sectors
        ("size_max", "<u4"),  # bytes of a segment
        ("seg_max", "<u4"),  # segments of a request
        ("cylinders", "<u2"),
        ("heads", "u1"),
        ("sectors", "u1"),  # geometry
        ("blk_size", "<u4"),  # bytes
        ("physical_block_exp", "u1"),
        ("alignment_offset", "u1"),
        ("min_io_size", "<u2"),
        ("opt_io_size", "<u4"),
        ("writeback", "u1"),
        ("unused0", "u1"),
        ("num_queues", "<u2"),
        ("max_discard_sectors", "<u4"),  # of a range
        ("max_discard_seg", "<u4"),  # ranges of a request
        ("discard_sector_alignment", "<u4"),
        ("max_write_zeroes_sectors", "<u4"),
        ("max_write_zeroes_seg", "<u4"),
        ("write_zeroes_may_unmap", "u1"),
        ("unused1", "u1", (3,)),
        ("max_secure_erase_sectors", "<u4"),
        ("max_secure_erase_seg", "<u4"),
        ("secure_erase_sector_alignment", "<u4"),
    ]
)
