"""The host's operations as rows of a script: what the warden and each I/O path do, as compiled code would do them.

One process is warden and host, its memory a userfaultfd window, its disk a memory file: the I/O itself is a copy to the
page cache, and no device or journal is in any number.
"""

import ctypes
import os
from contextlib import ExitStack

from pagewarden.abi import memory as uapi
from pagewarden.abi import uffd
from pagewarden.kernel.door import memfd
from pagewarden.kernel.files import Pipe
from pagewarden.kernel.region import Region
from pagewarden.kernel.uffd import continue_request
from pagewarden.memory.backings.protocol import Wanted
from pagewarden.memory.backings.uffd_window import UffdWindow
from pagewarden.studies.calibrate import primitives
from pagewarden.studies.calibrate.primitives import Primitive, call, copy
from pagewarden.vocab import PAGE_SIZE, InternalError, Unavailable
from pagewarden.vocab.closing import Closing

LONGEST = 256
"""Pages of the longest request: 1 MiB, what a pipe takes at once."""
SPAN = 64 << 20
"""Bytes that a cold copy walks through on each side: more than caches hold."""


class TimedHost(Closing):
    """Memory, disk, buffers and pipe. Methods give rows; pages count from the start of the memory."""

    def __init__(self, span: int = SPAN) -> None:
        size = LONGEST * PAGE_SIZE
        self._kept: list[object] = []
        with ExitStack() as undo:
            self.memory = UffdWindow(Wanted(size))
            undo.callback(self.memory.close)
            self.disk = undo.enter_context(memfd("pagewarden-disk", size)).fd
            pipe = Pipe(size)
            undo.callback(pipe.close)
            self.receive, self.transmit = pipe.receive, pipe.transmit
            if pipe.size < size:
                raise Unavailable(
                    f"a pipe of {size:,} bytes; this user gets {pipe.size:,}",
                    "raise the sysctls fs.pipe-max-size and fs.pipe-user-pages-soft, or close other pipes",
                )
            self.signal = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, self.signal)
            self.buffer, self.pool, self.source, self.target = (
                self._region(undo, bytes_) for bytes_ in (size, size, span, span)
            )
            self.span = span
            self.memory.guest.memory[:] = bytes(size)
            os.pwrite(self.disk, bytes(size), 0)
            self._release = undo.pop_all()
        self._at = ctypes.c_int64(0)  # where splice reads or writes: the kernel moves it on
        self._start = ctypes.c_int64(0)
        self._word = ctypes.c_uint64(1)

    def _region(self, undo: ExitStack, size: int) -> Region:
        region = Region(size)
        undo.callback(region.close)
        region.fill()
        region.memory[:] = b"\1" * size
        return region

    # -- conversions ---------------------------------------------------------------------------------------------------

    def share(self, pages: int) -> Primitive:
        """Entries of the window set: UFFDIO_CONTINUE."""
        argument = continue_request(self.memory.window.address, pages * PAGE_SIZE)
        place = (ctypes.c_char * len(argument)).from_buffer(argument)
        self._kept.append(place)
        return call("ioctl", self.memory.guard.fd, uffd.UFFDIO_CONTINUE, ctypes.addressof(place))

    def unshare(self, pages: int) -> Primitive:
        """Entries of the window cleared, with a TLB flush where there were any: MADV_DONTNEED."""
        return call("madvise", self.memory.window.address, pages * PAGE_SIZE, self.memory.zap)

    # -- access --------------------------------------------------------------------------------------------------------

    def map(self, pages: int) -> Primitive:
        access = uapi.PROT_READ | uapi.PROT_WRITE
        return call("mmap", 0, pages * PAGE_SIZE, access, uapi.MAP_SHARED, self.memory.file, 0)

    def unmap(self, pages: int) -> Primitive:
        return call("munmap", 0, pages * PAGE_SIZE, mapped=0)

    def touch_mapping(self, pages: int) -> Primitive:
        return primitives.touch(0, pages, mapped=0)

    def read_file(self, pages: int) -> Primitive:
        """pread on the private fd."""
        return call("pread64", self.memory.file, self.buffer.address, pages * PAGE_SIZE, 0)

    def write_file(self, pages: int) -> Primitive:
        """pwrite on the private fd."""
        return call("pwrite64", self.memory.file, self.buffer.address, pages * PAGE_SIZE, 0)

    def splice_in(self, pages: int) -> list[Primitive]:
        """From the private fd into the pipe."""
        return [self._rewind(), self._splice(self.memory.file, self._offset, self.transmit, 0, pages)]

    # -- the I/O itself ------------------------------------------------------------------------------------------------

    def write(self, pages: int) -> Primitive:
        """From the host's buffer."""
        return call("pwrite64", self.disk, self.buffer.address, pages * PAGE_SIZE, 0)

    def write_mapping(self, pages: int) -> Primitive:
        """From the mapping that the script made."""
        return call("pwrite64", self.disk, 0, pages * PAGE_SIZE, 0, mapped=1)

    def splice_out(self, pages: int) -> list[Primitive]:
        """From the pipe."""
        return [self._rewind(), self._splice(self.receive, 0, self.disk, self._offset, pages)]

    def _splice(self, source: int, at: int, target: int, to: int, pages: int) -> Primitive:
        return call("splice", source, at, target, to, pages * PAGE_SIZE, 0)

    @property
    def _offset(self) -> int:
        return ctypes.addressof(self._at)

    def _rewind(self) -> Primitive:
        return copy(self._offset, ctypes.addressof(self._start), 8)

    # -- copies and the rest -------------------------------------------------------------------------------------------

    def guest_copy(self, length: int) -> Primitive:
        """Private page to pool, by whoever is the guest."""
        return copy(self.pool.address, self.memory.guest.address, length)

    def host_copy(self, length: int, pooled: bool) -> Primitive:
        """From the pool, or from the window, into the host's buffer."""
        return copy(self.buffer.address, (self.pool if pooled else self.memory.window).address, length)

    def cold_copy(self, length: int) -> Primitive:
        """Both ends far from those of the last copies."""
        return copy(self.target.address, self.source.address, length, 7 * length, self.span - length)

    def zero(self, length: int) -> Primitive:
        return primitives.zero(self.pool.address, length)

    def tell(self) -> list[Primitive]:
        """An eventfd raised, and taken."""
        word = ctypes.addressof(self._word)
        return [call("write", self.signal, word, 8), call("read", self.signal, word, 8)]

    def punch(self, pages: int) -> Primitive:
        return call("fallocate", self.disk, uapi.FALLOC_FL_KEEP_SIZE | uapi.FALLOC_FL_PUNCH_HOLE, 0, pages * PAGE_SIZE)

    def allocate(self, pages: int) -> Primitive:
        return call("fallocate", self.disk, 0, 0, pages * PAGE_SIZE)

    # -- whole requests ------------------------------------------------------------------------------------------------

    def request(self, design: str, pages: int) -> list[Primitive]:
        """A guest's write of so many pages under a design, conversions and copies included, no CPU's hops."""
        length = pages * PAGE_SIZE
        if design in ("dma-buffer", "bounce"):
            return [self.guest_copy(length), self.host_copy(length, True), self.write(pages)]
        access = {
            "remap": [self.map(pages), self.write_mapping(pages), self.unmap(pages)],
            "pread": [self.read_file(pages), self.write(pages)],
            "splice": [*self.splice_in(pages), *self.splice_out(pages)],
            "window": [self.host_copy(length, False), self.write(pages)],
            "iommu": [self.host_copy(length, False), self.write(pages)],
        }
        if design not in access:
            raise InternalError(f"no compiled request for the design {design}")
        return [self.share(pages), *access[design], self.unshare(pages)]

    def disk_bytes(self, length: int) -> bytes:
        """The start of the disk."""
        return os.pread(self.disk, length, 0)

    def close(self) -> None:
        """Give everything back."""
        self._release.close()
