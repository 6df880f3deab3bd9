"""Many small places of the memory in one guarded call: through a scratch file, as one writev or readv.

The kernel moves bytes between shared pages and a file, and names what is private instead of dying; with a scratch file
at the other end that is a gather and a scatter. Where the mapping itself is in reach, its parts go to the system call
as they are; whatever does not go through at once is left to the view, which knows what to do about it.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.port import Buffer, HostView, MappedView

PARTS_MAX = 1024
"""Parts of one preadv or pwritev (include/uapi/linux/uio.h, UIO_MAXIOV)."""
Segments = Sequence[tuple[int, int]]
"""(gpa, bytes) each."""


def pairs(places: NDArray[np.int64], count: int) -> list[tuple[int, int]]:
    """The first `count` columns of places, shape (2 or more, n), as the segments that a HostView takes."""
    return list(zip(places[0, :count].tolist(), places[1, :count].tolist(), strict=True))


class Scratch:
    """The scratch file of one queue. Its methods raise what the view raises: PrivateAccess, ValueError."""

    def __init__(self, view: HostView) -> None:
        self._view = view
        self._memory = view.memory if isinstance(view, MappedView) else None
        self._file = os.memfd_create("pagewarden-gather", os.MFD_CLOEXEC)

    def gather(self, segments: Segments, target: NDArray[Any]) -> None:
        """The bytes of the segments, in their order, into the start of a contiguous array; what exceeds it is only
        touched."""
        self._through(os.pwritev, self._view.pwrite_to, segments)
        os.preadv(self._file, [target.data], 0)

    def scatter(self, segments: Segments, data: Buffer) -> None:
        """The bytes to the segments, in their order."""
        os.pwrite(self._file, data, 0)
        self._through(os.preadv, self._view.pread_from, segments)

    def _through(self, at_once: Callable[[int, list[memoryview], int], int],
                 guarded: Callable[[int, int, Segments], int], segments: Segments) -> None:
        at = 0
        for first in range(0, len(segments), PARTS_MAX):
            some = segments[first:first + PARTS_MAX]
            total = sum([length for _, length in some])
            if not self._moves(at_once, some, at, total):
                guarded(self._file, at, some)
            at += total

    def _moves(self, at_once: Callable[[int, list[memoryview], int], int], segments: Segments, at: int,
               total: int) -> bool:
        memory = self._memory
        if memory is None:
            return False
        try:
            return at_once(self._file, [memory[start:start + length] for start, length in segments], at) == total
        except OSError:
            return False

    def close(self) -> None:
        os.close(self._file)
