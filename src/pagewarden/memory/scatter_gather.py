"""Many small places of a window in one system call, without Python for each: compiled, through a scratch file.

What does not go through at once (a private page, places outside the memory, too much for the scratch file) is left to
the caller, who tries again place by place and learns what is wrong. The code is ready when the module is imported: a
process that gives up its rights imports it before.
"""

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from pagewarden.kernel.door import number_of
from pagewarden.memory.scratch import CHUNK, IOV_MAX, Scratch
from pagewarden.vocab.compiled import njit

_ssize_call: Any = types.int64(types.int32, types.uintp, types.int32, types.int64)  # fd, iovec, parts, offset
_pwritev: Any = types.ExternalFunction("pwritev", _ssize_call)
_preadv: Any = types.ExternalFunction("preadv", _ssize_call)
_syscall: Any = types.ExternalFunction("syscall", types.int64(*[types.int64] * 7))

FUTEX_WAKE_OP_PRIVATE = 5 | 128  # include/uapi/linux/futex.h
FUTEX_OP_ADD = 1
FUTEX_OP_OPARG_SHIFT = 8  # the operand is 1 << its number
_UPPER = 16  # the number is the upper half of an aligned word: what overflows is lost, nothing else changes


def _prepare(base: int, size: int, places: Any, first: int, count: int, iov: Any) -> int:
    """Fill iov, struct iovec as pairs of uint64, from `count` places on from `first`; bytes, or -1: one is outside."""
    total = 0
    for k in range(count):
        start, length = places[0, first + k], places[1, first + k]
        if start < 0 or length < 0 or start > size - length:
            return -1
        iov[2 * k], iov[2 * k + 1] = base + start, length
        total += length
    return total


def _gather(fd: int, base: int, size: int, places: Any, count: int, iov: Any, scratch: Any, target: Any) -> bool:
    at = 0
    for first in range(0, count, IOV_MAX):
        parts = min(IOV_MAX, count - first)
        total = prepare(base, size, places, first, parts, iov)
        if total < 0 or at + total > CHUNK or _pwritev(fd, iov.ctypes.data, parts, at) != total:
            return False
        at += total
    for k in range(min(at, len(target))):
        target[k] = scratch[k]
    return True


def _scatter(fd: int, base: int, size: int, places: Any, count: int, iov: Any, scratch: Any, data: Any) -> bool:
    if len(data) > CHUNK:
        return False
    for k in range(len(data)):
        scratch[k] = data[k]
    at = 0
    for first in range(0, count, IOV_MAX):
        parts = min(IOV_MAX, count - first)
        total = prepare(base, size, places, first, parts, iov)
        if total < 0 or at + total > len(data) or _preadv(fd, iov.ctypes.data, parts, at) != total:
            return False
        at += total
    return True


def _transfer(fd: int, base: int, size: int, runs: Any, places: Any, iov: Any) -> int:
    for n in range(len(runs)):
        direction, offset, first, count = runs[n, 0], runs[n, 1], runs[n, 2], runs[n, 3] - runs[n, 2]
        total = prepare(base, size, places, first, count, iov) if 0 < count <= IOV_MAX else -1
        if total < 0:
            return n
        if direction == 0:
            moved = _preadv(fd, iov.ctypes.data, count, offset)
        elif direction == 1:
            moved = _pwritev(fd, iov.ctypes.data, count, offset)
        else:
            return n
        if moved != total:
            return n
    return len(runs)


def _add16(futex: int, own: int, address: int, amount: int) -> int:
    """Add to the upper half of a word, one bit of the amount at a time: no other number shows than sums on the way.
    What is left to add: 0, or more where the page does not answer.

    FUTEX_WAKE_OP adds to a word atomically, then wakes waiters of two words, here none (kernel/futex/waitwake.c).
    """
    for bit in range(16):
        if amount >> bit & 1:
            operation = (FUTEX_OP_ADD | FUTEX_OP_OPARG_SHIFT) << 28 | (_UPPER + bit) << 12
            if _syscall(futex, own, FUTEX_WAKE_OP_PRIVATE, 0, 0, address - 2, operation) < 0:
                return amount
            amount &= ~(1 << bit)
    return 0


prepare: Any = njit(_prepare)
_move = njit("b1(i8,i8,i8,i8[:,::1],i8,u8[::1],u1[::1],u1[::1])", nogil=True)
gather: Any = _move(_gather)
scatter: Any = _move(_scatter)
transfer: Any = njit("i8(i8,i8,i8,i8[:,::1],i8[:,::1],u8[::1])", nogil=True)(_transfer)
add16: Any = njit("i8(i8,i8,i8,i8)", nogil=True)(_add16)


class Vectored:
    """One scratch file and its arrays, for one thread at a time. gather and scatter return whether all went through."""

    def __init__(self, base: int, size: int) -> None:
        self._base, self._size = base, size
        self._scratch = Scratch()
        self._bytes: NDArray[np.uint8] | None = np.frombuffer(self._scratch.region.memory, np.uint8)
        self._iov = np.zeros(2 * IOV_MAX, np.uint64)
        self._word = np.zeros(1, np.uint32)  # nobody waits for it
        self._futex, self._own = number_of("futex"), self._word.ctypes.data

    def gather(self, places: NDArray[np.int64], count: int, target: NDArray[np.uint8]) -> bool:
        whole: bool = gather(self._scratch.file, self._base, self._size, places, count, self._iov, self._bytes, target)
        return whole

    def scatter(self, places: NDArray[np.int64], count: int, data: NDArray[np.uint8]) -> bool:
        whole: bool = scatter(self._scratch.file, self._base, self._size, places, count, self._iov, self._bytes, data)
        return whole

    def transfer(self, fd: int, runs: NDArray[np.int64], places: NDArray[np.int64]) -> int:
        done: int = transfer(fd, self._base, self._size, runs, places, self._iov)
        return done

    def add16(self, offset: int, amount: int) -> int:
        """What is left to add."""
        left: int = add16(self._futex, self._own, self._base + offset, amount)
        return left

    def forked(self) -> None:
        """In a forked child: see Scratch."""
        self._scratch.forked()

    def close(self) -> None:
        self._bytes = None  # the array would keep the region's memory
        self._scratch.close()
