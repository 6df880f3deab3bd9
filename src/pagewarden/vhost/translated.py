"""A view by I/O addresses on a window by offsets: what was lent so far, and a question for the rest, all at once.

An entry of the table is 0 where a page is not lent, else OPEN, with WRITABLE where the device may write, and the page
of the window above both. The table is this process's own: what it lacks is asked for, and what it says too much is
refused by the window.
"""

import errno
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.abi.virtio import VIRTQ_DESC_F_WRITE
from pagewarden.memory.window import Window
from pagewarden.port import Buffer, Segments
from pagewarden.virtio.gather import pairs, places_of
from pagewarden.virtio.work import DESCRIPTORS, PIECES
from pagewarden.vocab import PAGE_SIZE, PrivateAccess
from pagewarden.vocab.compiled import njit

SPAN = 1 << 38
"""Bytes of I/O addresses that are served: Linux gives out the first 4 GiB first (drivers/iommu/dma-iommu.c)."""
OPEN, WRITABLE, SHIFT = 1, 2, 2
TRIES = 100
"""Times that a page may be taken back between the answer and its use."""
Ask = Callable[[NDArray[np.int64]], None]
"""Of (page, 1 where it is to be written) for each, shape (n, 2): when it returns, each is in the table, or was taken
back at once. PrivateAccess where one is not to be had."""


def _translate(
    table: Any, places: Any, first: int, stop: int, need: int, out: Any, at: int, missing: Any, lost: int
) -> tuple[int, int]:
    """Columns [first, stop) of places into columns of out from `at` on; the next column, and how many pages are
    missing: rows of missing."""
    begin = at
    for k in range(first, stop):
        start, length = places[0, k], places[1, k]
        while length > 0:
            page, inside = start // PAGE_SIZE, start % PAGE_SIZE
            part = min(length, PAGE_SIZE - inside)
            entry = table[page]
            if entry & need != need:
                if lost < len(missing) and not (lost and missing[lost - 1, 0] == page):
                    missing[lost, 0], missing[lost, 1] = page, int(need != OPEN)
                    lost += 1
            elif lost == 0 and at < out.shape[1]:
                to = (entry >> SHIFT) * PAGE_SIZE + inside
                if at > begin and out[0, at - 1] + out[1, at - 1] == to:
                    out[1, at - 1] += part
                else:
                    out[0, at], out[1, at] = to, part
                    at += 1
            start += part
            length -= part
    return at, lost


def _lacking(table: Any, flat: Any, count: int, missing: Any) -> int:
    """Pages of descriptors that the table lacks, each as its flags want it; how many rows of missing."""
    lost = 0
    for k in range(count):
        need = OPEN | WRITABLE if flat[2, k] & VIRTQ_DESC_F_WRITE else OPEN
        for page in range(flat[0, k] // PAGE_SIZE, (flat[0, k] + flat[1, k] - 1) // PAGE_SIZE + 1):
            if table[page] & need != need and lost < len(missing):
                missing[lost, 0], missing[lost, 1] = page, int(need != OPEN)
                lost += 1
    return lost


translate: Any = njit("UniTuple(i8,2)(i8[::1],i8[:,:],i8,i8,i8,i8[:,::1],i8,i8[:,::1],i8)", nogil=True)(_translate)
lacking: Any = njit("i8(i8[::1],i8[:,:],i8,i8[:,::1])", nogil=True)(_lacking)


class TranslatedView:
    """port.ForeseeingView by I/O addresses; methods raise as those of the window do, offsets being I/O addresses."""

    size = SPAN

    def __init__(self, window: Window, ask: Ask) -> None:
        self._window, self._ask = window, ask
        self.table = np.zeros(SPAN // PAGE_SIZE, np.int64)
        """Entries by I/O page; who changes one need not hold a lock."""
        self._out = np.zeros((2, PIECES + 2 * DESCRIPTORS), np.int64)
        self._missing = np.zeros((PIECES, 2), np.int64)

    def ahead(self, descriptors: NDArray[np.int64], count: int) -> None:
        """Ask for all that these descriptors name and that is not lent yet: see pagewarden.port.ForeseeingView."""
        if lost := lacking(self.table, descriptors, count, self._missing):
            self._ask(self._missing[:lost])

    def gather(self, places: NDArray[np.int64], count: int, target: NDArray[np.uint8]) -> None:
        self._with(places, count, OPEN, lambda out, n: self._window.gather(out, n, target))

    def scatter(self, places: NDArray[np.int64], count: int, data: NDArray[np.uint8]) -> None:
        self._with(places, count, OPEN | WRITABLE, lambda out, n: self._window.scatter(out, n, data))

    def add16(self, offset: int, amount: int) -> None:
        place = np.array([[offset], [2]], np.int64)
        self._with(place, 1, OPEN | WRITABLE, lambda out, n: self._window.add16(int(out[0, 0]), amount))

    def transfer(self, fd: int, runs: NDArray[np.int64], places: NDArray[np.int64]) -> int:
        moved = np.array(runs[:, :4])
        at = lost = 0
        for k, (direction, _, first, stop) in enumerate(moved.tolist()):
            need = OPEN if direction == 1 else OPEN | WRITABLE
            moved[k, 2] = at
            at, lost = translate(self.table, places, first, stop, need, self._out, at, self._missing, lost)
            moved[k, 3] = at
        if lost or at >= self._out.shape[1]:
            return 0  # each by itself, then
        return self._window.transfer(fd, moved, self._out)

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
            at, lost = translate(self.table, places, 0, count, need, self._out, 0, self._missing, 0)
            if lost:
                self._ask(self._missing[:lost])
                continue
            if at >= self._out.shape[1]:
                raise ValueError("more pages than a batch of this device has")
            try:
                act(self._out, at)
                return
            except PrivateAccess:
                if not tries_left:
                    break
        first = int(places[0, 0])
        raise PrivateAccess(errno.EFAULT, "the guest takes its pages back as fast as they are lent", first)
