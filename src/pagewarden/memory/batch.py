"""Conversions in compiled code: whole vectors of ranges, the GIL released, and single pages. Loaded when first used."""

from functools import cache
from typing import Any, cast

import numpy as np
from numba import config, types
from numpy.typing import NDArray

from pagewarden.abi.uffd import (
    UFFDIO_CONTINUE,
    UFFDIO_RWPROTECT,
    UFFDIO_RWPROTECT_MODE_DONTWAKE,
    UFFDIO_RWPROTECT_MODE_RWP,
)
from pagewarden.kernel import uffd
from pagewarden.kernel.guarded import load64, store64
from pagewarden.memory.bolts import ASKED, BUSY, LENT
from pagewarden.vocab import HUGE_PAGE, PAGE_SIZE
from pagewarden.vocab.compiled import entry, njit

_ioctl: Any = types.ExternalFunction("ioctl", types.int32(types.int32, types.uint64, types.uintp))
_madvise: Any = types.ExternalFunction("madvise", types.int32(types.uintp, types.uintp, types.int32))
_fill: Any = njit(uffd.fill_continue)
_fill_protect: Any = njit(uffd.fill_protect)


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
            changed = page - first
            if to:
                shared[first:page] = 1
                _fill(request, address, length)
                failed = _ioctl(guard, UFFDIO_CONTINUE, request.ctypes.data)
                if failed and _madvise(address, length, zap) == 0:
                    shared[first:page] = 0
            else:
                for each in range(first + 1, page - 1):  # the first and the last are shared
                    changed -= 1 - shared[each]
                failed = _madvise(address, length, zap)
                if not failed:
                    shared[first:page] = 0
            if failed:
                return k, pages, calls
            pages += changed
            calls += 1
    return len(ranges), pages, calls


_compiled: Any = njit(nogil=True)(_change)


def _protected(
    guard: int, window: int, entries: Any, shared: Any, ranges: Any, to: int, request: Any
) -> tuple[int, int, int]:
    """The same by UFFDIO_RWPROTECT. entries: uint8 a page, kept up: 1 where the window has an entry that is shut, 2 for
    one that is open. It stops at a page without an entry that is to be opened."""
    pages = calls = 0
    for k in range(len(ranges)):
        page, stop = ranges[k]
        while page < stop:
            if shared[page] == to:
                page += 1
                continue
            first = page
            while page < stop and shared[page] != to and (not to or entries[page] == 1):
                page += 1
            if page == first:
                return k, pages, calls
            address, length = window + first * PAGE_SIZE, (page - first) * PAGE_SIZE
            if to:
                shared[first:page] = 1
            _fill_protect(request, address, length, 1 - to)
            failed = _ioctl(guard, UFFDIO_RWPROTECT, request.ctypes.data)
            if failed and to:
                _fill_protect(request, address, length, 1)
                if _ioctl(guard, UFFDIO_RWPROTECT, request.ctypes.data) == 0:
                    shared[first:page] = 0
            if failed:
                return k, pages, calls
            for each in range(first, page):
                shared[each] = to
                if entries[each]:
                    entries[each] = 1 + to
            pages += page - first
            calls += 1
    return len(ranges), pages, calls


_compiled_protected: Any = njit(nogil=True)(_protected)


def protect(
    guard: int, window: int, entries: bytearray, shared: bytearray, ranges: NDArray[np.int64], to: int
) -> tuple[int, int, int]:
    """As `change`, for a window whose pages are shut by protection."""
    done: tuple[int, int, int] = _compiled_protected(
        guard, window, np.frombuffer(entries, np.uint8), np.frombuffer(shared, np.uint8), ranges, to,
        np.zeros(4, np.uint64),
    )  # fmt: skip
    return done


def change(
    guard: int, window: int, zap: int, shared: bytearray, ranges: NDArray[np.int64], to: int
) -> tuple[int, int, int]:
    """Convert the ranges in the direction; how many of them, of pages and of calls are done."""
    done: tuple[int, int, int] = _compiled(
        guard, window, zap, np.frombuffer(shared, np.uint8), ranges, to, np.zeros(4, np.uint64)
    )
    return done


_memchr: Any = types.ExternalFunction("memchr", types.uintp(types.uintp, types.int32, types.uintp))
_memset: Any = types.ExternalFunction("memset", types.uintp(types.uintp, types.int32, types.uintp))
RANGE = HUGE_PAGE // PAGE_SIZE
"""Pages of the longest range that is converted with the GIL kept."""
_WORDS = range(0, 8 * 15, 8)
_GUARD, _WINDOW, _ZAP, _LEDGER, _PAGES, _BOLTS, _ENTRIES, _SHARED, _SHARES, _UNSHARED, _UNSHARES, _REQUEST, *_ = _WORDS
"""Where the words of a CompiledSingle lie, in bytes. Entries: where they are kept, 0 without protection. Shared: pages,
and in how many calls. The last are a uffdio_continue, or a uffdio_rwprotect."""


def _is_free(at: int, start: int, stop: int) -> bool:
    """Pages of the memory, not too many, and nobody who minds, as far as both directions go."""
    bolts = load64(at + _BOLTS)
    free = load64(bolts + 8 * BUSY) == 0 and load64(bolts + 8 * ASKED) == 0
    return bool(free and start >= 0 and 0 < stop - start <= RANGE and stop <= load64(at + _PAGES))


_free: Any = njit(_is_free)


def _turn(at: int, start: int, count: int, to: int) -> Any:
    """The kernel's part: 0 when it is done."""
    address, entries = load64(at + _WINDOW) + start * PAGE_SIZE, load64(at + _ENTRIES)
    if entries or to:
        store64(at + _REQUEST, address)
        store64(at + _REQUEST + 8, count * PAGE_SIZE)
    if entries:
        store64(at + _REQUEST + 16, UFFDIO_RWPROTECT_MODE_DONTWAKE if to else UFFDIO_RWPROTECT_MODE_RWP)
        failed = _ioctl(load64(at + _GUARD), UFFDIO_RWPROTECT, at + _REQUEST)
        if not failed:
            _memset(entries + start, 1 + to, count)
        return failed
    if to:
        return _ioctl(load64(at + _GUARD), UFFDIO_CONTINUE, at + _REQUEST)
    return _madvise(address, count * PAGE_SIZE, load64(at + _ZAP))


_turned: Any = njit(_turn)


def _share(at: int, start: int, stop: int) -> int:
    if not _free(at, start, stop):
        return 0
    count, states, entries = stop - start, load64(at + _LEDGER) + start, load64(at + _ENTRIES)
    if _memchr(states, 1, count):
        return int(_memchr(states, 0, count) == 0)
    if entries and (_memchr(entries + start, 0, count) or _memchr(entries + start, 2, count)):
        return 0
    _memset(states, 1, count)
    failed = _turned(at, start, count, 1)
    if failed and _turned(at, start, count, 0) == 0:
        _memset(states, 0, count)
    if failed:
        return 0
    store64(at + _SHARED, load64(at + _SHARED) + count)
    store64(at + _SHARES, load64(at + _SHARES) + 1)
    return 1


def _unshare(at: int, start: int, stop: int) -> int:
    if not _free(at, start, stop) or load64(load64(at + _BOLTS) + 8 * LENT):
        return 0
    count, states, entries = stop - start, load64(at + _LEDGER) + start, load64(at + _ENTRIES)
    if _memchr(states, 0, count):
        return int(_memchr(states, 1, count) == 0)
    if (entries and _memchr(entries + start, 0, count)) or _turned(at, start, count, 0):
        return 0
    _memset(states, 0, count)
    store64(at + _UNSHARED, load64(at + _UNSHARED) + count)
    store64(at + _UNSHARES, load64(at + _UNSHARES) + 1)
    return 1


class CompiledSingle:
    """See protocol.Single. The two keep the GIL."""

    def __init__(
        self, guard: int, window: int, zap: int, shared: bytearray, bolts: int, entries: bytearray | None = None
    ) -> None:
        """As of `change`, or of `protect`."""
        self._states = np.frombuffer(shared, np.uint8)  # which also keeps it where it is
        self._entries = None if entries is None else np.frombuffer(entries, np.uint8)
        at = 0 if self._entries is None else self._entries.ctypes.data
        self._words = np.zeros(len(_WORDS), np.uint64)
        self._words[:7] = guard, window, zap, self._states.ctypes.data, len(shared), bolts, at
        uffd.fill_continue(self._words[_REQUEST // 8 :], window, PAGE_SIZE)
        self.at: int = self._words.ctypes.data
        self.share, self.unshare = _entry(_share), _entry(_unshare)

    def done(self) -> list[tuple[int, int]]:
        """See protocol.Single."""
        pairs = self._words[_SHARED // 8 : _REQUEST // 8].reshape(2, 2)[::-1]
        return [(pages, calls) for pages, calls in pairs.tolist()]


@cache
def _entry(function: Any) -> Any:
    return entry(njit("i8(i8,i8,i8)")(function))


def single(
    guard: int, window: int, zap: int, shared: bytearray, bolts: int, entries: bytearray | None = None
) -> CompiledSingle | None:
    """None where nothing is compiled (NUMBA_DISABLE_JIT)."""
    return None if cast(Any, config).DISABLE_JIT else CompiledSingle(guard, window, zap, shared, bolts, entries)
