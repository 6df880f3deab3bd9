"""Where a VMM's pages come from: its own snapshot of the memory, plain, or a sealed one."""

import os
from typing import TypeAlias

import numpy as np

from pagewarden.abi.memory import PROT_READ
from pagewarden.keep.seal import BATCH, cut
from pagewarden.keep.snapshot import Snapshot
from pagewarden.kernel.door import Descriptor
from pagewarden.kernel.region import Region
from pagewarden.vocab import HUGE_PAGE, PAGE_SIZE, UserMistake
from pagewarden.vocab.runs import in_runs


class PlainFile:
    """Memory as the VMM wrote it. It is mapped, and nobody but the kernel reads there, on behalf of UFFDIO_COPY: what
    is cut off meanwhile is its EFAULT, not this process's SIGBUS."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = Descriptor(path, "r")
        self.size = os.fstat(self._file.fd).st_size // PAGE_SIZE * PAGE_SIZE
        if not self.size:
            raise UserMistake(f"{os.fspath(path)} has not even a page: it is no snapshot of a memory")
        self._region = Region(self.size)
        self._region.place(self._file.fd, PROT_READ)

    def fetch(self, offset: int, length: int) -> tuple[int, int, str]:
        """Whole pages: the address where they lie until the next call, how many bytes of them are right, and why the
        next is not."""
        return self._region.address + offset, length, ""

    def close(self) -> None:
        """Give everything back. Twice is once."""
        self._region.close()
        self._file.close()


class SealedFile:
    """A snapshot that is sealed: pages are unsealed here, and only those that are right go on."""

    def __init__(self, path: str | os.PathLike[str], key: bytes) -> None:
        """Raises as Snapshot does."""
        self._saved = Snapshot(path, key)
        self.size = self._saved.size
        self._buffer = np.zeros(HUGE_PAGE, np.uint8)
        self._targets = cut(self._buffer.data, PAGE_SIZE)

    def fetch(self, offset: int, length: int) -> tuple[int, int, str]:
        first, count = offset // PAGE_SIZE, length // PAGE_SIZE
        self._buffer[:length] = 0
        for start, stop in in_runs(np.flatnonzero(self._saved.manifest.present[first : first + count])):
            for at in range(start, stop, BATCH):
                right, why = self._saved.read(first + at, min(BATCH, stop - at), self._targets[at : at + BATCH])
                if why:
                    return self._buffer.ctypes.data, (at + right) * PAGE_SIZE, why
        return self._buffer.ctypes.data, length, ""

    def close(self) -> None:
        """Give everything back. Twice is once."""
        self._saved.close()


PageSource: TypeAlias = PlainFile | SealedFile
"""Bytes by offset, with the same methods."""
