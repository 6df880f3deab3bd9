"""The one door to the kernel: raw system calls by name, and regions of address space.

errno becomes an exception here and nowhere else:
OSError says what was asked; Unavailable says that this kernel, or this user, cannot have the thing at all.
"""

import ctypes
import errno
import mmap
import os
import platform
import resource
import select
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from fcntl import ioctl as ioctl_inplace  # in place: a small bytearray, the fastest call from Python; raises OSError
from typing import Any

from pagewarden.abi import memory as uapi
from pagewarden.abi.memory_syscalls import SYSCALLS
from pagewarden.kernel.causes import CallFailed, lacking
from pagewarden.vocab import HUGE_PAGE, PAGE_SIZE, Unavailable

__all__ = [
    "Region",
    "bytes_address",
    "claim",
    "ioctl",
    "ioctl_inplace",
    "map_anywhere",
    "memfd",
    "memfd_secret",
    "memlock",
    "number_of",
    "pages_of",
    "prctl",
    "punch_hole",
    "readable",
    "statx",
    "syscall",
    "too_little_locked",
    "twin",
    "unmap",
]

SIZE_MAX = (1 << 63) - (1 << 21)
"""Bytes of the largest memory file, rounded down to whole huge pages (include/linux/fs.h, MAX_LFS_FILESIZE)."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)
_libc.clone.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def _failed(call: str) -> OSError:
    return CallFailed(call, ctypes.get_errno())


def number_of(name: str) -> int:
    """The syscall's number on this machine; Unavailable on a machine whose table is not carried; KeyError."""
    machine = platform.machine()
    if machine not in SYSCALLS:
        raise Unavailable(f"no syscall numbers for {machine}", "run on x86_64, or add the table to memory_syscalls")
    return SYSCALLS[machine][name]


def syscall(name: str, *arguments: int) -> int:
    """A raw system call by name; its result, or OSError."""
    result: int = _libc.syscall(ctypes.c_long(number_of(name)), *map(ctypes.c_long, arguments))
    if result < 0:
        raise _failed(name)
    return result


def ioctl(fd: int, request: int, argument: Any = None, name: str = "") -> int:
    """ioctl(2) with a ctypes reference, an address, or None; its result, or OSError that tells the request's name."""
    result: int = _libc.ioctl(fd, request, argument)
    if result < 0:
        raise _failed(name or f"ioctl {request:#x}")
    return result


def prctl(option: int, *arguments: int) -> int:
    """prctl(2); its result, or OSError."""
    return syscall("prctl", option, *(*arguments, 0, 0, 0, 0)[:4])


def twin(entry: int, stack: int, flags: int) -> int:
    """clone(2) as the C library offers it: a child that starts at the address `entry`; its pid, or OSError."""
    pid: int = _libc.clone(entry, stack, flags, None)
    if pid < 0:
        raise _failed("clone")
    return pid


def _sized(fd: int, size: int) -> int:
    try:
        os.ftruncate(fd, size)
    except OSError as error:
        os.close(fd)
        raise CallFailed("ftruncate", error.errno or errno.EIO) from error
    except BaseException:
        os.close(fd)
        raise
    return fd


def memfd(name: str, size: int) -> int:
    """A memory file of `size` bytes, close-on-exec; OSError."""
    try:
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
    except OSError as error:
        raise CallFailed("memfd_create", error.errno or errno.EIO) from error
    return _sized(fd, size)


def memfd_secret(size: int) -> int:
    """A memfd_secret of `size` bytes (mm/secretmem.c); Unavailable where this kernel, or this user, has none."""
    try:
        fd = syscall("memfd_secret", os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(*lacking(error)) from error
    return _sized(fd, size)


def memlock() -> str:
    """The soft RLIMIT_MEMLOCK in words."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return "unlimited" if soft == resource.RLIM_INFINITY else f"{soft >> 10} KiB"


def claim(address: int, size: int) -> None:
    """Fill a mapping with zeroes by a system call, so that every page of it is there: a page that is not to be had is
    an error here (Unavailable), where a load or a store later would be SIGBUS.

    memfd_secret since CVE-2026-93243 (seen on Debian's Linux 6.12.117 and 7.3.4) charges a page to the user when it is
    first touched, root or not.
    """
    zero, done = os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC), 0
    try:
        while done < size:
            done += syscall("read", zero, address + done, size - done)
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise
        raise too_little_locked(size, done) from error
    finally:
        os.close(zero)


def too_little_locked(size: int, done: int = 0) -> Unavailable:
    """What to say when the kernel locks no more memory of this user."""
    return Unavailable(
        f"{size >> 10} KiB of memory that stays locked were asked for, {done >> 10} KiB were to be had: "
        f"RLIMIT_MEMLOCK is {memlock()}, for all of this user's processes together",
        "raise it (ulimit -l, LimitMEMLOCK=, limits.conf) or ask for less",
    )


def statx(fd: int, mask: int) -> uapi.statx:
    """statx(2) of an open file; OSError. stx_mask says which of the fields asked for the file system has filled in."""
    found = uapi.statx()
    syscall("statx", fd, bytes_address(b""), uapi.AT_EMPTY_PATH, mask, ctypes.addressof(found))
    return found


def map_anywhere(size: int, fd: int, offset: int) -> int:
    """mmap(2) of a shared part of a file where the kernel likes; the address, to be given back with `unmap`."""
    return syscall("mmap", 0, size, uapi.PROT_READ | uapi.PROT_WRITE, uapi.MAP_SHARED, fd, offset)


def unmap(address: int, size: int) -> None:
    """munmap(2); OSError."""
    syscall("munmap", address, size)


def punch_hole(file: int, offset: int, length: int) -> None:
    """fallocate(2): the bytes are gone and every mapping of them with them; OSError."""
    syscall("fallocate", file, uapi.FALLOC_FL_KEEP_SIZE | uapi.FALLOC_FL_PUNCH_HOLE, offset, length)


def readable(fds: Sequence[int], timeout: float | None) -> list[int]:
    """Which of the descriptors have something to read or are at their end, after at most so many seconds."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(None if timeout is None else timeout * 1000)]


def pages_of(size: int) -> int:
    """Number of pages of a memory; ValueError unless `size` is a positive whole number of them, TypeError."""
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise TypeError(f"a size is a number of bytes, not {size!r}")
    if size <= 0 or size % PAGE_SIZE:
        raise ValueError(f"size {size} is not a positive multiple of {PAGE_SIZE}")
    if size > SIZE_MAX:
        raise ValueError(f"size {size} is beyond what a file and a mapping can have ({SIZE_MAX} bytes)")
    return size // PAGE_SIZE


class Region:
    """Reserved addresses that a file is placed in. They stay reserved until `close`, whatever is placed.

    Python's own mmap object owns the range, so exported memoryviews and arrays keep it alive: after `close` they lead
    to nothing (SIGSEGV), never to somebody else's memory.

    Nothing of a reservation counts as private writable memory (RLIMIT_DATA). In a forked child a region that was kept
    to its process is reserved again, so that nothing else comes to lie where its buffers and its `close` reach.

    The start never lies on a 2 MiB boundary: a page of the file then cannot be mapped by a huge entry, which
    madvise(MADV_COLLAPSE) would install over a userfaultfd guard, neighbours included (seen on Linux 6.18).
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._alone = False
        """No forked child has it."""
        flags = uapi.MAP_SHARED | uapi.MAP_ANONYMOUS | uapi.MAP_NORESERVE
        try:
            self._owner = mmap.mmap(-1, size + PAGE_SIZE, flags, uapi.PROT_READ | uapi.PROT_WRITE)
        except OSError as error:
            raise CallFailed("mmap", error.errno or errno.EIO) from error
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._owner))
        self._skew = 0 if base % HUGE_PAGE else PAGE_SIZE
        self.address = base + self._skew
        self.memory = memoryview(self._owner)[self._skew : self._skew + size]
        """The mapping itself, a writable buffer of bytes."""
        _regions.add(self)

    def fill(self) -> None:
        """Put ordinary memory of this process there, zeroes; OSError."""
        flags = uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS | uapi.MAP_NORESERVE | uapi.MAP_FIXED
        syscall("mmap", self.address, self.size, uapi.PROT_READ | uapi.PROT_WRITE, flags, -1, 0)

    def place(self, fd: int, prot: int = uapi.PROT_READ | uapi.PROT_WRITE, offset: int = 0) -> None:
        """Map the file from the offset on over the whole region, shared; OSError."""
        syscall("mmap", self.address, self.size, prot, uapi.MAP_SHARED | uapi.MAP_FIXED, fd, offset)

    def bar(self) -> None:
        """Nothing is reachable through the region any more; OSError."""
        flags = uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS | uapi.MAP_NORESERVE | uapi.MAP_FIXED
        try:
            syscall("mmap", self.address, self.size, uapi.PROT_NONE, flags, -1, 0)
        except BaseException as error:  # no room for a fresh mapping: what is there must not answer any more
            self.protect(uapi.PROT_NONE, 0, self.size)
            if not isinstance(error, OSError):
                raise

    def advise(self, advice: int, offset: int, length: int) -> None:
        """madvise(2) on a part, in bytes; OSError."""
        self._owner.madvise(advice, self._skew + offset, length)

    def adviser(self, advice: int) -> Callable[[int, int], None]:
        """`advise` with this advice, of (offset, length): the quickest way from Python."""
        madvise, skew = self._owner.madvise, self._skew

        def advise(offset: int, length: int) -> None:
            madvise(advice, skew + offset, length)

        return advise

    def advise_all(self, *advices: int) -> None:
        """Several madvise(2) on the whole region; OSError."""
        for advice in advices:
            self.advise(advice, 0, self.size)
            self._alone |= advice == uapi.MADV_DONTFORK

    def keep_to_this_process(self) -> None:
        """No forked child and no core dump gets at the region, and no huge page closes what was opened singly."""
        self.advise_all(uapi.MADV_DONTFORK, uapi.MADV_DONTDUMP)
        try:
            self.advise_all(uapi.MADV_NOHUGEPAGE)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a kernel without huge pages does not know the advice
                raise

    def best_zap(self) -> int:
        """The advice that drops page-table entries, also under mlockall where the kernel has that."""
        try:
            self.advise_all(uapi.MADV_DONTNEED_LOCKED)
        except OSError:
            return uapi.MADV_DONTNEED
        return uapi.MADV_DONTNEED_LOCKED

    def lock_when_touched(self) -> None:
        """Keep pages in memory from their first touch on, as far as RLIMIT_MEMLOCK goes. Reclaim would shut a shared
        page that is mapped nowhere else; the window's accessors then open it again."""
        with suppress(OSError):
            syscall("mlock2", self.address, self.size, uapi.MLOCK_ONFAULT)

    def protect(self, prot: int, offset: int, length: int) -> None:
        """mprotect(2) on a part; OSError, perhaps with the first pages of it changed."""
        syscall("mprotect", self.address + offset, length, prot)

    def close(self) -> None:
        """Bar the region; its addresses go back with the last exported buffer. Twice is once."""
        if self._owner.closed:
            return
        try:
            self.bar()
        finally:
            with suppress(BufferError):  # arrays of the caller refer to it: it goes with the last of them
                self.memory.release()
                self._owner.close()

    def forked(self) -> None:
        """In a forked child: see the class."""
        if not self._alone or self._owner.closed:
            return
        flags = uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS | uapi.MAP_NORESERVE | uapi.MAP_FIXED_NOREPLACE
        try:
            syscall("mmap", self.address, self.size, uapi.PROT_NONE, flags, -1, 0)
        except OSError:  # something of the child's lies there already: the owner must never unmap it
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._owner))
            self.close = lambda: None  # type: ignore[method-assign]


_regions: "weakref.WeakSet[Region]" = weakref.WeakSet()


def _in_the_child() -> None:
    for region in list(_regions):
        region.forked()


os.register_at_fork(after_in_child=_in_the_child)


def bytes_address(data: bytes) -> int:
    """Where the bytes lie, for a call that reads them while `data` is alive."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
