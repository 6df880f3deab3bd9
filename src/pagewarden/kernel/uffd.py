"""A userfaultfd: one method for each ioctl, all lengths and addresses in bytes."""

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from struct import Struct
from typing import Any

from pagewarden.abi import uffd
from pagewarden.kernel.causes import CallFailed, lacking
from pagewarden.kernel.door import Descriptor, ioctl, ioctl_inplace, opened
from pagewarden.vocab import PAGE_SIZE, Unavailable

_CONTINUE = Struct("QQQq")
"""uffdio_continue: start, len, mode, mapped."""
_COPY, _ZEROPAGE, _WRITEPROTECT, _RANGE = Struct("QQQQq"), Struct("QQQq"), Struct("QQQ"), Struct("QQ")
"""uffdio_copy: dst, src, len, mode, copy; uffdio_zeropage: start, len, mode, zeropage; and start, len, mode."""
_MESSAGES = 64 * uffd.uffd_msg.size
"""Bytes that are read at once."""
_NOWHERE = 1 << 16
"""The lowest address that a process may map by default (vm.mmap_min_addr): nothing lies there."""
GUARD = uffd.UFFDIO_REGISTER_MODE_MISSING | uffd.UFFDIO_REGISTER_MODE_MINOR
"""Both modes: with MINOR alone holes would answer, with MISSING alone the page cache would."""
ASIDE = uffd.UFFDIO_REGISTER_MODE_WP
"""Where nothing is write-protected it stops no touch, and UFFDIO_CONTINUE goes through."""
YIELDING = GUARD | ASIDE
"""Of a guard that was aside, and of what lies about it: Linux 7.3 lets nobody drop write protection again
(mm/userfaultfd.c, userfaultfd_register: EBUSY), and UFFDIO_CONTINUE wants one mapping, so the same modes throughout
(ENOENT). From these there is no way to ASIDE: a mapping that has the modes asked for, and more, is left as it is."""
ASIDE_FEATURES = uffd.UFFD_FEATURE_WP_HUGETLBFS_SHMEM
RWP_ASIDE = uffd.UFFDIO_REGISTER_MODE_RWP
RWP_GUARD = GUARD | RWP_ASIDE
"""The same for pages that are there and shut (Linux 7.3): protection is of entries that are present alone."""
GUARD_FEATURES = uffd.UFFD_FEATURE_SIGBUS | uffd.UFFD_FEATURE_MINOR_SHMEM | uffd.UFFD_FEATURE_MISSING_SHMEM
RWP_FEATURES = GUARD_FEATURES | uffd.UFFD_FEATURE_RWP


def continue_request(address: int, length: int, mode: int = 0) -> bytearray:
    """The argument of a UFFDIO_CONTINUE, for whoever makes that call without this module."""
    return bytearray(_CONTINUE.pack(address, length, uffd.UFFDIO_CONTINUE_MODE_DONTWAKE | mode, 0))


def fill_continue(words: Any, address: int, length: int) -> None:
    """The same into an array of four 64-bit words, for compiled code."""
    words[0], words[1], words[2], words[3] = address, length, uffd.UFFDIO_CONTINUE_MODE_DONTWAKE, 0


def fill_protect(words: Any, address: int, length: int, on: int) -> None:
    """The argument of a UFFDIO_RWPROTECT into an array of at least three 64-bit words, for compiled code."""
    words[0], words[1] = address, length
    words[2] = uffd.UFFDIO_RWPROTECT_MODE_RWP if on else uffd.UFFDIO_RWPROTECT_MODE_DONTWAKE


def _open(flags: int) -> Descriptor:
    try:
        return opened("userfaultfd", os.O_CLOEXEC | os.O_NONBLOCK | flags)
    except OSError as error:
        if error.errno == errno.EPERM and not flags & uffd.UFFD_USER_MODE_ONLY:
            error = CallFailed("userfaultfd for kernel faults", errno.EPERM)
        raise Unavailable(*lacking(error)) from error


@cache
def offered() -> int:
    """The UFFD_FEATURE bits that this kernel has; Unavailable without userfaultfd."""
    own = _open(uffd.UFFD_USER_MODE_ONLY)
    api = uffd.uffdio_api(uffd.UFFD_API, 0, 0)
    ioctl(own.fd, uffd.UFFDIO_API, ctypes.byref(api), "UFFDIO_API")
    return int(api.features)


def need(features: int) -> None:
    """Unavailable unless this kernel has all of these."""
    missing = [name for name, bit in uffd.FEATURES.items() if features & bit & ~offered()]
    if missing:
        raise Unavailable(f"userfaultfd lacks {', '.join(missing)}", "needs a newer kernel, or its configuration")


class Userfault:
    """One userfaultfd. With user_mode_only, a touch by the kernel on behalf of a syscall fails instead of waiting."""

    def __init__(self, features: int, *, user_mode_only: bool = True) -> None:
        need(features)
        self._own = _open(uffd.UFFD_USER_MODE_ONLY if user_mode_only else 0)
        self.fd = self._own.fd
        """Its number; -1 once it is closed."""
        api = uffd.uffdio_api(uffd.UFFD_API, features, 0)
        ioctl(self.fd, uffd.UFFDIO_API, ctypes.byref(api), "UFFDIO_API")

    @classmethod
    def adopt(cls, fd: int) -> "Userfault":
        """A userfaultfd that another process made and passed on: its ioctls act on that process's mappings."""
        self = cls.__new__(cls)
        self._own, self.fd = Descriptor(fd), fd
        return self

    def lift(self, lowest: int = 3) -> None:
        """See Descriptor."""
        self._own = self._own.lift(lowest)
        self.fd = self._own.fd

    def register(self, address: int, length: int, mode: int) -> None:
        """UFFDIO_REGISTER; OSError."""
        argument = uffd.uffdio_register(uffd.uffdio_range(address, length), mode, 0)
        ioctl(self.fd, uffd.UFFDIO_REGISTER, ctypes.byref(argument), "UFFDIO_REGISTER")

    def unregister(self, address: int, length: int) -> None:
        """UFFDIO_UNREGISTER; whoever waits on the range is woken. OSError."""
        ioctl(self.fd, uffd.UFFDIO_UNREGISTER, ctypes.byref(uffd.uffdio_range(address, length)))

    def write_protect(self, address: int, length: int, on: bool = True) -> None:
        """UFFDIO_WRITEPROTECT: from now on a writer waits, or does not any more. OSError."""
        mode = uffd.UFFDIO_WRITEPROTECT_MODE_WP if on else 0
        ioctl_inplace(self.fd, uffd.UFFDIO_WRITEPROTECT, bytearray(_WRITEPROTECT.pack(address, length, mode)))

    def copy(self, target: int, source: int, length: int, mode: int = 0) -> int:
        """UFFDIO_COPY: whole new pages with these bytes, put in place at once; the bytes done, which may be fewer.
        mode: UFFDIO_COPY_MODE_WP, and who writes them waits."""
        return self._fill(uffd.UFFDIO_COPY, bytearray(_COPY.pack(target, source, length, mode, 0)))

    def zero(self, address: int, length: int) -> int:
        """UFFDIO_ZEROPAGE: new pages of zeroes; the bytes done, which may be fewer. OSError."""
        return self._fill(uffd.UFFDIO_ZEROPAGE, bytearray(_ZEROPAGE.pack(address, length, 0, 0)))

    def _fill(self, request: int, argument: bytearray) -> int:
        """The bytes done, which the kernel leaves in the last word; OSError where there are none."""
        try:
            ioctl_inplace(self.fd, request, argument)
        except OSError:
            if int.from_bytes(argument[-8:], sys.byteorder, signed=True) <= 0:
                raise
        return int.from_bytes(argument[-8:], sys.byteorder, signed=True)

    def poison(self, address: int, length: int) -> None:
        """UFFDIO_POISON: whoever touches the range meets a hardware error, a program SIGBUS (Linux 6.6);
        OSError."""
        argument = uffd.uffdio_poison(uffd.uffdio_range(address, length), 0, 0)
        ioctl(self.fd, uffd.UFFDIO_POISON, ctypes.byref(argument))

    def wake(self, address: int, length: int) -> None:
        """UFFDIO_WAKE: who waits in the range tries again. OSError."""
        ioctl_inplace(self.fd, uffd.UFFDIO_WAKE, bytearray(_RANGE.pack(address, length)))

    def messages(self) -> list[tuple[int, int, int, int]]:
        """What has happened and nobody has read, as of uffd_msg: a fault's address is to the byte where
        UFFD_FEATURE_EXACT_ADDRESS was asked for. OSError."""
        try:
            data = os.read(self.fd, _MESSAGES)
        except BlockingIOError:
            return []
        return list(uffd.uffd_msg.iter_unpack(data))

    def map_present(self, address: int, length: int, mode: int = 0) -> tuple[int, int]:
        """UFFDIO_CONTINUE: map pages that the file holds; the bytes done and the errno that stopped it, or 0. mode:
        UFFDIO_CONTINUE_MODE_WP maps them for reading alone, where the range is registered for write protection."""
        argument = continue_request(address, length, mode)
        try:
            ioctl_inplace(self.fd, uffd.UFFDIO_CONTINUE, argument)
        except OSError as error:
            return max(0, _CONTINUE.unpack(argument)[3]), error.errno or errno.EIO
        return length, 0

    def mapper(self, address: int, otherwise: Callable[[int, int], None]) -> Callable[[int, int], None]:
        """UFFDIO_CONTINUE of (offset, length) of the range that starts at the address; where the kernel stops, with
        some done perhaps, `otherwise` of the same. The quickest way from Python; one thread at a time."""
        fd, request, pack = self.fd, bytearray(_CONTINUE.size), _CONTINUE.pack_into
        number, mode = uffd.UFFDIO_CONTINUE, uffd.UFFDIO_CONTINUE_MODE_DONTWAKE

        def map_whole(offset: int, length: int) -> None:
            pack(request, 0, address + offset, length, mode, 0)
            try:
                ioctl_inplace(fd, number, request)
            except OSError:
                otherwise(offset, length)

        return map_whole

    def protector(self, address: int, on: bool) -> Callable[[int, int], None]:
        """UFFDIO_RWPROTECT of (offset, length) of the range that starts at the address: from now on its present pages
        answer nobody, or everybody again. OSError, some perhaps done; one thread at a time."""
        fd, request = self.fd, bytearray(ctypes.sizeof(uffd.uffdio_rwprotect))
        words = memoryview(request).cast("Q")
        fill_protect(words, address, 0, on)

        def protect(offset: int, length: int) -> None:
            words[0], words[1] = address + offset, length
            ioctl_inplace(fd, uffd.UFFDIO_RWPROTECT, request)

        return protect

    def gone(self) -> bool:
        """Is the address space that it belongs to gone, with its last thread's end? The kernel says so by ESRCH before
        it looks for a mapping (fs/userfaultfd.c, userfaultfd_continue); at this address it finds none of ours."""
        return self.map_present(_NOWHERE, PAGE_SIZE)[1] == errno.ESRCH

    def close(self) -> None:
        """Give the fd back: ranges still registered lose their guard. Twice is once."""
        self.fd = -1
        with suppress(OSError):  # it is closed, whatever close(2) says
            self._own.close()
