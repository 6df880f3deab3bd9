"""userfaultfd: include/uapi/linux/userfaultfd.h, names verbatim."""

from ctypes import Structure, c_int64, c_uint64
from struct import Struct

UFFD_API = 0xAA
UFFD_USER_MODE_ONLY = 1

UFFDIO_API = 0xC018AA3F
UFFDIO_REGISTER = 0xC020AA00
UFFDIO_UNREGISTER = 0x8010AA01
UFFDIO_WAKE = 0x8010AA02
UFFDIO_COPY = 0xC028AA03
UFFDIO_ZEROPAGE = 0xC020AA04
UFFDIO_WRITEPROTECT = 0xC018AA06
UFFDIO_CONTINUE = 0xC020AA07
UFFDIO_POISON = 0xC020AA08
UFFDIO_CONTINUE_MODE_DONTWAKE = 1
UFFDIO_CONTINUE_MODE_WP = 1 << 1
UFFDIO_COPY_MODE_WP = 1 << 1
UFFDIO_RWPROTECT = 0xC018AA09
UFFDIO_RWPROTECT_MODE_RWP, UFFDIO_RWPROTECT_MODE_DONTWAKE = 1 << 0, 1 << 1
USERFAULTFD_IOC_NEW = 0xAA00  # on /dev/userfaultfd

UFFDIO_REGISTER_MODE_MISSING = 1 << 0
UFFDIO_REGISTER_MODE_WP = 1 << 1
UFFDIO_REGISTER_MODE_MINOR = 1 << 2
UFFDIO_REGISTER_MODE_RWP = 1 << 3
UFFDIO_WRITEPROTECT_MODE_WP = 1 << 0

_FEATURES = """
PAGEFAULT_FLAG_WP EVENT_FORK EVENT_REMAP EVENT_REMOVE MISSING_HUGETLBFS MISSING_SHMEM EVENT_UNMAP SIGBUS THREAD_ID
MINOR_HUGETLBFS MINOR_SHMEM EXACT_ADDRESS WP_HUGETLBFS_SHMEM WP_UNPOPULATED POISON WP_ASYNC MOVE RWP
RWP_ASYNC
"""
FEATURES = {f"UFFD_FEATURE_{name}": 1 << bit for bit, name in enumerate(_FEATURES.split())}
"""Feature bits by name; UFFDIO_API with features = 0 returns those that the kernel has."""

uffd_msg = Struct("<B7xQQQ")
"""event, then of a page fault: flags, address, and the thread's id; of REMOVE and UNMAP: start and end."""
UFFD_EVENT_PAGEFAULT, UFFD_EVENT_FORK, UFFD_EVENT_REMAP = 0x12, 0x13, 0x14
UFFD_PAGEFAULT_FLAG_WRITE, UFFD_PAGEFAULT_FLAG_WP = 1 << 0, 1 << 1
UFFD_EVENT_REMOVE, UFFD_EVENT_UNMAP = 0x15, 0x16

UFFD_FEATURE_EVENT_REMAP = FEATURES["UFFD_FEATURE_EVENT_REMAP"]
UFFD_FEATURE_MISSING_SHMEM = FEATURES["UFFD_FEATURE_MISSING_SHMEM"]
UFFD_FEATURE_SIGBUS = FEATURES["UFFD_FEATURE_SIGBUS"]
UFFD_FEATURE_MINOR_SHMEM = FEATURES["UFFD_FEATURE_MINOR_SHMEM"]
UFFD_FEATURE_EVENT_REMOVE = FEATURES["UFFD_FEATURE_EVENT_REMOVE"]
UFFD_FEATURE_POISON = FEATURES["UFFD_FEATURE_POISON"]
UFFD_FEATURE_RWP = FEATURES["UFFD_FEATURE_RWP"]
UFFD_FEATURE_WP_HUGETLBFS_SHMEM = FEATURES["UFFD_FEATURE_WP_HUGETLBFS_SHMEM"]


class uffdio_api(Structure):
    _fields_ = (("api", c_uint64), ("features", c_uint64), ("ioctls", c_uint64))


class uffdio_range(Structure):
    _fields_ = (("start", c_uint64), ("len", c_uint64))


class uffdio_register(Structure):
    _fields_ = (("range", uffdio_range), ("mode", c_uint64), ("ioctls", c_uint64))


class uffdio_copy(Structure):
    _fields_ = (("dst", c_uint64), ("src", c_uint64), ("len", c_uint64), ("mode", c_uint64), ("copy", c_int64))


class uffdio_writeprotect(Structure):
    _fields_ = (("range", uffdio_range), ("mode", c_uint64))


class uffdio_rwprotect(Structure):
    _fields_ = (("range", uffdio_range), ("mode", c_uint64))


class uffdio_continue(Structure):
    _fields_ = (("range", uffdio_range), ("mode", c_uint64), ("mapped", c_int64))


class uffdio_zeropage(Structure):
    _fields_ = (("range", uffdio_range), ("mode", c_uint64), ("zeropage", c_int64))


class uffdio_poison(Structure):
    _fields_ = (("range", uffdio_range), ("mode", c_uint64), ("updated", c_int64))
