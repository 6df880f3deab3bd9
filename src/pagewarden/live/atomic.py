"""A number in a guest's memory, changed in one piece by the kernel, which says EFAULT where it is private."""

import ctypes
import os
from collections.abc import Callable
from functools import cache, partial

from pagewarden.live.kernel import number_of, symbol

FUTEX_WAKE_OP_PRIVATE = 5 | 128  # include/uapi/linux/futex.h
FUTEX_OP_ADD = 1
FUTEX_OP_OPARG_SHIFT = 8  # the operand is 1 << its number
_HALF = 16  # the number is the upper half of an aligned word: what overflows is lost, nothing else changes

_own = ctypes.c_uint32()  # the word that nobody waits for
_prototype = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint,
                              ctypes.c_ulong, ctypes.c_void_p, ctypes.c_uint, use_errno=True)


@cache
def _wake_op() -> Callable[[int, int], int]:
    """futex(2) but for its last two arguments: the address and what to do there."""
    own = ctypes.addressof(_own)
    return partial(_prototype(symbol("syscall")), number_of("futex"), own, FUTEX_WAKE_OP_PRIVATE, 0, 0)


def add16(address: int, amount: int) -> None:
    """Add to the 2-byte number at an address that is 2 modulo 4, one bit of the amount at a time: no other number shows
    than sums on the way. OSError(EFAULT) where the page does not answer.

    FUTEX_WAKE_OP adds to a word atomically and then wakes waiters, here none (kernel/futex/waitwake.c, futex_wake_op).
    """
    for bit in range(amount.bit_length()):
        if amount >> bit & 1:
            operation = (FUTEX_OP_ADD | FUTEX_OP_OPARG_SHIFT) << 28 | (_HALF + bit) << 12
            if _wake_op()(address - 2, operation) < 0:
                code = ctypes.get_errno()
                raise OSError(code, f"futex: {os.strerror(code)}")
