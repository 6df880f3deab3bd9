"""Memory that another side writes, from compiled code: words read once, and guarded copies of many places in one call.

A load here happens once, as it stands: the compiler neither repeats nor splits it, so what was checked is what is used.
A guarded copy is the kernel's: it stops at a page that does not answer. What does not go through at once (a private
page, places outside the memory, too much for the scratch file) is left to the caller, who tries again place by place
and learns what is wrong. Nothing checks the addresses of load and store: they come from mappings that the caller keeps.
"""

import os
from fcntl import F_GETFL
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pagewarden.vocab.compiled import njit

IOV_MAX = 1024
"""Segments of one preadv (include/uapi/linux/uio.h, UIO_MAXIOV)."""
FUTEX_WAKE_OP_PRIVATE = 5 | 128  # include/uapi/linux/futex.h
FUTEX_OP_ADD = 1
FUTEX_OP_OPARG_SHIFT = 8  # the operand is 1 << its number
_UPPER = 16  # the number is the upper half of an aligned word: what overflows is lost, nothing else changes

_ssize_call: Any = types.int64(types.int32, types.uintp, types.int32, types.int64)  # fd, iovec, parts, offset
_pwritev: Any = types.ExternalFunction("pwritev", _ssize_call)
_preadv: Any = types.ExternalFunction("preadv", _ssize_call)
_pread: Any = types.ExternalFunction("pread", types.int64(types.int32, types.uintp, types.int64, types.int64))
_syscall: Any = types.ExternalFunction("syscall", types.int64(*[types.int64] * 7))
_fcntl: Any = types.ExternalFunction("fcntl", types.int32(types.int32, types.int32))
_PINS = os.O_DIRECT


def _loader(bits: int) -> Any:
    def load(typing: Any, address: Any) -> Any:
        """The unsigned little-endian word at an address that is a multiple of its size."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            word = ir.IntType(bits)
            pointer = builder.inttoptr(arguments[0], word.as_pointer())
            value = builder.load_atomic(pointer, "acquire", bits // 8)
            return value if bits == 64 else builder.zext(value, ir.IntType(64))

        return types.int64(types.int64), generate

    return intrinsic(load)


def _storer(bits: int) -> Any:
    def store(typing: Any, address: Any, value: Any) -> Any:
        """Put the low bits of value there, in one piece, after all that came before."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            word = ir.IntType(bits)
            pointer = builder.inttoptr(arguments[0], word.as_pointer())
            value = arguments[1] if bits == 64 else builder.trunc(arguments[1], word)
            builder.store_atomic(value, pointer, "release", bits // 8)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return intrinsic(store)


def _fence(typing: Any) -> Any:
    """Stores before, loads after."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


def _exchange(typing: Any, address: Any, old: Any, new: Any) -> Any:
    """Put `new` into an aligned word of 64 bits if it is `old`; what it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.extract_value(builder.cmpxchg(pointer, arguments[1], arguments[2], "acq_rel", "acquire"), 0)

    return types.int64(types.int64, types.int64, types.int64), generate


exchange: Any = intrinsic(_exchange)
fence: Any = intrinsic(_fence)
load8, load16, load32, load64 = _loader(8), _loader(16), _loader(32), _loader(64)
store8, store16, store32, store64 = _storer(8), _storer(16), _storer(32), _storer(64)


OPEN, BUSY, SHUT = range(3)
"""States of a gate, a word of this process: nobody inside, somebody inside, nobody may enter any more.

Only compiled code goes inside, for a moment: no signal handler of Python runs there, so whoever shuts the gate never
waits for itself.
"""


def _enter(gate: int) -> bool:
    """Go inside, unless the gate is shut (or there is none: 0)."""
    return bool(gate != 0 and exchange(gate, OPEN, BUSY) == OPEN)


def _leave(gate: int) -> None:
    store64(gate, OPEN)


def _shut(gate: int) -> bool:
    """Let nobody in any more; False: somebody is inside, try again."""
    return bool(exchange(gate, OPEN, SHUT) != BUSY)


enter: Any = njit(_enter)
leave: Any = njit(_leave)
shut: Any = njit("b1(i8)")(_shut)


def _prepare(base: int, size: int, places: Any, first: int, count: int, iov: int) -> int:
    """Fill iov, the address of struct iovec, from `count` places on from `first`; bytes, or -1: one is outside."""
    total = 0
    for k in range(count):
        start, length = places[0, first + k], places[1, first + k]
        if start < 0 or length < 0 or start > size - length:
            return -1
        store64(iov + 16 * k, base + start)
        store64(iov + 16 * k + 8, length)
        total += length
    return total


prepare: Any = njit(_prepare)


def _copy_out(fd: int, room: int, base: int, size: int, places: Any, count: int, iov: int) -> int:
    """The bytes of the places into the scratch file `fd` of `room` bytes; how many, or -1: not all went through."""
    at = 0
    for first in range(0, count, IOV_MAX):
        parts = min(IOV_MAX, count - first)
        total = prepare(base, size, places, first, parts, iov)
        if total < 0 or at + total > room or _pwritev(fd, iov, parts, at) != total:
            return -1
        at += total
    return at


def _copy_in(fd: int, room: int, base: int, size: int, places: Any, count: int, iov: int) -> int:
    """The same the other way, in the order of the places."""
    at = 0
    for first in range(0, count, IOV_MAX):
        parts = min(IOV_MAX, count - first)
        total = prepare(base, size, places, first, parts, iov)
        if total < 0 or at + total > room:
            return -1
        if parts == 1:  # a quarter cheaper than a vector of one
            if _pread(fd, load64(iov), total, at) != total:
                return -1
        elif _preadv(fd, iov, parts, at) != total:
            return -1
        at += total
    return at


copy_out: Any = njit(_copy_out)
copy_in: Any = njit(_copy_in)


def _move(fd: int, base: int, size: int, runs: Any, count_of_runs: int, places: Any, iov: int) -> int:
    """The first runs between a file and the places, each in one call, as far as all of a run moves; how many did.

    Not for a file that pins the pages: somebody must hold them meanwhile.
    """
    for n in range(count_of_runs):
        direction, offset, first, count = runs[n, 0], runs[n, 1], runs[n, 2], runs[n, 3] - runs[n, 2]
        total = prepare(base, size, places, first, count, iov) if 0 < count <= IOV_MAX else -1
        if total < 0:
            return n
        if direction == 0:
            moved = _preadv(fd, iov, count, offset)
        elif direction == 1:
            moved = _pwritev(fd, iov, count, offset)
        else:
            return n
        if moved != total:
            return n
    return count_of_runs


move: Any = njit(_move)


def _transfer(fd: int, base: int, size: int, runs: Any, places: Any, iov: int) -> int:
    flags = _fcntl(fd, F_GETFL)
    if flags < 0 or flags & _PINS:
        return 0
    return int(move(fd, base, size, runs, len(runs), places, iov))


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


transfer: Any = njit("i8(i8,i8,i8,i8[:,::1],i8[:,::1],i8)", nogil=True)(_transfer)
add16: Any = njit("i8(i8,i8,i8,i8)", nogil=True)(_add16)
