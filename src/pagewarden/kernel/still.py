"""Counting without the interpreter's own system calls: it has the memory that it will ask for, before it is watched.

CPython 3.11 and later give frames chunks of 16 KiB, and map and unmap one at each call that crosses into it
(Python/pystate.c, push_chunk and _PyThreadState_PopFrame): how deep the caller's stack is decides whether a loop does.
Objects lie in arenas of 1 MiB, unmapped with their last object (Objects/obmalloc.c, new_arena, insert_to_freepool).
"""

import gc
from collections.abc import Callable
from types import FunctionType
from typing import TypeVar

from pagewarden.kernel.counters import Counters

Result = TypeVar("Result")

_FRAME = 4000
"""Words of a frame that no chunk has room for: the one that it gets, 64 KiB, has as much behind it (8,000 bytes would
be the least, MINIMUM_OVERHEAD of Python/pystate.c)."""
_FILL = (None,) * 55
"""With one before it: a tuple of the largest size that arenas hold, 512 bytes with what the collector adds."""


def still(go: Callable[[], Result]) -> Result:
    """go(), while frames and objects of this thread neither map nor unmap memory, for some 50 calls deep and as long as
    less than a mebibyte of new objects stays. Without the garbage collector, which gives memory back too.

    Raises Unavailable where system calls cannot be counted.
    """
    gc.disable()
    try:
        result: Result = _roomy(go)
        return result
    finally:
        gc.enable()


def _filled(go: Callable[[], Result]) -> Result:
    pins: tuple[object, ...] = ()  # an object in each arena that had room, and in a new one
    with Counters("syscalls:mmap") as mapped:
        before = mapped["syscalls:mmap"]
        while mapped["syscalls:mmap"] == before:
            for _ in range(32):  # half a pool of 16 KiB or more
                pins = (pins, *_FILL)
    return go()


_roomy = FunctionType(_filled.__code__.replace(co_stacksize=_FRAME), globals(), "_roomy")
