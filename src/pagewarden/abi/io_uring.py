"""io_uring: a ring's set-up, requests to read and write, answers (include/uapi/linux/io_uring.h)."""

from ctypes import Structure, c_int32, c_uint8, c_uint16, c_uint32, c_uint64

from pagewarden.abi import each

IORING_OP_READV = 1
IORING_OP_WRITEV = 2
IORING_OP_READ_FIXED = 4
IORING_OP_WRITE_FIXED = 5
IORING_OP_READ = 22
IORING_OP_WRITE = 23

IORING_OFF_SQ_RING = 0
IORING_OFF_CQ_RING = 0x8000000
IORING_OFF_SQES = 0x10000000

IORING_ENTER_GETEVENTS = 1 << 0
IORING_REGISTER_BUFFERS = 0


class io_sqring_offsets(Structure):
    """Where the fields of the submission ring lie in its mapping, bytes."""

    _fields_ = (*each(c_uint32, "head tail ring_mask ring_entries flags dropped array resv1"), ("user_addr", c_uint64))


class io_cqring_offsets(Structure):
    """Where the fields of the completion ring lie in its mapping, bytes."""

    _fields_ = (*each(c_uint32, "head tail ring_mask ring_entries overflow cqes flags resv1"), ("user_addr", c_uint64))


class io_uring_params(Structure):
    """In: flags; out: sizes and offsets."""

    _fields_ = (
        *each(c_uint32, "sq_entries cq_entries flags sq_thread_cpu sq_thread_idle features wq_fd"),
        ("resv", c_uint32 * 3),
        ("sq_off", io_sqring_offsets),
        ("cq_off", io_cqring_offsets),
    )


class io_uring_sqe(Structure):
    """A request; of each union the member that read and write use."""

    _fields_ = (
        *each(c_uint8, "opcode flags"),
        ("ioprio", c_uint16),
        ("fd", c_int32),
        *each(c_uint64, "off addr"),
        *each(c_uint32, "len rw_flags"),
        ("user_data", c_uint64),
        *each(c_uint16, "buf_index personality"),
        ("splice_fd_in", c_int32),
        *each(c_uint64, "addr3 __pad2"),
    )


class io_uring_cqe(Structure):
    """An answer; res is the byte count or -errno."""

    _fields_ = (("user_data", c_uint64), ("res", c_int32), ("flags", c_uint32))
