"""Conversions of whole vectors of ranges, compiled, the GIL released. Loaded when first used."""

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from pagewarden.abi.uffd import UFFDIO_CONTINUE
from pagewarden.kernel import uffd
from pagewarden.vocab import PAGE_SIZE
from pagewarden.vocab.compiled import njit

_ioctl: Any = types.ExternalFunction("ioctl", types.int32(types.int32, types.uint64, types.uintp))
_madvise: Any = types.ExternalFunction("madvise", types.int32(types.uintp, types.uintp, types.int32))
_fill: Any = njit(uffd.fill_continue)


def _change(guard: int, window: int, zap: int, shared: Any, ranges: Any, to: int, request: Any) -> tuple[int, int, int]:
    """Convert the ranges, in order, until the kernel says no; ranges, pages and runs done.

    guard: the userfaultfd; window: address; zap: the madvise advice; shared: uint8 a page, kept up, and at least what
    is open at any time; ranges: int64 of shape (n, 2); request: uint64[4].
    """
    pages = runs = 0
    for k in range(len(ranges)):
        page, stop = ranges[k]
        while page < stop:
            if shared[page] == to:
                page += 1
                continue
            first = page
            while page < stop and shared[page] != to:
                page += 1
            address, length = window + first * PAGE_SIZE, (page - first) * PAGE_SIZE
            if to:
                shared[first:page] = 1
                _fill(request, address, length)
                failed = _ioctl(guard, UFFDIO_CONTINUE, request.ctypes.data)
                if failed and _madvise(address, length, zap) == 0:
                    shared[first:page] = 0
            else:
                failed = _madvise(address, length, zap)
                if not failed:
                    shared[first:page] = 0
            if failed:
                return k, pages, runs
            pages += page - first
            runs += 1
    return len(ranges), pages, runs


_compiled: Any = njit(nogil=True)(_change)


def change(
    guard: int, window: int, zap: int, shared: bytearray, ranges: NDArray[np.int64], to: int
) -> tuple[int, int, int]:
    """Convert the ranges in the direction; how many of them, of pages and of runs are done."""
    done: tuple[int, int, int] = _compiled(
        guard, window, zap, np.frombuffer(shared, np.uint8), ranges, to, np.zeros(4, np.uint64)
    )
    return done
