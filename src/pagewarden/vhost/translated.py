"""A view by I/O addresses on a window by offsets: what was lent so far, and a question for the rest, all at once.

The table (virtio.placing) is this process's own: what it lacks is asked for, and what it says too much is refused by
the window.
"""

import errno
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pagewarden.abi.virtio import VIRTQ_DESC_F_WRITE
from pagewarden.memory.loan import DirectLoan
from pagewarden.memory.scatter_gather import ScatterGather
from pagewarden.memory.window import Window
from pagewarden.port import Buffer, Segments
from pagewarden.virtio.gather import pairs, places_of
from pagewarden.virtio.placing import (
    BY_FLAGS,
    NO_ROOM,
    NOT_LENT,
    OPEN,
    WRITABLE,
    absent_of,
    translate_of,
)
from pagewarden.virtio.work import DESCRIPTORS, PIECES
from pagewarden.vocab import PAGE_SIZE, PrivateAccess

SPAN = 1 << 38
"""Bytes of I/O addresses that are served: Linux gives out the first 4 GiB first (drivers/iommu/dma-iommu.c)."""
TRIES = 100
"""Times that a page may be taken back between the answer and its use."""
Ask = Callable[[NDArray[np.int64]], None]
"""Of (page, 1 where it is to be written) for each, shape (n, 2): when it returns, each is in the table, or was taken
back at once. PrivateAccess where one is not to be had."""


class TranslatedView:
    """port.ForeseeingView by I/O addresses; methods raise as those of the window do, offsets being I/O addresses."""

    size = SPAN

    def __init__(self, window: Window, ask: Ask) -> None:
        self._window, self._ask = window, ask
        self.table = np.zeros(SPAN // PAGE_SIZE, np.int64)
        """Entries by I/O page: set by whoever lends, and put back by `take_back`."""
        self._at = self.table.ctypes.data
        self._changing = threading.Lock()
        self._lent: dict[int, DirectLoan] = {}
        self._out = np.zeros((2, PIECES + 2 * DESCRIPTORS), np.int64)
        self._missing = np.zeros((PIECES, 2), np.int64)

    def ahead(self, descriptors: NDArray[np.int64], count: int) -> None:
        """Ask for all that these descriptors name and that is not lent yet: see pagewarden.port.ForeseeingView."""
        self._asked(descriptors, count, BY_FLAGS)

    def _asked(self, places: NDArray[np.int64], count: int, need: int) -> None:
        if lost := absent_of(self._at, places, count, need, self._missing):
            self._ask(self._missing[:lost])

    def lend(self, *places: tuple[int, int]) -> DirectLoan | None:
        """See pagewarden.port.LendingView; None, too, where a place lies in pieces. PrivateAccess."""
        last = len(places) - 1
        flat = np.array([(*place, VIRTQ_DESC_F_WRITE * (k == last)) for k, place in enumerate(places)], np.int64).T
        for _ in range(TRIES):
            self._asked(flat, len(places), BY_FLAGS)
            with self._changing:
                ends = [
                    translate_of(self._at, flat, k, k + 1, OPEN | WRITABLE * (k == last), self._out, k)
                    for k in range(len(places))
                ]
                if min(ends) == NOT_LENT:
                    continue
                if ends != list(range(1, len(places) + 1)):
                    break
                loan = DirectLoan(places, ScatterGather(self._window.address, self._window.size))
                loan.stand(self._out[0, : len(places)].tolist(), self._lent, self._at)
                return loan
        return None

    def take_back(self, pages: NDArray[np.int64]) -> None:
        """These I/O pages are lent no more; waits for who is at a ring that lies there."""
        with self._changing:
            self.table[pages] = 0
            loans = list(self._lent.values())
        first, stop = int(pages.min()), int(pages.max()) + 1
        for loan in loans:
            if loan.meets(first, stop):
                loan.take_back()

    def gather(self, places: NDArray[np.int64], count: int, target: NDArray[np.uint8]) -> None:
        self._with(places, count, OPEN, lambda out, n: self._window.gather(out, n, target))

    def scatter(self, places: NDArray[np.int64], count: int, data: NDArray[np.uint8]) -> None:
        self._with(places, count, OPEN | WRITABLE, lambda out, n: self._window.scatter(out, n, data))

    def add16(self, offset: int, amount: int) -> None:
        place = np.array([[offset], [2]], np.int64)
        self._with(place, 1, OPEN | WRITABLE, lambda out, n: self._window.add16(int(out[0, 0]), amount))

    def transfer(self, fd: int, runs: NDArray[np.int64], places: NDArray[np.int64]) -> int:
        return 0  # each by itself: what goes at once goes by virtio.at_once

    def read(self, offset: int, length: int) -> bytes:
        target = bytearray(length)
        self.read_into(offset, target)
        return bytes(target)

    def read_into(self, offset: int, target: Buffer) -> None:
        array = np.frombuffer(memoryview(target).cast("B"), np.uint8)
        self.gather(places_of([(offset, len(array))]), 1, array)

    def write(self, offset: int, data: Buffer) -> None:
        array = np.frombuffer(bytearray(data), np.uint8)
        self.scatter(places_of([(offset, len(array))]), 1, array)

    def pread_from(self, fd: int, file_offset: int, segments: Segments) -> int:
        return self._moved(OPEN | WRITABLE, segments, lambda parts: self._window.pread_from(fd, file_offset, parts))

    def pwrite_to(self, fd: int, file_offset: int, segments: Segments) -> int:
        return self._moved(OPEN, segments, lambda parts: self._window.pwrite_to(fd, file_offset, parts))

    def _moved(self, need: int, segments: Segments, move: Callable[[Segments], int]) -> int:
        done = [0]

        def act(out: NDArray[np.int64], count: int) -> None:
            done[0] = move(pairs(out, count))

        self._with(places_of(list(segments)), len(segments), need, act)
        return done[0]

    def _with(
        self, places: NDArray[np.int64], count: int, need: int, act: Callable[[NDArray[np.int64], int], None]
    ) -> None:
        """Do it with the places in the window, once all of them are lent; again where one was taken back meanwhile."""
        for tries_left in reversed(range(TRIES)):
            at = translate_of(self._at, places, 0, count, need, self._out, 0)
            if at == NO_ROOM:
                raise ValueError("more pages than a batch of this device has")
            if at == NOT_LENT:
                self._asked(places, count, need)
                continue
            try:
                act(self._out, at)
                return
            except PrivateAccess:
                if not tries_left:
                    break
        first = int(places[0, 0])
        raise PrivateAccess(errno.EFAULT, "the guest takes its pages back as fast as they are lent", first)
