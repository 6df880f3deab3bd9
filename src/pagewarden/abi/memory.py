"""Memory of files and processes: numbers of include/uapi (mman-common.h, mman.h, falloc.h, prctl.h), names verbatim."""

from ctypes import Structure, c_uint8, c_uint32, c_uint64

PROT_NONE, PROT_READ, PROT_WRITE, PROT_EXEC = 0, 1, 2, 4
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS, MAP_NORESERVE = 0x01, 0x02, 0x10, 0x20, 0x4000
MAP_FIXED_NOREPLACE = 0x100000
MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4

MADV_NORMAL = 0
MADV_DONTNEED = 4
MADV_FREE = 8
MADV_REMOVE = 9
MADV_DONTFORK = 10
MADV_DOFORK = 11
MADV_NOHUGEPAGE = 15
MADV_DONTDUMP = 16
MADV_POPULATE_WRITE = 23
MADV_DONTNEED_LOCKED = 24  # DONTNEED that mlockall does not turn down
MADV_GUARD_INSTALL = 102
MADV_GUARD_REMOVE = 103

MLOCK_ONFAULT = 1
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2

PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4


AT_FDCWD = -100  # fcntl.h
AT_EMPTY_PATH = 0x1000
STATX_DIOALIGN = 0x2000


class statx(Structure):
    """include/uapi/linux/stat.h up to what is used; the kernel writes 256 bytes, times and ids as `_`."""

    _fields_ = (
        ("stx_mask", c_uint32),
        ("_", c_uint8 * 132),
        ("stx_dev_major", c_uint32),
        ("stx_dev_minor", c_uint32),
        ("stx_mnt_id", c_uint64),
        ("stx_dio_mem_align", c_uint32),
        ("stx_dio_offset_align", c_uint32),
        ("stx_spare", c_uint64 * 12),
    )


class iovec(Structure):
    _fields_ = (("iov_base", c_uint64), ("iov_len", c_uint64))
