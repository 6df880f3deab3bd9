"""io_uring for a batch of transfers between a file and places of a window: one submission, and every completion waited
for (include/uapi/linux/io_uring.h).

Compiled as a whole, so that no exception and no signal handler of Python comes between submission and completion: when
a call returned, nothing of it is in flight. Whoever calls holds the pages meanwhile, for the kernel may pin them.
"""

import ctypes
import errno
import os
from contextlib import suppress
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from pagewarden.abi import io_uring as abi
from pagewarden.abi.memory import MADV_DONTFORK
from pagewarden.kernel.door import map_anywhere, opened, syscall, unmap
from pagewarden.kernel.guarded import IOV_MAX, load32, load64, prepare, store8, store32, store64
from pagewarden.kernel.machine import number_of
from pagewarden.vocab.compiled import njit

ENTRIES = 256
PARTS = 4096
"""Most struct iovec of a submission."""
_TRIES = 1000
_SQE, _CQE = ctypes.sizeof(abi.io_uring_sqe), ctypes.sizeof(abi.io_uring_cqe)
_FD, _ADDR, _LEN, _OFF, _DATA = (
    getattr(abi.io_uring_sqe, name).offset for name in ("fd", "addr", "len", "off", "user_data")
)
_RES = abi.io_uring_cqe.res.offset
RING, ENTER, SQES, SQ_HEAD, SQ_TAIL, SQ_MASK, CQ_HEAD, CQ_TAIL, CQ_MASK, CQES, IOV = range(11)
"""What compiled code knows of a ring: two numbers, and addresses of the shared parts and of struct iovec."""
_syscall: Any = types.ExternalFunction("syscall", types.int64(*[types.int64] * 7))


def _clash(runs: Any, totals: Any, count: int, direction: int, offset: int, length: int) -> bool:
    """Does a transfer meet one of the first `count`, and one of the two writes? They would not be done in order."""
    for k in range(count):
        written = direction == 1 or runs[k, 0] == 1
        if written and offset < runs[k, 1] + totals[k] and runs[k, 1] < offset + length:
            return True
    return False


clash: Any = njit(_clash)


def _fill(ring: Any, fd: int, base: int, size: int, runs: Any, places: Any, totals: Any) -> int:
    """Submission entries for the first of the runs, not yet shown to the kernel; how many."""
    tail, parts, writes = load32(ring[SQ_TAIL]), 0, False
    for n in range(min(len(runs), ENTRIES)):
        direction, offset, first, count = runs[n, 0], runs[n, 1], runs[n, 2], runs[n, 3] - runs[n, 2]
        if (direction != 0 and direction != 1) or not 0 < count <= min(IOV_MAX, PARTS - parts):
            return n
        iov = ring[IOV] + 16 * parts
        totals[n] = prepare(base, size, places, first, count, iov)
        writes = writes or direction == 1
        if totals[n] < 0 or (writes and clash(runs, totals, n, direction, offset, totals[n])):
            return n
        sqe = ring[SQES] + _SQE * ((tail + n) & ring[SQ_MASK])
        for k in range(0, _SQE, 8):
            store64(sqe + k, 0)
        store8(sqe, abi.IORING_OP_WRITEV if direction else abi.IORING_OP_READV)
        store32(sqe + _FD, fd)
        store64(sqe + _OFF, offset)
        store64(sqe + _ADDR, iov)
        store32(sqe + _LEN, count)
        store64(sqe + _DATA, n)
        parts += count
    return min(len(runs), ENTRIES)


fill: Any = njit(_fill)


def _reap(ring: Any, totals: Any, moved: Any) -> int:
    """Take what is complete; how many."""
    head, tail, count = load32(ring[CQ_HEAD]), load32(ring[CQ_TAIL]), 0
    while head != tail:
        cqe = ring[CQES] + _CQE * (head & ring[CQ_MASK])
        n = load64(cqe)
        moved[n] = load32(cqe + _RES) == totals[n]
        head = (head + 1) & 0xFFFFFFFF
        count += 1
    store32(ring[CQ_HEAD], head)
    return count


reap: Any = njit(_reap)


def _together(ring: Any, fd: int, base: int, size: int, runs: Any, places: Any, totals: Any, moved: Any) -> int:
    """The first of the runs at once; how many, all of them over. moved: which of them moved whole.

    They are handed over 1, 3, then 8 at a time, for a disk to begin while the rest is on its way: a fifth more requests
    of 4 KiB a second from a virtio disk, at 8 and at 32 together, than by one call.
    """
    count = fill(ring, fd, base, size, runs, places, totals)
    for n in range(count):
        moved[n] = 0
    tail, shown = load32(ring[SQ_TAIL]), 0
    while shown < count:
        shown = min(count, shown + min(8, max(1, 3 * shown)))
        store32(ring[SQ_TAIL], tail + shown)
        if shown < count:
            _syscall(ring[ENTER], ring[RING], (tail + shown - load32(ring[SQ_HEAD])) & 0xFFFFFFFF, 0, 0, 0, 0)
    done, failed = 0, 0
    while done < count:
        left = (tail + count - load32(ring[SQ_HEAD])) & 0xFFFFFFFF
        if _syscall(ring[ENTER], ring[RING], left, count - done, abi.IORING_ENTER_GETEVENTS, 0, 0) < 0:
            failed += 1  # a signal, most times, or no memory: what is not submitted by then is taken out again
            left = (tail + count - load32(ring[SQ_HEAD])) & 0xFFFFFFFF
            if left and failed > _TRIES:
                count -= left
                store32(ring[SQ_TAIL], tail + count)
        done += reap(ring, totals, moved)
    return int(count)


together: Any = njit("i8(i8[::1],i8,i8,i8,i8[:,::1],i8[:,::1],i8[::1],u1[::1])", nogil=True)(_together)


class Uring:
    """A ring for one thread at a time. OSError where this kernel, or this process, may not have one."""

    def __init__(self) -> None:
        self._mapped: list[tuple[int, int]] = []
        self._params = params = abi.io_uring_params()
        self._own = opened("io_uring_setup", ENTRIES, ctypes.addressof(params))
        sq, cq = params.sq_off, params.cq_off
        sq_at = self._map(sq.array + 4 * params.sq_entries, abi.IORING_OFF_SQ_RING)
        cq_at = self._map(cq.cqes + _CQE * params.cq_entries, abi.IORING_OFF_CQ_RING)
        sqes = self._map(_SQE * params.sq_entries, abi.IORING_OFF_SQES)
        order = (ctypes.c_uint32 * params.sq_entries).from_address(sq_at + sq.array)
        order[:] = range(params.sq_entries)
        self._iov, self._totals = np.zeros(2 * PARTS, np.uint64), np.zeros(ENTRIES, np.int64)
        parts = sq_at + sq.head, sq_at + sq.tail, params.sq_entries - 1, cq_at + cq.head, cq_at + cq.tail
        self._ring = np.array(
            [self._own.fd, number_of("io_uring_enter"), sqes, *parts, params.cq_entries - 1, cq_at + cq.cqes,
             self._iov.ctypes.data], np.int64)  # fmt: skip

    def _map(self, size: int, offset: int) -> int:
        address = map_anywhere(size, self._own.fd, offset)
        self._mapped.append((address, size))
        syscall("madvise", address, size, MADV_DONTFORK)
        return address

    def together(
        self,
        fd: int,
        base: int,
        size: int,
        runs: NDArray[np.int64],
        places: NDArray[np.int64],
        moved: NDArray[np.uint8],
    ) -> int:
        """The first of the runs (port.VectoredView.transfer) at once, as many as there is room for and none of which
        has to wait for another; how many that was, all of them over. moved: 1 for each that moved whole, else 0."""
        if len(moved) < min(len(runs), ENTRIES):
            raise ValueError(f"room for {len(moved)} answers to {len(runs)} runs")
        count: int = together(self._ring, fd, base, size, runs, places, self._totals, moved)
        return count

    def forked(self) -> None:
        """In a forked child: the ring is the parent's (its pages are not here: MADV_DONTFORK)."""
        self._mapped.clear()
        self._own.close()

    def close(self) -> None:
        """Twice is once, and a ring that nobody refers to any more closes itself."""
        while self._mapped:
            unmap(*self._mapped.pop())
        self._own.close()

    def __del__(self) -> None:
        with suppress(AttributeError):  # it was never made
            self.close()


def why_none(error: OSError) -> str:
    """What a refusal to make a ring means."""
    words = {
        errno.EPERM: "kernel.io_uring_disabled, or a seccomp filter",
        errno.ENOSYS: "a kernel without it, or a seccomp filter",
        errno.ENOMEM: "RLIMIT_MEMLOCK, or no memory",
        errno.EMFILE: "RLIMIT_NOFILE",
    }
    code = error.errno or errno.EIO
    return f"io_uring_setup: {errno.errorcode.get(code, code)}, {words.get(code, os.strerror(code))}"
