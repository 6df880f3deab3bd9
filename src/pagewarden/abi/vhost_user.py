"""vhost-user: the numbers of its messages and what they carry (QEMU's docs/interop/vhost-user.rst), little endian."""

from enum import IntEnum
from struct import Struct

import numpy as np

VERSION, VERSION_MASK, REPLY, NEED_REPLY = 1, 3, 1 << 2, 1 << 3
"""Flags of a header."""
VHOST_USER_F_PROTOCOL_FEATURES = 30
"""A feature bit beside the device's."""
VHOST_F_LOG_ALL = 26


class FrontRequest(IntEnum):
    """What a front end may ask (VHOST_USER_*)."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_LOG_BASE = 6
    SET_LOG_FD = 7
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SET_BACKEND_REQ_FD = 21
    IOTLB_MSG = 22
    GET_CONFIG = 24
    SET_CONFIG = 25
    GET_INFLIGHT_FD = 31
    SET_INFLIGHT_FD = 32
    RESET_DEVICE = 34
    GET_MAX_MEM_SLOTS = 36
    ADD_MEM_REG = 37
    REM_MEM_REG = 38
    SET_STATUS = 39
    GET_STATUS = 40


class BackRequest(IntEnum):
    """What a back end may ask, on a channel of its own (VHOST_USER_BACKEND_*)."""

    IOTLB_MSG = 1
    CONFIG_CHANGE_MSG = 2


class ProtocolFeature(IntEnum):
    """Bits of GET_PROTOCOL_FEATURES that are spoken here (VHOST_USER_PROTOCOL_F_*)."""

    MQ = 0
    REPLY_ACK = 3
    BACKEND_REQ = 5
    CONFIG = 9
    INFLIGHT_SHMFD = 12
    RESET_DEVICE = 13
    CONFIGURE_MEM_SLOTS = 15
    STATUS = 16


class IotlbType(IntEnum):
    """What an IOTLB_MSG says (include/uapi/linux/vhost_types.h)."""

    MISS = 1
    UPDATE = 2
    INVALIDATE = 3
    ACCESS_FAIL = 4


VHOST_ACCESS_RO, VHOST_ACCESS_WO, VHOST_ACCESS_RW = 1, 2, 3
VRING_INDEX_MASK, VRING_NOFD = 0xFF, 1 << 8
"""Of the number that comes with a ring's eventfd."""
MEMORY_REGIONS = 8
"""Of a SET_MEM_TABLE: VHOST_MEMORY_BASELINE_NREGIONS."""
MEMORY_SLOTS = 32
"""Regions at once, where each is added by itself."""
CONFIG_MAX = 256
"""Bytes of a configuration (VHOST_USER_MAX_CONFIG_SIZE)."""

HEADER = Struct("<III")  # request, flags, bytes that follow
U64 = Struct("<Q")
VRING_STATE = Struct("<II")  # index, number
VRING_ADDR = Struct("<IIQQQQ")  # index, flags, descriptor table, used ring, avail ring, log
TABLE_HEAD = Struct("<II")  # regions, padding
REGION = Struct("<QQQQ")  # gpa, bytes, the front end's address, offset in the file
SINGLE_REGION = Struct("<QQQQQ")  # padding, then as REGION
IOTLB = Struct("<QQQBB6x")  # iova, bytes, the front end's address, permission, type
CONFIG_HEAD = Struct("<III")  # offset, bytes, flags
INFLIGHT = Struct("<QQHH4x")  # bytes, offset, queues, entries of each
INFLIGHT_VERSION = 1
QUEUE_REGION_SPLIT = np.dtype(
    [
        ("features", "<u8"),
        ("version", "<u2"),  # 0: nothing was put here yet
        ("desc_num", "<u2"),
        ("last_batch_head", "<u2"),
        ("used_idx", "<u2"),
    ]
)
DESC_STATE_SPLIT = np.dtype([("inflight", "u1"), ("padding", "u1", 5), ("next", "<u2"), ("counter", "<u8")])
"""Of each descriptor behind a QUEUE_REGION_SPLIT; what counts is that of a chain's head."""
