"""Conversions in compiled code: whole vectors of ranges, the GIL released, and single pages. Loaded when first used."""

from functools import cache
from typing import Any, cast

import numpy as np
from numba import config, types
from numpy.typing import NDArray

from pagewarden.abi.uffd import UFFDIO_CONTINUE
from pagewarden.kernel import uffd
from pagewarden.kernel.guarded import load8, load64, store8, store64
from pagewarden.memory.bolts import ASKED, BUSY, LENT
from pagewarden.vocab import PAGE_SIZE
from pagewarden.vocab.compiled import entry, njit

_ioctl: Any = types.ExternalFunction("ioctl", types.int32(types.int32, types.uint64, types.uintp))
_madvise: Any = types.ExternalFunction("madvise", types.int32(types.uintp, types.uintp, types.int32))
_fill: Any = njit(uffd.fill_continue)


def _change(guard: int, window: int, zap: int, shared: Any, ranges: Any, to: int, request: Any) -> tuple[int, int, int]:
    """Convert the ranges, in order, until the kernel says no; ranges, pages and calls done.

    guard: the userfaultfd; window: address; zap: the madvise advice; shared: uint8 a page, kept up, and at least what
    is open at any time; ranges: int64 of shape (n, 2); request: uint64[4].
    """
    pages = calls = 0
    for k in range(len(ranges)):
        page, stop = ranges[k]
        while page < stop:
            if shared[page] == to:
                page += 1
                continue
            first = page
            if to:
                while page < stop and not shared[page]:
                    page += 1
            else:  # to unshare what is private costs nothing: one call for all that is left of the range
                page = stop
                while not shared[page - 1]:
                    page -= 1
            address, length = window + first * PAGE_SIZE, (page - first) * PAGE_SIZE
            changed = 0
            for each in range(first, page):
                changed += shared[each] != to
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
                return k, pages, calls
            pages += changed
            calls += 1
    return len(ranges), pages, calls


_compiled: Any = njit(nogil=True)(_change)


def change(
    guard: int, window: int, zap: int, shared: bytearray, ranges: NDArray[np.int64], to: int
) -> tuple[int, int, int]:
    """Convert the ranges in the direction; how many of them, of pages and of calls are done."""
    done: tuple[int, int, int] = _compiled(
        guard, window, zap, np.frombuffer(shared, np.uint8), ranges, to, np.zeros(4, np.uint64)
    )
    return done


_GUARD, _WINDOW, _ZAP, _LEDGER, _PAGES, _BOLTS, _SHARES, _UNSHARES, _REQUEST = (8 * k for k in range(9))
"""Where the words of a CompiledSingle lie, in bytes; the last are a uffdio_continue of one page."""


def _is_one(at: int, start: int, stop: int) -> bool:
    """One page of the memory, and nobody who minds, as far as both directions go."""
    bolts = load64(at + _BOLTS)
    free = load64(bolts + 8 * BUSY) == 0 and load64(bolts + 8 * ASKED) == 0
    return bool(free and stop == start + 1 and 0 <= start < load64(at + _PAGES))


_one: Any = njit(_is_one)


def _share(at: int, start: int, stop: int) -> int:
    if not _one(at, start, stop):
        return 0
    address, byte = load64(at + _WINDOW) + start * PAGE_SIZE, load64(at + _LEDGER) + start
    if load8(byte):
        return 1
    store8(byte, 1)
    store64(at + _REQUEST, address)
    failed = _ioctl(load64(at + _GUARD), UFFDIO_CONTINUE, at + _REQUEST)
    if failed and _madvise(address, PAGE_SIZE, load64(at + _ZAP)) == 0:
        store8(byte, 0)
    if failed:
        return 0
    store64(at + _SHARES, load64(at + _SHARES) + 1)
    return 1


def _unshare(at: int, start: int, stop: int) -> int:
    if not _one(at, start, stop) or load64(load64(at + _BOLTS) + 8 * LENT):
        return 0
    address, byte = load64(at + _WINDOW) + start * PAGE_SIZE, load64(at + _LEDGER) + start
    if not load8(byte):
        return 1
    if _madvise(address, PAGE_SIZE, load64(at + _ZAP)):
        return 0
    store8(byte, 0)
    store64(at + _UNSHARES, load64(at + _UNSHARES) + 1)
    return 1


class CompiledSingle:
    """See protocol.Single. The two keep the GIL."""

    def __init__(self, guard: int, window: int, zap: int, shared: bytearray, bolts: int) -> None:
        """As of `change`."""
        self._states = np.frombuffer(shared, np.uint8)  # which also keeps it where it is
        self._words = np.zeros(12, np.uint64)
        self._words[:6] = guard, window, zap, self._states.ctypes.data, len(shared), bolts
        uffd.fill_continue(self._words[_REQUEST // 8 :], window, PAGE_SIZE)
        self.at: int = self._words.ctypes.data
        self.share, self.unshare = _entry(_share), _entry(_unshare)

    def done(self) -> tuple[int, int]:
        """See protocol.Single."""
        return int(self._words[_UNSHARES // 8]), int(self._words[_SHARES // 8])


@cache
def _entry(function: Any) -> Any:
    return entry(njit("i8(i8,i8,i8)")(function))


def single(guard: int, window: int, zap: int, shared: bytearray, bolts: int) -> CompiledSingle | None:
    """None where nothing is compiled (NUMBA_DISABLE_JIT)."""
    return None if cast(Any, config).DISABLE_JIT else CompiledSingle(guard, window, zap, shared, bolts)
