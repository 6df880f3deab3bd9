"""Calls about a mapping rather than its bytes: advice, locking, residency. Each is followed by a look at the page."""

import contextlib
import ctypes

from pagewarden.kernel.door import syscall
from pagewarden.probe import raw
from pagewarden.probe.registry import Attempt, Direction, Target, path
from pagewarden.vocab import HUGE_PAGE

READ, WRITE = Direction.READ, Direction.WRITE

MADV = {
    "dontneed": 4,
    "free": 8,
    "willneed": 3,
    "cold": 20,
    "pageout": 21,
    "populate-read": 22,
    "populate-write": 23,
    "dontfork": 10,
    "mergeable": 12,
    "hugepage": 14,
    "guard-remove": 103,
}
"""madvise advice by name (include/uapi/asm-generic/mman-common.h). HWPOISON is left out: it would lose the page."""
MADV_REMOVE, MADV_DOFORK, MADV_COLLAPSE = 9, 11, 25
TRIES = 5


def advise(target: Target, advice: int) -> None:
    """madvise(2) on the page."""
    syscall("madvise", target.address, target.length, advice)


def _register(name: str, advice: int) -> None:
    @path(f"madvise-{name}", READ, about=f"madvise({name.upper()}), whatever it answers, then a look")
    def read(target: Target) -> bytes:
        with contextlib.suppress(OSError):
            advise(target, advice)
        return raw.look(target.address)


for _name, _advice in MADV.items():
    _register(_name, _advice)


def _register_loss(name: str) -> None:
    @path(f"madvise-{name}", WRITE, about=f"madvise({name.upper()}), whatever it answers: are bytes lost?")
    def write(target: Target) -> bytes:
        with contextlib.suppress(OSError):
            advise(target, MADV[name])
        return b""


for _name in ("dontneed", "pageout"):
    _register_loss(_name)


@path("madvise-remove", READ, advice=MADV_REMOVE)
def remove_and_look(target: Target) -> bytes:
    """madvise(REMOVE) punches a hole through the mapping, then a look."""
    advise(target, MADV_REMOVE)
    return raw.look(target.address)


@path("madvise-remove", WRITE, advice=MADV_REMOVE)
def remove(target: Target) -> bytes:
    """madvise(REMOVE) punches a hole through the mapping."""
    advise(target, MADV_REMOVE)
    return b""


@path("madvise-collapse", READ, size=2 * HUGE_PAGE)
def collapse(target: Target) -> bytes:
    """madvise(COLLAPSE) puts the page and its neighbours on one huge page, mapped as a whole; then a look."""
    for _ in range(TRIES):
        with contextlib.suppress(OSError):  # EAGAIN: some page was busy
            syscall("madvise", target.address // HUGE_PAGE * HUGE_PAGE, HUGE_PAGE, MADV_COLLAPSE)
    return raw.look(target.address)


@path("madvise-dofork", READ, advice=MADV_DOFORK)
def dofork(target: Target) -> bytes:
    """madvise(DOFORK) undoes DONTFORK, then a forked process looks."""
    advise(target, MADV_DOFORK)
    return raw.elsewhere(lambda: raw.look(target.address))


@path("madvise-dofork-before", READ, advice=MADV_DOFORK)
def dofork_before(target: Target) -> Attempt:
    """madvise(DOFORK) and a fork before the conversion; the child looks after it."""
    advise(target, MADV_DOFORK)
    helper = raw.Helper(lambda: raw.look(target.address), before=lambda: raw.look(target.address))
    yield
    return helper.result()


@path("mlock", READ, calls=("mlock",))
def mlock(target: Target) -> bytes:
    """mlock(2), which faults pages in by GUP, then a look."""
    syscall("mlock", target.address, target.length)
    return raw.look(target.address)


@path("mlock-before", READ, calls=("mlock",))
def mlock_before(target: Target) -> Attempt:
    """mlock(2) before the conversion, so that plain advice cannot close the page; a look after it."""
    syscall("mlock", target.address, target.length)
    yield
    return raw.look(target.address)


@path("mincore", READ, calls=("mincore",))
def mincore(target: Target) -> bytes:
    """mincore(2): tells residency, never bytes."""
    seen = ctypes.create_string_buffer(1)
    syscall("mincore", target.address, target.length, ctypes.addressof(seen))
    return b""


@path("pagemap", READ, calls=("openat",))
def pagemap(target: Target) -> bytes:
    """/proc/self/pagemap: tells the entry (and the frame number to a privileged reader), never bytes."""
    raw.make_dumpable()
    with open("/proc/self/pagemap", "rb", buffering=0) as stream:
        stream.seek(target.address // target.length * 8)
        stream.read(8)
    return b""
