"""Sizes and offsets of the structures against the header's (x86-64 and arm64 agree)."""

import ctypes

from pagewarden.abi import aio, io_uring


def test_io_uring_layouts() -> None:
    assert ctypes.sizeof(io_uring.io_uring_params) == 120
    assert io_uring.io_uring_params.sq_off.offset == 40 and io_uring.io_uring_params.cq_off.offset == 80
    assert ctypes.sizeof(io_uring.io_uring_sqe) == 64 and ctypes.sizeof(io_uring.io_uring_cqe) == 16
    sqe = io_uring.io_uring_sqe
    assert (sqe.off.offset, sqe.addr.offset, sqe.len.offset, sqe.user_data.offset, sqe.buf_index.offset) == (
        8,
        16,
        24,
        32,
        40,
    )


def test_aio_layouts() -> None:
    assert ctypes.sizeof(aio.iocb) == 64 and ctypes.sizeof(aio.io_event) == 32
    assert (aio.iocb.aio_lio_opcode.offset, aio.iocb.aio_buf.offset, aio.iocb.aio_resfd.offset) == (16, 24, 60)
