"""A snapshot's pages in one memory file of this process, that clones map."""

import os
import threading
from collections.abc import Sequence

import numpy as np

from pagewarden.keep.seal import BATCH, cut, wipe
from pagewarden.keep.snapshot import Snapshot
from pagewarden.kernel.door import memfd, seal
from pagewarden.kernel.region import Region
from pagewarden.vocab import PAGE_SIZE
from pagewarden.vocab.closing import Closing
from pagewarden.vocab.runs import in_runs


class CleanPages(Closing):
    """The memory file of a Template: pages, each unsealed once, and how many clones have them mapped."""

    def __init__(self, path: str | os.PathLike[str], key: bytes) -> None:
        """Raises as snapshot.Snapshot does, and OSError where there is no memory file."""
        self._saved = Snapshot(path, key)
        try:
            self.size, self.manifest = self._saved.size, self._saved.manifest
            self.file = memfd("pagewarden-template", self.size, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            self.region = Region(self.size)
            self.region.place(self.file.fd)
            self.region.keep_to_this_process()
            seal(self.file.fd)
        except BaseException:
            self._saved.close()
            raise
        self._there = np.zeros(len(self.manifest.present), np.bool_)
        self._lock = threading.Lock()
        self._clones, self._over = 0, False

    @property
    def unsealed(self) -> int:
        """Bytes of pages that are there, for all clones together."""
        return int(self._there.sum()) * PAGE_SIZE

    def bring(self, first: int, count: int) -> tuple[int, str]:
        """Have pages that the snapshot has in the file: how many are right, and why the next is not."""
        with self._lock:
            for start, end in in_runs(first + np.flatnonzero(~self._there[first : first + count])):
                for at in range(start, end, BATCH):
                    stop = min(at + BATCH, end)
                    part = self.region.memory[at * PAGE_SIZE : stop * PAGE_SIZE]
                    right, why = self._saved.read(at, stop - at, cut(part, PAGE_SIZE))
                    self._there[at : at + right] = True
                    if why:
                        wipe(part[right * PAGE_SIZE :])
                        return at + right - first, why
        return count, ""

    def read(self, first: int, count: int, targets: Sequence[memoryview]) -> tuple[int, str]:
        """As of Snapshot."""
        right, why = self.bring(first, count)
        held = cut(self.region.memory[first * PAGE_SIZE : (first + right) * PAGE_SIZE], PAGE_SIZE)
        for page, target in zip(held, targets, strict=False):
            target[:] = page
        return right, why

    def enter(self) -> None:
        """One clone more."""
        with self._lock:
            if self._over:
                raise ValueError("the template is closed: no more clones of it are made")
            self._clones += 1

    def leave(self) -> None:
        """One clone less."""
        with self._lock:
            self._clones -= 1
            self._end()

    def close(self) -> None:
        """No more clones; it goes with the last. Twice is once."""
        with self._lock:
            self._over = True
            self._end()

    def forked(self) -> None:
        """In a forked child: the descriptors go, and nothing is waited for."""
        self._lock, self._clones, self._over = threading.Lock(), 0, True
        self.file.close()
        self._saved.close()

    def _end(self) -> None:
        if self._over and not self._clones:
            self.region.close()
            self.file.close()
            self._saved.close()
