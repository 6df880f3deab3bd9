"""Linux AIO (include/uapi/linux/aio_abi.h), little-endian layout."""

from ctypes import Structure, c_int16, c_int32, c_int64, c_uint16, c_uint32, c_uint64

IOCB_CMD_PREAD = 0
IOCB_CMD_PWRITE = 1


class iocb(Structure):
    """A request; aio_buf is an address, aio_offset and aio_nbytes are bytes of the file."""

    _fields_ = (
        ("aio_data", c_uint64),
        ("aio_key", c_uint32),
        ("aio_rw_flags", c_int32),
        ("aio_lio_opcode", c_uint16),
        ("aio_reqprio", c_int16),
        ("aio_fildes", c_uint32),
        ("aio_buf", c_uint64),
        ("aio_nbytes", c_uint64),
        ("aio_offset", c_int64),
        ("aio_reserved2", c_uint64),
        ("aio_flags", c_uint32),
        ("aio_resfd", c_uint32),
    )


class io_event(Structure):
    """An answer; res is the byte count or -errno."""

    _fields_ = (("data", c_uint64), ("obj", c_uint64), ("res", c_int64), ("res2", c_int64))
