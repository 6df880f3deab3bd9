"""The host's half of one request, executed for real: the guest has shared the pages and rung, a file is the disk.

The paths are those of the LKML thread "[PATCH v5 00/13] KVM: mm: fd-based approach for supporting KVM guest private
memory" (5 April 2022). A plain memfd lets its holder read every page, so where a path goes through the file, its
shareability is asked of the memory first, as the private fd of the thread would do in the kernel.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pagewarden.kernel.door import syscall
from pagewarden.kernel.files import Pipe
from pagewarden.kernel.region import Region
from pagewarden.memory.consumers import Hold
from pagewarden.memory.private import PrivateMemory
from pagewarden.studies.run.host_error import MemoryRefuses
from pagewarden.vocab import PAGE_SIZE, Event, PageRange, PrivateAccess
from pagewarden.vocab.closing import Closing

PIPE_SIZE = 1 << 20
"""Bytes of the pipe that splice goes through; what an unprivileged user may ask for (fs.pipe-max-size)."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the host takes it off the ring; all in bytes."""

    offset: int  # of the buffer in the guest's memory
    length: int
    position: int  # in the file
    to_file: bool  # a guest's write; else its read


@dataclass(frozen=True, slots=True)
class Done:
    """What one request took: bytes moved, calls that only gave access to them, calls that did the I/O."""

    moved: int
    access_syscalls: int = 0
    io_syscalls: int = 1
    copies: int = 0

    @property
    def events(self) -> dict[Event, int]:
        """The host's part of the request in the words of the model."""
        return {
            Event.ACCESS_SYSCALLS: self.access_syscalls,
            Event.HOST_COPIES: self.copies,
            Event.HOST_COPY_BYTES: self.copies * self.moved,
        }


class HostHalf(Closing):
    """A host that serves requests of a cooperating memory against a file. `paths` has the designs by name; each takes
    a Request and returns Done, or raises PrivateAccess (a page is not shared), ValueError (outside), OSError."""

    def __init__(self, memory: PrivateMemory, disk: int, longest: int) -> None:
        """longest: bytes of the longest request, the size of the host's own buffer."""
        self.memory = memory
        self.disk = disk
        self._buffer = memoryview(bytearray(longest))
        self._pipe: Pipe | None = Pipe(PIPE_SIZE)
        """None while a request uses it, and after one that failed, when it closes with what that left in it: the next
        one's bytes must not meet that."""
        self._room = Region(longest // PAGE_SIZE * PAGE_SIZE + 2 * PAGE_SIZE)
        """Where `remapped` maps the pages of a request."""
        self._mapped: tuple[int, Hold] | None = None
        """How many bytes of it may be mapped: their pages are held till it is not, whatever comes in between."""
        copying = self.copied
        self.paths: dict[str, Callable[[Request], Done]] = {
            "dma-buffer": copying,
            "bounce": copying,
            "window": copying,
            "iommu": copying,
            "remap": self.remapped,
            "pread": self.read,
            "splice": self.spliced,
        }

    def copied(self, request: Request) -> Done:
        """Between the mapping that is always there and the host's buffer by plain loads and stores."""
        with self.claim(request):
            buffer = self._buffer[: request.length]
            window = self.memory.window.memory[request.offset : request.offset + request.length]
            if request.to_file:
                buffer[:] = window
                return Done(os.pwrite(self.disk, buffer, request.position), copies=1)
            moved = os.preadv(self.disk, [buffer], request.position)
            window[:moved] = buffer[:moved]
            return Done(moved, copies=1)

    def remapped(self, request: Request) -> Done:
        """mmap, the I/O straight from the mapping, and an mmap over it that takes it away."""
        self._unmap()
        claim = self.claim(request)
        with claim as pages:
            try:
                size = pages.count * PAGE_SIZE
                self._mapped = size, claim.keep()
                self._room.place(self.memory.file, offset=pages.start * PAGE_SIZE, length=size)
                moved = syscall(
                    "pwrite64" if request.to_file else "pread64",
                    self.disk,
                    self._room.address + request.offset % PAGE_SIZE,
                    request.length,
                    request.position,
                )
            finally:
                self._unmap()
            return Done(moved, access_syscalls=2)

    def _unmap(self) -> None:
        """Nothing is mapped any more; OSError: it still is, and stays held."""
        if self._mapped is not None:
            size, hold = self._mapped
            self._room.bar(size)
            hold.release()
            self._mapped = None

    def read(self, request: Request) -> Done:
        """pread or pwrite on the private fd, through the host's buffer; what a short call did not move is not moved."""
        with self.claim(request):
            buffer = self._buffer[: request.length]
            if request.to_file:
                got = _of_memory(os.preadv, self.memory.file, [buffer], request.offset)
                return Done(os.pwrite(self.disk, buffer[:got], request.position), 1, copies=1)
            got = os.preadv(self.disk, [buffer], request.position)
            return Done(_of_memory(os.pwrite, self.memory.file, buffer[:got], request.offset), 1, copies=1)

    def spliced(self, request: Request) -> Done:
        """splice between the private fd and the file, through a pipe; a long request takes a turn a pipeful."""
        ends = (self.memory.file, request.offset), (self.disk, request.position)
        (source, at), (target, to) = ends if request.to_file else ends[::-1]
        fill = partial(_of_memory, os.splice) if request.to_file else os.splice
        drain = os.splice if request.to_file else partial(_of_memory, os.splice)
        moved = turns = 0
        with self.claim(request):
            pipe, self._pipe = self._pipe or Pipe(PIPE_SIZE), None
            while moved < request.length:
                count = fill(source, pipe.transmit, min(pipe.size, request.length - moved), at + moved)
                if count == 0:
                    break
                turns += 1
                end = moved + count
                while moved < end:
                    done = drain(pipe.receive, target, end - moved, None, to + moved)
                    if done == 0:
                        raise OSError(errno.EIO, "splice: the file takes no more bytes")
                    moved += done
            self._pipe = pipe
        return Done(moved, turns, turns)

    def claim(self, request: Request) -> "Claim":
        """What every path begins with: see Claim."""
        return Claim(self.memory, request)

    def close(self) -> None:
        """Give the pipe back; memory and file are the caller's."""
        self._room.close()
        self._mapped = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


def _of_memory(call: Callable[..., int], *arguments: object) -> int:
    """A system call on the memory's file, which some backings refuse."""
    try:
        return call(*arguments)
    except OSError as error:
        raise MemoryRefuses(error.errno, error.strerror) from error


class Claim:
    """The pages of a request, shared and held for the time of the block; PrivateAccess when one is not."""

    def __init__(self, memory: PrivateMemory, request: Request) -> None:
        self._memory = memory
        self._first = request.offset
        self._pages = PageRange.covering(request.offset, request.length)

    def __enter__(self) -> PageRange:
        self._hold = self._memory.hold(self._pages)
        try:
            for page in range(self._pages.start, self._pages.stop):
                if not self._memory.is_shared(page):
                    first = max(self._first, page * PAGE_SIZE)
                    raise PrivateAccess(errno.EFAULT, "the request names a private page", first)
        except BaseException:
            self._hold.release()
            raise
        return self._pages

    def keep(self) -> Hold:
        """A hold of the same pages that outlasts the block."""
        return self._memory.hold(self._pages)

    def __exit__(self, *failure: object) -> None:
        self._hold.release()
