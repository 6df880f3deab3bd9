"""Calls about a mapping rather than its bytes: advice, locking, residency. Each is followed by a look at the page."""

import contextlib
import ctypes
import mmap

from pagewarden.live.kernel import syscall
from pagewarden.live.paths import raw
from pagewarden.live.paths.registry import Direction, Target, path

READ, WRITE = Direction.READ, Direction.WRITE

MADV = {
    "dontneed": 4, "free": 8, "remove": 9, "willneed": 3, "cold": 20, "pageout": 21, "populate-read": 22,
    "populate-write": 23, "collapse": 25, "dontfork": 10, "mergeable": 12, "hugepage": 14,
}
"""madvise advice by name (include/uapi/asm-generic/mman-common.h). HWPOISON is left out: it would lose the page."""
DISCARDS = ("dontneed", "remove", "pageout")
"""Advice that can take bytes away: tried as a write too, with nothing written after it."""


def advise(target: Target, advice: int) -> None:
    syscall("madvise", target.address, target.length, advice)


def _register(name: str, advice: int) -> None:
    @path(f"madvise-{name}", READ, about=f"madvise({name.upper()}), whatever it answers, then a look")
    def read(target: Target) -> bytes:
        with contextlib.suppress(OSError):
            advise(target, advice)
        return raw.look(target.address)

    if name not in DISCARDS:
        return

    @path(f"madvise-{name}", WRITE, about=f"madvise({name.upper()}): does the page lose its bytes?")
    def write(target: Target) -> bytes:
        advise(target, advice)
        return b""


for _name, _advice in MADV.items():
    _register(_name, _advice)


@path("madvise-dofork", READ)
def dofork(target: Target) -> bytes:
    """madvise(DOFORK) undoes DONTFORK, then a forked process looks."""
    advise(target, mmap.MADV_DOFORK)
    return raw.elsewhere(lambda: raw.look(target.address))


@path("mlock", READ)
def mlock(target: Target) -> bytes:
    """mlock(2), which faults pages in by GUP, then a look."""
    syscall("mlock", target.address, target.length)
    return raw.look(target.address)


@path("mincore", READ)
def mincore(target: Target) -> bytes:
    """mincore(2): tells residency, never bytes."""
    seen = ctypes.create_string_buffer(1)
    syscall("mincore", target.address, target.length, ctypes.addressof(seen))
    return b""


@path("pagemap", READ)
def pagemap(target: Target) -> bytes:
    """/proc/self/pagemap: tells the entry (and the frame number to a privileged reader), never bytes."""
    with open("/proc/self/pagemap", "rb", buffering=0) as stream:
        stream.seek(target.address // target.length * 8)
        stream.read(8)
    return b""


@path("msync", WRITE)
def msync(target: Target) -> bytes:
    """msync(MS_SYNC | MS_INVALIDATE): writes back, must lose nothing."""
    syscall("msync", target.address, target.length, 2 | 4)
    return b""
