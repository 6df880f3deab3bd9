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
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pagewarden.kernel.region import Region
from pagewarden.memory.own_process import OwnProcess
from pagewarden.memory.scratch import CHUNK, IOV_MAX, Borrowed, Scratch
from pagewarden.port import Buffer, Segments
from pagewarden.vocab import PAGE_SIZE, PageRange, PrivateAccess

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pagewarden.memory.loan import DirectLoan

Parts = TypeVar("Parts", memoryview, list[memoryview])


class Elsewhere:
    """Stands for the region where there is none any more: in a forked child, and after `close`."""

    def __init__(self, refusal: Callable[[], Exception]) -> None:
        self._refusal = refusal

    @property
    def memory(self) -> memoryview:
        raise self._refusal()


class Keeper(NamedTuple):
    """What an accessor may ask of whoever converts the pages; by default nobody does."""

    settle: AbstractContextManager[object] = nullcontext()
    """Held while no conversion is under way."""
    reopen: Callable[[int], bool] = lambda offset: False
    """Of an offset, inside it: True when the page is shared (and was opened again)."""
    hold: Callable[..., AbstractContextManager[object]] = lambda *ranges: nullcontext()
    """Keeps those ranges of pages as they are."""
    lend: "Callable[[DirectLoan], bool] | None" = None
    """True when the loan was opened."""
    hold_touched: "Callable[[NDArray[np.int64]], AbstractContextManager[object]] | None" = None
    """As hold, for many places."""


class GuardedCopies(OwnProcess):
    """A HostView. Offsets and lengths are bytes; methods raise as pagewarden.port.HostView says."""

    def __init__(self, region: Region, keeper: Keeper) -> None:
        super().__init__()
        self.size = region.size
        self.address = region.address
        self._region: Region | Elsewhere = region
        self._settle, self._reopen, self._hold, *_ = keeper
        self._scratches: list[Scratch] = []

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
