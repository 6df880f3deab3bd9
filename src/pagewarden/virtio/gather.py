"""Many places at once for a view that has no such calls: through a scratch file, by readv and writev of the view."""

import os

import numpy as np
from numpy.typing import NDArray

from pagewarden.kernel.door import Descriptor, memfd
from pagewarden.port import ForeseeingView, HostView, VectoredView

PARTS_MAX = 1024
"""Parts of one preadv or pwritev (include/uapi/linux/uio.h, UIO_MAXIOV)."""
Pairs = list[tuple[int, int]]
"""(gpa, bytes) each."""


def pairs(places: NDArray[np.int64], count: int) -> Pairs:
    """The first `count` columns of places, shape (2 or more, n), as the segments that a HostView takes."""
    return list(zip(places[0, :count].tolist(), places[1, :count].tolist(), strict=True))


def places_of(segments: Pairs) -> NDArray[np.int64]:
    """The same the other way, shape (2, n)."""
    return np.array(segments, np.int64).T.copy()


class Vectored:
    """port.VectoredView's methods; the view's own where it has them. They raise what the view raises."""

    def __init__(self, view: HostView) -> None:
        self._own: Descriptor | None = None
        self.ahead = view.ahead if isinstance(view, ForeseeingView) else None
        if isinstance(view, VectoredView):
            self.gather, self.scatter, self.transfer, self.add16 = view.gather, view.scatter, view.transfer, view.add16
            return
        self._view, self._own = view, memfd("pagewarden-gather", 0)
        self._file = self._own.fd
        self.gather, self.scatter, self.transfer = self._gather, self._scatter, self._transfer
        self.add16 = self._add16

    def _gather(self, places: NDArray[np.int64], count: int, target: NDArray[np.uint8]) -> None:
        at, segments = 0, pairs(places, count)
        for first in range(0, count, PARTS_MAX):
            at += self._view.pwrite_to(self._file, at, segments[first : first + PARTS_MAX])
        os.preadv(self._file, [target.data], 0)

    def _scatter(self, places: NDArray[np.int64], count: int, data: NDArray[np.uint8]) -> None:
        at, segments = 0, pairs(places, count)
        os.pwrite(self._file, data.data, 0)
        for first in range(0, count, PARTS_MAX):
            at += self._view.pread_from(self._file, at, segments[first : first + PARTS_MAX])

    def _transfer(self, fd: int, runs: NDArray[np.int64], places: NDArray[np.int64]) -> int:
        calls = {0: self._view.pread_from, 1: self._view.pwrite_to}
        for done, (direction, offset, first, stop) in enumerate(runs[:, :4].tolist()):
            segments = pairs(places[:, first:stop], stop - first)
            try:
                if direction not in calls or calls[direction](fd, offset, segments) != sum(n for _, n in segments):
                    return done
            except (OSError, ValueError):  # asked again, one by one, and then told
                return done
        return len(runs)

    def _add16(self, offset: int, amount: int) -> None:
        """Not in one piece: for views of guests that stand still meanwhile."""
        value = int.from_bytes(self._view.read(offset, 2), "little") + amount
        self._view.write(offset, (value & 0xFFFF).to_bytes(2, "little"))

    def close(self) -> None:
        if self._own is not None:
            self._own.close()
