"""The host's view of a memory: the mapping itself, and accessors that are told of private pages instead of dying.

A guarded copy is the kernel's own: pwrite(2) of the window into a scratch file (pread(2) for the other direction)
copies up to the page that does not answer and says how far it came. It needs no ptrace rights, works on memfd_secret
where process_vm_readv(2) does not, and was measured the faster of the two up to 64 KiB.
"""

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from io import BytesIO
from typing import TYPE_CHECKING, TypeVar

from pagewarden.kernel.region import Region
from pagewarden.memory.own_process import OwnProcess, closed
from pagewarden.memory.scratch import CHUNK, IOV_MAX, Borrowed, Scratch
from pagewarden.port import Buffer, Segments
from pagewarden.vocab import PAGE_SIZE, PageRange, PrivateAccess, Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pagewarden.kernel.uring import Uring
    from pagewarden.memory.loan import DirectLoan
    from pagewarden.memory.scatter_gather import ScatterGather

Parts = TypeVar("Parts", memoryview, list[memoryview])


class _Elsewhere:
    """Stands for the region where there is none any more: in a forked child, and after `close`."""

    def __init__(self, refusal: Callable[[], Exception]) -> None:
        self._refusal = refusal

    @property
    def memory(self) -> memoryview:
        raise self._refusal()


class Window(OwnProcess):
    """A VectoredView. Offsets and lengths are bytes; methods raise as pagewarden.port.HostView says."""

    def __init__(
        self,
        region: Region,
        settle: AbstractContextManager[object] | None = None,
        reopen: Callable[[int], bool] = lambda offset: False,
        hold: Callable[..., AbstractContextManager[object]] = lambda *ranges: nullcontext(),
        lend: "Callable[[DirectLoan], bool] | None" = None,
        hold_touched: "Callable[[NDArray[np.int64]], AbstractContextManager[object]] | None" = None,
    ) -> None:
        """settle: held while no conversion is under way; reopen(offset), called inside it: True when the page at the
        offset is shared (and was opened again); hold(*ranges): keeps those pages as they are; lend(loan): True when
        it was opened; hold_touched(places): as hold, for many places."""
        super().__init__()
        self.size = region.size
        self.address = region.address
        self._region: Region | _Elsewhere = region
        self._settle = nullcontext() if settle is None else settle
        self._reopen = reopen
        self._hold = hold
        self._lend = lend
        self._scratches: list[Scratch] = []
        self._vectors: list[ScatterGather] = []
        self._hold_touched = hold_touched
        self._rings: list[Uring] = []

    @property
    def memory(self) -> memoryview:
        """The mapping itself, bytes, writable, length `size`: a touch of a private page ends the process (SIGBUS)."""
        return self._region.memory

    @property
    def array(self) -> "NDArray[np.uint8]":
        """The mapping itself as a numpy array of bytes, shape (size,), with the same warning."""
        import numpy as np

        return np.frombuffer(self._region.memory, np.uint8)

    def read(self, offset: int, length: int) -> bytes:
        """A copy of the bytes; PrivateAccess, ValueError outside."""
        if not 0 <= length <= CHUNK:
            self._part(offset, length)
            whole = BytesIO()
            whole.seek(length - 1)
            whole.write(b"\0")
            with whole.getbuffer() as target:
                self.read_into(offset, target)
            return whole.getvalue()
        with Borrowed(self._scratches) as scratch:
            self._copy(os.pwrite, scratch, offset, length)
            return scratch.region.memory[:length].tobytes()

    def read_into(self, offset: int, target: Buffer) -> None:
        """Fill a writable buffer from the offset on; what lies before a refused byte may be filled."""
        into = memoryview(target).cast("B")
        self._part(offset, len(into))
        with Borrowed(self._scratches) as scratch:
            for start in range(0, len(into), CHUNK):
                count = min(CHUNK, len(into) - start)
                self._copy(os.pwrite, scratch, offset + start, count)
                into[start : start + count] = scratch.region.memory[:count]

    def write(self, offset: int, data: Buffer) -> None:
        """Put the bytes there; what lies before a refused byte may be written."""
        source = memoryview(data).cast("B")
        self._part(offset, len(source))
        with Borrowed(self._scratches) as scratch:
            for start in range(0, len(source), CHUNK):
                count = min(CHUNK, len(source) - start)
                scratch.region.memory[:count] = source[start : start + count]
                self._copy(_pread, scratch, offset + start, count)

    def _copy(self, move: Callable[[int, memoryview, int], int], scratch: Scratch, offset: int, length: int) -> None:
        """Between the window and the start of the scratch file, in the direction of `move`."""
        part, done = self._part(offset, length), 0
        while done < length:
            done += self._checked(move, scratch.file, part[done:], done, offset + done)

    def pread_from(self, fd: int, file_offset: int, segments: Segments) -> int:
        """File to shared pages, which are held meanwhile; segments: (offset, length). Bytes moved, fewer at its end."""
        return self._transfer(os.preadv, fd, file_offset, segments)

    def pwrite_to(self, fd: int, file_offset: int, segments: Segments) -> int:
        """Shared pages to file, the pages held meanwhile; bytes moved."""
        return self._transfer(os.pwritev, fd, file_offset, segments)

    def gather(self, places: "NDArray[np.int64]", count: int, target: "NDArray[np.uint8]") -> None:
        """Many small places into one array, in one system call: see pagewarden.port.VectoredView."""
        vectored = self._vectors.pop() if self._vectors else self._vectored()
        try:
            if not vectored.gather(places, count, target):
                data = b"".join([self.read(*place) for place in places[:2, :count].T.tolist()])
                target.data[: len(data)] = memoryview(data)[: len(target)]
        finally:
            self._vectors.append(vectored)

    def scatter(self, places: "NDArray[np.int64]", count: int, data: "NDArray[np.uint8]") -> None:
        """One array to many small places: see pagewarden.port.VectoredView."""
        vectored = self._vectors.pop() if self._vectors else self._vectored()
        try:
            if not vectored.scatter(places, count, data):
                for offset, length in places[:2, :count].T.tolist():
                    self._part(offset, length)
                    self.write(offset, data[:length].data)
                    data = data[length:]
        finally:
            self._vectors.append(vectored)

    def transfer(self, fd: int, runs: "NDArray[np.int64]", places: "NDArray[np.int64]") -> int:
        """Several transfers with a file, how many of them moved whole: see pagewarden.port.VectoredView."""
        vectored = self._vectors.pop() if self._vectors else self._vectored()
        try:
            return vectored.transfer(fd, runs, places)
        finally:
            self._vectors.append(vectored)

    def no_queue(self) -> str | None:
        """Why `together` is not to be had here; None: it is."""
        if self._hold_touched is None:
            return "an isolated host side may not make a ring"
        from pagewarden.kernel.uring import Uring, why_none  # compiled code

        try:
            if not self._rings:
                self._rings.append(Uring())
        except (OSError, Unavailable) as error:
            return why_none(error) if isinstance(error, OSError) else str(error)
        return None

    def together(
        self, fd: int, runs: "NDArray[np.int64]", places: "NDArray[np.int64]", moved: "NDArray[np.uint8]"
    ) -> int:
        """Transfers with a file at once, the pages held meanwhile: see pagewarden.port.QueueingView."""
        if self._hold_touched is None or not len(runs):
            return 0
        from pagewarden.kernel.uring import Uring

        touched = places[:, int(runs[:, 2].min()) : int(runs[:, 3].max())]
        touched = touched[:, touched[1] > 0]
        if touched.size and (touched.min() < 0 or (touched[0] > self.size - touched[1]).any()):
            return 0
        with self._hold_touched(touched):
            try:
                ring = self._rings.pop() if self._rings else Uring()
            except OSError:
                return 0
            try:
                return ring.together(fd, self.address, self.size, runs, places, moved)
            finally:
                self._rings.append(ring)

    def add16(self, offset: int, amount: int) -> None:
        """Add to a 2-byte number that the other side watches: see pagewarden.port.VectoredView."""
        if not 0 <= offset < self.size or offset % 4 != 2 or not 0 <= amount < 1 << 16:
            raise ValueError(f"{amount} to offset {offset}: not a 2-byte number, or outside, or not 2 modulo 4")
        vectored = self._vectors.pop() if self._vectors else self._vectored()
        try:
            if left := vectored.add16(offset, amount):
                self._answers([(offset, 2)], 0)
                if vectored.add16(offset, left):
                    raise PrivateAccess(errno.EFAULT, "the host may not write to the page", offset)
        finally:
            self._vectors.append(vectored)

    def lend(self, *places: tuple[int, int]) -> "DirectLoan | None":
        """The places themselves, to load and store (port.LendingView)."""
        for place in places:
            self._part(*place)
        if self._lend is None:
            return None
        from pagewarden.memory.loan import DirectLoan  # compiled code

        loan = DirectLoan(places, self._vectored(), self.address)
        try:
            if self._lend(loan):
                return loan
        except BaseException:
            loan.close()
            raise
        loan.close()
        return None

    def close(self) -> None:
        """Give the scratch files back; the mapping belongs to the memory, and is not reached from here any more."""
        self._region = _Elsewhere(closed)
        while self._scratches:
            self._scratches.pop().close()
        while self._vectors:
            self._vectors.pop().close()
        while self._rings:
            self._rings.pop().close()

    def forked(self) -> None:
        """In a forked child: nothing of it is left."""
        self._region = _Elsewhere(self.foreign)
        for scratch in self._scratches:
            scratch.forked()
        for vectored in self._vectors:
            vectored.forked()
        for ring in self._rings:
            ring.forked()
        self._scratches, self._vectors, self._rings = [], [], []

    def _vectored(self) -> "ScatterGather":
        """What does these three, one for each call at work; compiled code, loaded at the first."""
        from pagewarden.memory.scatter_gather import ScatterGather

        self._part(0, 0)  # a forked child has none
        return ScatterGather(self.address, self.size)

    def _part(self, offset: int, length: int) -> memoryview:
        if not 0 <= offset <= offset + length <= self.size:
            raise ValueError(f"bytes [{offset}, {offset + length}) do not lie in a memory of {self.size} bytes")
        return self._region.memory[offset : offset + length]

    def _checked(
        self, move: Callable[[int, memoryview, int], int], fd: int, part: memoryview, position: int, offset: int
    ) -> int:
        """move(fd, part, position); when nothing moves, once more with all conversions over. PrivateAccess."""
        done = _moved(move, fd, part, position)
        if done <= 0:
            with self._settle:
                done = _moved(move, fd, part, position)
                if done <= 0 and self._reopen(offset):
                    done = _moved(move, fd, part, position)
        if done <= 0:
            raise PrivateAccess(errno.EFAULT, "the host touched a private page", offset)
        return done

    def _transfer(
        self,
        move: Callable[[int, list[memoryview], int], int],
        fd: int,
        position: int,
        segments: Segments,
    ) -> int:
        """move(fd, parts, position) until all is moved or the file ends; the pages are held meanwhile."""
        parts = [self._part(offset, length) for offset, length in segments]
        total, done = sum(map(len, parts)), 0
        with self._hold(*(PageRange.covering(*segment) for segment in segments)):
            while done < total:
                rest = _after(parts, done)[:IOV_MAX]
                count = _moved(move, fd, rest, position + done)
                if count < 0:
                    self._answers(segments, done)
                    count = _moved(move, fd, rest, position + done)
                if count < 0:
                    why = "the kernel does not take the pages, though they answer: this file pins them (O_DIRECT)"
                    raise OSError(errno.EFAULT, why)
                if count == 0:
                    break
                done += count
        return done

    def _answers(self, segments: Segments, skip: int) -> None:
        """Touch each page of the segments beyond the first `skip` bytes; PrivateAccess at the first that is closed."""
        with Borrowed(self._scratches) as scratch:
            for offset, length in segments:
                start = offset + min(skip, length)
                skip -= start - offset
                end = offset + length
                while start < end:
                    self._checked(os.pwrite, scratch.file, self._region.memory[start : start + 1], 0, start)
                    start = (start // PAGE_SIZE + 1) * PAGE_SIZE


def _pread(fd: int, part: memoryview, position: int) -> int:
    return os.preadv(fd, [part], position)


def _moved(move: Callable[[int, Parts, int], int], fd: int, part: Parts, position: int) -> int:
    """Bytes moved; -1 where the kernel met a page that does not answer."""
    try:
        return move(fd, part, position)
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise
        return -1


def _after(parts: list[memoryview], skip: int) -> list[memoryview]:
    """The parts without their first `skip` bytes."""
    rest = []
    for part in parts:
        if skip < len(part):
            rest.append(part[skip:] if skip else part)
        skip = max(0, skip - len(part))
    return rest
