"""The one door to the kernel: raw system calls by name.

errno becomes an exception here and nowhere else:
OSError says what was asked; Unavailable says that this kernel, or this user, cannot have the thing at all.
"""

import ctypes
import errno
import fcntl
import os
import resource
import select
from collections.abc import Callable, Sequence
from io import FileIO
from typing import Any

from pagewarden.abi import memory as uapi
from pagewarden.kernel.causes import CallFailed, lacking
from pagewarden.kernel.machine import need_page_size, number_of
from pagewarden.vocab import PAGE_SIZE, Unavailable

ioctl_inplace = fcntl.ioctl
"""In place: a small bytearray, the fastest call from Python; raises OSError."""
SIZE_MAX = (1 << 63) - (1 << 21)
"""Bytes of the largest memory file, rounded down to whole huge pages (include/linux/fs.h, MAX_LFS_FILESIZE)."""


_FUTURE_WRITE = 0x10


class Descriptor(FileIO):
    """An open file of this process's own, closed with this object at the latest. The C call that gets it from the
    kernel makes the object as well, and C code closes it: no exception of a signal handler comes in between."""

    _finalizing = False  # not the one of FileIO, by which it would call a file that goes with its owner a mistake

    @property
    def fd(self) -> int:
        """Its number; -1 once it is closed."""
        return -1 if self.closed else self.fileno()

    def lift(self, lowest: int = 3) -> "Descriptor":
        """The same file at a number of at least `lowest`, close-on-exec; this one is closed if it moved."""
        if self.fd >= lowest:
            return self
        moved = opened("fcntl", self.fd, fcntl.F_DUPFD_CLOEXEC, lowest)
        self.close()
        return moved


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_opening = ctypes.CDLL(None, use_errno=True)
"""The same for calls that give a descriptor."""
_opening.syscall.restype = _opening.ioctl.restype = Descriptor
_opening.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)
_libc.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)
_libc.memcpy.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_libc.clone.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def _failed(call: str) -> OSError:
    return CallFailed(call, ctypes.get_errno())


def syscall(name: str, *arguments: int) -> int:
    """A raw system call by name; its result, or OSError."""
    result: int = _libc.syscall(ctypes.c_long(number_of(name)), *map(ctypes.c_long, arguments))
    if result < 0:
        raise _failed(name)
    return result


def opened(name: str, *arguments: int) -> Descriptor:
    """A raw system call that gives a descriptor; OSError."""
    return _made(name, _opening.syscall, ctypes.c_long(number_of(name)), *map(ctypes.c_long, arguments))


def opened_path(path: str, flags: int) -> Descriptor:
    """openat(2) of an absolute path; OSError."""
    name = os.fsencode(path)
    return opened("openat", uapi.AT_FDCWD, bytes_address(name), flags)


def ioctl_opened(fd: int, request: int, argument: Any = None, name: str = "") -> Descriptor:
    """An ioctl that gives one; OSError."""
    return _made(name or f"ioctl {request:#x}", _opening.ioctl, fd, request, argument)


def _made(name: str, call: Callable[..., Descriptor], *arguments: Any) -> Descriptor:
    try:
        return call(*arguments)
    except ValueError as error:  # what -1 is for an open file
        raise _failed(name) from error


def ioctl(fd: int, request: int, argument: Any = None, name: str = "") -> int:
    """ioctl(2) with a ctypes reference, an address, or None; its result, or OSError that tells the request's name."""
    result: int = _libc.ioctl(fd, request, argument)
    if result < 0:
        raise _failed(name or f"ioctl {request:#x}")
    return result


def prctl(option: int, *arguments: int) -> int:
    """prctl(2); its result, or OSError."""
    return syscall("prctl", option, *(*arguments, 0, 0, 0, 0)[:4])


def twin(entry: int, stack: int, flags: int, argument: int = 0) -> int:
    """clone(2) as the C library offers it: a child that starts at the address `entry`; its pid, or OSError."""
    pid: int = _libc.clone(entry, stack, flags, argument)
    if pid < 0:
        raise _failed("clone")
    return pid


def loads_at(address: int) -> tuple[int, int]:
    """(code that loads from the address it is given, the address), for `twin`; whatever lies there does not matter."""
    return ctypes.cast(_libc.atoi, ctypes.c_void_p).value or 0, address


def stores_at(address: int) -> tuple[int, int]:
    """The same for a store of zeroes."""
    return ctypes.cast(_libc.sigemptyset, ctypes.c_void_p).value or 0, address


def _sized(file: Descriptor, size: int) -> Descriptor:
    try:
        os.ftruncate(file.fd, size)
    except OSError as error:
        raise CallFailed("ftruncate", error.errno or errno.EIO) from error
    return file


def memfd(name: str, size: int, flags: int = os.MFD_CLOEXEC) -> Descriptor:
    """A memory file of `size` bytes, close-on-exec; OSError."""
    called = name.encode()
    return _sized(opened("memfd_create", bytes_address(called), flags), size)


def seal(fd: int) -> None:
    """From now on nobody writes to a memory file that allows seals, but by the mappings that there are, or changes its
    size (F_SEAL_FUTURE_WRITE, include/uapi/linux/fcntl.h); OSError."""
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _FUTURE_WRITE | fcntl.F_SEAL_SEAL)


def memfd_secret(size: int) -> Descriptor:
    """A memfd_secret of `size` bytes (mm/secretmem.c); Unavailable where this kernel, or this user, has none."""
    try:
        file = opened("memfd_secret", os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(*lacking(error)) from error
    return _sized(file, size)


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
    zero, done = opened_path("/dev/zero", os.O_RDONLY | os.O_CLOEXEC), 0
    try:
        while done < size:
            done += syscall("read", zero.fd, address + done, size - done)
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise
        raise too_little_locked(size, done) from error


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


def polling(fds: Sequence[int], events: int = select.POLLIN) -> select.poll:
    """What waits for these with poll(2). No epoll: that goes on hearing a descriptor that we closed and another process
    holds, under a number which may be another's by then (epoll(7), Q6)."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, events)
    return poll


def readable(fds: Sequence[int], timeout: float | None, events: int = select.POLLIN) -> list[int]:
    """Which of the descriptors have something to read, or what else is asked for (poll(2)), or are at their end, after
    at most so many seconds."""
    return [fd for fd, _ in polling(fds, events).poll(None if timeout is None else timeout * 1000)]


def pages_of(size: int) -> int:
    """Number of pages of a memory; ValueError unless `size` is a positive whole number of them, TypeError;
    Unavailable where this kernel has others."""
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise TypeError(f"a size is a number of bytes, not {size!r}")
    if size <= 0 or size % PAGE_SIZE:
        raise ValueError(f"size {size} is not a positive multiple of {PAGE_SIZE}")
    if size > SIZE_MAX:
        raise ValueError(f"size {size} is beyond what a file and a mapping can have ({SIZE_MAX} bytes)")
    need_page_size()
    return size // PAGE_SIZE


def bytes_address(data: bytes) -> int:
    """Where the bytes lie, for a call that reads them while `data` is alive."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


def copy(target: int, source: int, length: int) -> None:
    """memcpy(3), from address to address by the CPU: a bad one is a signal, and finds the interpreter at rest."""
    _libc.memcpy(target, source, length)


def at_signal(number: int, handler: Callable[[int], None]) -> object:
    """signal(2) with a handler that runs at once, where the signal is, also inside a foreign call; for as long as what
    is returned lives."""
    entry = ctypes.CFUNCTYPE(None, ctypes.c_int)(handler)
    _libc.signal(number, entry)
    return entry
