"""Many small places of a window in one system call, without Python for each: compiled, through a scratch file.

The code is ready when the module is imported: a process that gives up its rights imports it before.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.kernel import guarded
from pagewarden.kernel.machine import number_of
from pagewarden.memory.scratch import CHUNK, Scratch
from pagewarden.vocab.compiled import njit


def _gather(fd: int, base: int, size: int, places: Any, count: int, iov: int, scratch: Any, target: Any) -> bool:
    done = guarded.copy_out(fd, len(scratch), base, size, places, count, iov)
    for k in range(min(done, len(target))):
        target[k] = scratch[k]
    return bool(done >= 0)


def _scatter(fd: int, base: int, size: int, places: Any, count: int, iov: int, scratch: Any, data: Any) -> bool:
    if len(data) > len(scratch):
        return False
    for k in range(len(data)):
        scratch[k] = data[k]
    return bool(guarded.copy_in(fd, len(data), base, size, places, count, iov) >= 0)


_move = njit("b1(i8,i8,i8,i8[:,::1],i8,i8,u1[::1],u1[::1])", nogil=True)
gather: Any = _move(_gather)
scatter: Any = _move(_scatter)


class ScatterGather:
    """One scratch file and its arrays, for one thread at a time. gather and scatter return whether all went through."""

    def __init__(self, base: int, size: int) -> None:
        self.window = self._base, self._size = base, size
        self._scratch = Scratch()
        self._bytes: NDArray[np.uint8] | None = np.frombuffer(self._scratch.region.memory, np.uint8)
        self._iov = np.zeros(2 * guarded.IOV_MAX, np.uint64)
        self._iov_at = self._iov.ctypes.data
        self._word = np.zeros(1, np.uint32)  # nobody waits for it
        self._futex, self._own = number_of("futex"), self._word.ctypes.data

    @property
    def place(self) -> tuple[int, int, int]:
        """The scratch file: its fd, where it is mapped, bytes."""
        return self._scratch.file, self._scratch.region.address, CHUNK

    def gather(self, places: NDArray[np.int64], count: int, target: NDArray[np.uint8]) -> bool:
        whole: bool = gather(
            self._scratch.file, self._base, self._size, places, count, self._iov_at, self._bytes, target
        )
        return whole

    def scatter(self, places: NDArray[np.int64], count: int, data: NDArray[np.uint8]) -> bool:
        whole: bool = scatter(
            self._scratch.file, self._base, self._size, places, count, self._iov_at, self._bytes, data
        )
        return whole

    def transfer(self, fd: int, runs: NDArray[np.int64], places: NDArray[np.int64]) -> int:
        done: int = guarded.transfer(fd, self._base, self._size, runs, places, self._iov_at)
        return done

    def add16(self, offset: int, amount: int) -> int:
        """What is left to add."""
        left: int = guarded.add16(self._futex, self._own, self._base + offset, amount)
        return left

    def forked(self) -> None:
        """In a forked child: see Scratch."""
        self._scratch.forked()

    def close(self) -> None:
        self._bytes = None  # the array would keep the region's memory
        self._scratch.close()
