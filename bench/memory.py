"""What a conversion costs, and what a read through the window costs. `python bench/memory.py`

See thread_time for what is timed. What must not grow with the memory is in memory_sizes.
"""

import ctypes
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import njit, types

from pagewarden.abi import memory as uapi
from pagewarden.abi.uffd import UFFDIO_CONTINUE, UFFDIO_RWPROTECT
from pagewarden.kernel.door import map_anywhere, memfd, unmap
from pagewarden.kernel.region import Region
from pagewarden.kernel.uffd import fill_continue, fill_protect
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, Unavailable
from pagewarden.memory.backings.uffd_window import UffdWindow
from pagewarden.memory.conversions import WARM
from thread_time import looped, table, timed

MANY = 64
SIZES = (4 << 10, 64 << 10, 1 << 20)

_ioctl: Any = types.ExternalFunction("ioctl", types.int32(types.int32, types.uint64, types.uintp))
_madvise: Any = types.ExternalFunction("madvise", types.int32(types.uintp, types.uintp, types.int32))
_mprotect: Any = types.ExternalFunction("mprotect", types.int32(types.uintp, types.uintp, types.int32))
_munmap: Any = types.ExternalFunction("munmap", types.int32(types.uintp, types.uintp))
_mmap: Any = types.ExternalFunction(
    "mmap", types.uintp(types.uintp, types.uintp, types.int32, types.int32, types.int32, types.int64)
)
_fill: Any = njit(fill_continue)
_fill_protect: Any = njit(fill_protect)
_memcpy: Any = types.ExternalFunction("memcpy", types.uintp(types.uintp, types.uintp, types.uintp))


@njit
def raw_window(times: int, guard: int, zap: int, address: int, length: int, request: Any, word: Any) -> None:
    for _ in range(times):
        _fill(request, address, length)
        _ioctl(guard, UFFDIO_CONTINUE, request.ctypes.data)
        _memcpy(word.ctypes.data, address, 8)
        _madvise(address, length, zap)


@njit
def raw_mmap(times: int, file: int, length: int, word: Any) -> None:
    for _ in range(times):
        address = _mmap(0, length, 3, uapi.MAP_SHARED, file, 0)
        _memcpy(word.ctypes.data, address, 8)
        _munmap(address, length)


@njit
def raw_mprotect(times: int, address: int, length: int, word: Any) -> None:
    for _ in range(times):
        _mprotect(address, length, uapi.PROT_READ | uapi.PROT_WRITE)
        _memcpy(word.ctypes.data, address, 8)
        _mprotect(address, length, uapi.PROT_NONE)


def there_and_back(mem: PrivateMemory, pages: PageRange, times: int) -> Callable[[], float]:
    """Nanoseconds of a share() and an unshare() in a plain loop."""

    def run() -> float:
        share, unshare = mem.share, mem.unshare
        start = time.thread_time_ns()
        for _ in range(times):
            share(pages)
            unshare(pages)
        return (time.thread_time_ns() - start) / times

    return run


def conversions(mem: PrivateMemory, guarded: Region) -> None:
    one, many = PageRange(0, 1), PageRange(0, MANY)
    backing = mem._backing
    assert isinstance(backing, UffdWindow)
    guard, zap, at = backing.guard.fd, backing.zap, backing.window.address
    request, word = np.zeros(4, np.uint64), np.zeros(1, np.uint64)

    def both(pages: PageRange) -> None:
        mem.share(pages)
        mem.unshare(pages)

    def mapped() -> None:
        address = map_anywhere(PAGE_SIZE, mem.file, 0)
        ctypes.string_at(address, 8)
        unmap(address, PAGE_SIZE)

    table(
        "share + unshare of one page (touched in between where it is mapped), raw calls in compiled loops",
        {
            "CONTINUE + touch + DONTNEED": looped(
                lambda n: raw_window(n, guard, zap, at, PAGE_SIZE, request, word), 3000
            ),
            "mmap + touch + munmap": looped(lambda n: raw_mmap(n, mem.file, PAGE_SIZE, word), 3000),
            "mprotect + touch + mprotect": looped(lambda n: raw_mprotect(n, guarded.address, PAGE_SIZE, word), 3000),
        },
        "mmap + touch + munmap",
    )
    table(
        f"share + unshare of {MANY} contiguous pages, a call",
        {
            "1 page, raw": looped(lambda n: raw_window(n, guard, zap, at, PAGE_SIZE, request, word), 3000),
            f"{MANY} pages, raw": looped(
                lambda n: raw_window(n, guard, zap, at, MANY * PAGE_SIZE, request, word), 1000
            ),
            "1 page, share() + unshare()": timed(lambda: both(one), 2000),
            f"{MANY} pages, share() + unshare()": timed(lambda: both(many), 1000),
        },
        "1 page, raw",
    )
    scattered = np.array([(2 * k, 2 * k + 1) for k in range(500)], np.int64)

    def batch() -> None:
        mem.convert(scattered)
        mem.convert((), scattered)

    vector = timed(batch, 3)
    raw, first, warm, then = (
        "two raw calls",
        *(f"share() + unshare() {when}" for when in ("at first", "once warm", "after a convert()")),
    )
    with PrivateMemory(1 << 20, "uffd-window") as fresh, PrivateMemory(1 << 20, "uffd-window") as warmed:
        fresh.populate(0, bytes(PAGE_SIZE))
        warmed.populate(0, bytes(PAGE_SIZE))
        until_warm = there_and_back(warmed, one, WARM)() * WARM / 1e6
        print(f"\nwarm by itself after {WARM:,} share() + unshare(), {until_warm:,.0f} ms of CPU")
        mem.convert()
        alone = table(
            "from Python, one page",
            {
                raw: looped(lambda n: raw_window(n, guard, zap, at, PAGE_SIZE, request, word), 3000),
                first: there_and_back(fresh, one, 2000),
                warm: there_and_back(warmed, one, 2000),
                then: there_and_back(mem, one, 2000),
                "convert(), of 500 scattered ranges, each": lambda: vector() / len(scattered),
                "mmap + touch + munmap": timed(mapped, 2000),
            },
            raw,
        )
    for name in (first, warm, then):
        print(f"{name}: {alone[name] - alone[raw]:,.0f} ns over the two raw compiled calls")


@njit
def raw_protect(times: int, guard: int, address: int, length: int, request: Any, word: Any) -> None:
    for _ in range(times):
        _fill_protect(request, address, length, 0)
        _ioctl(guard, UFFDIO_RWPROTECT, request.ctypes.data)
        _memcpy(word.ctypes.data, address, 8)
        _fill_protect(request, address, length, 1)
        _ioctl(guard, UFFDIO_RWPROTECT, request.ctypes.data)


def protection() -> None:
    """uffd-rwp beside uffd-window (Linux 7.3 has both): a range there and back, by one call each way."""
    try:
        rwp = PrivateMemory(4 << 20, "uffd-rwp")
    except Unavailable as lack:
        print(f"\nuffd-rwp is not measured here: {lack}")
        return
    with rwp, PrivateMemory(4 << 20, "uffd-window") as window:
        for count in (1, 16, 256):
            pages, size, times = PageRange(0, count), count * PAGE_SIZE, 100
            for mem in (rwp, window):
                mem.populate(0, bytes(size))
                mem.convert([pages])  # every page has an entry from here on, and single pages are converted compiled
                mem.convert((), [pages])
            one, other = window._backing, rwp._backing
            assert isinstance(one, UffdWindow) and isinstance(other, UffdWindow)
            request, word = np.zeros(4, np.uint64), np.zeros(1, np.uint64)
            cases = {
                "CONTINUE + touch + DONTNEED": looped(partial(_window_of, one, size, request, word), times),
                "RWPROTECT + touch + RWPROTECT": looped(partial(_rwp_of, other, size, request, word), times),
                "uffd-window, share() + unshare()": there_and_back(window, pages, times),
                "uffd-rwp, share() + unshare()": there_and_back(rwp, pages, times),
            }
            table(f"there and back, {count} pages", cases, next(iter(cases)))


def _window_of(backing: UffdWindow, size: int, request: Any, word: Any, times: int) -> None:
    raw_window(times, backing.guard.fd, backing.zap, backing.window.address, size, request, word)


def _rwp_of(backing: UffdWindow, size: int, request: Any, word: Any, times: int) -> None:
    raw_protect(times, backing.guard.fd, backing.window.address, size, request, word)


def reads(mem: PrivateMemory, plain: Region) -> None:
    mem.share(PageRange(0, SIZES[-1] // PAGE_SIZE))
    window, view, open_view = mem.window, mem.window.memory, mem._backing.guest.memory
    storage = bytearray(SIZES[-1])
    buffer, into = memoryview(storage), ctypes.addressof(ctypes.c_char.from_buffer(storage))
    plain_view = plain.memory
    pool = memoryview(bytearray(SIZES[-1]))
    for size in SIZES:
        pages, times, target = PageRange(0, size // PAGE_SIZE), max(20, (8 << 20) // (size + 20_000)), buffer[:size]

        def copy(source: memoryview, target: memoryview = target, size: int = size) -> None:
            target[:] = source[:size]

        def shared_first(target: memoryview = target, size: int = size, pages: PageRange = pages) -> None:
            mem.share(pages)
            target[:] = view[:size]
            mem.unshare(pages)

        def remapped(size: int = size) -> None:
            address = map_anywhere(size, mem.file, 0)
            ctypes.memmove(into, address, size)
            unmap(address, size)

        def bounced(target: memoryview = target, size: int = size) -> None:
            pool[:size] = open_view[:size]
            target[:] = pool[:size]

        def guarded(target: memoryview = target) -> None:
            window.read_into(0, target)

        def from_file(target: memoryview = target) -> None:
            os.preadv(mem.file, [target], 0)

        mem.share(pages)
        cases = {
            "plain unprotected mapping": timed(lambda: copy(plain_view), times),
            "window, already shared": timed(lambda: copy(view), times),
            "window, guarded read_into": timed(guarded, times),
            "pread of the file": timed(from_file, times),
            "bounce (guest copy + host copy)": timed(bounced, times),
            "remap (mmap + copy + munmap)": timed(remapped, times),
        }
        table(f"reading {size >> 10} KiB into a buffer", cases, "plain unprotected mapping")
        mem.unshare(pages)
        table(
            f"reading {size >> 10} KiB, conversion included",
            {
                "remap (mmap + copy + munmap)": timed(remapped, times),
                "window (share + copy + unshare)": timed(shared_first, times),
            },
            "remap (mmap + copy + munmap)",
        )
        mem.share(PageRange(0, SIZES[-1] // PAGE_SIZE))


def main() -> None:
    file = memfd("plain", SIZES[-1])
    plain, guarded = Region(SIZES[-1]), Region(SIZES[-1])
    for region in (plain, guarded):
        region.place(file.fd)
        region.memory[:] = bytes(SIZES[-1])
    with PrivateMemory(4 << 20, "uffd-window") as mem:
        mem.populate(0, bytes(mem.size))
        conversions(mem, guarded)
        protection()
        reads(mem, plain)


if __name__ == "__main__":
    main()
