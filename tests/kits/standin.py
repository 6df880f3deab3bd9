"""A tiny memory of two pages, made by hand: shows what the paths do where the library's own memory is not on trial."""

import ctypes
import os

from pagewarden.abi import memory as uapi
from pagewarden.abi import uffd
from pagewarden.kernel import door
from pagewarden.probe.trial import BEFORE, Cooperating
from pagewarden.vocab import PAGE_SIZE


class Plain(Cooperating):
    """A memfd mapped twice, with no guard at all; the page in the middle is on trial."""

    def __init__(self, size: int) -> None:
        self.file, self.place = door.memfd("standin", size), size // PAGE_SIZE // 2 * PAGE_SIZE
        self.fd = self.file.fd
        os.pwrite(self.fd, BEFORE * (size // PAGE_SIZE), 0)
        self.private = door.map_anywhere(size, self.fd, 0) + self.place
        self.view = door.map_anywhere(size, self.fd, 0)
        super().__init__(self.view + self.place)

    def share(self) -> None: ...
    def unshare(self) -> None: ...

    def put(self, data: bytes) -> None:
        ctypes.memmove(self.private, data, len(data))

    def page(self) -> bytes:
        return os.pread(self.fd, PAGE_SIZE, self.place)


class Guarded(Plain):
    """The same with the view guarded by userfaultfd."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        features = uffd.UFFD_FEATURE_SIGBUS | uffd.UFFD_FEATURE_MISSING_SHMEM | uffd.UFFD_FEATURE_MINOR_SHMEM
        self.uffd = door.syscall("userfaultfd", os.O_CLOEXEC)
        door.ioctl(self.uffd, uffd.UFFDIO_API, ctypes.byref(uffd.uffdio_api(uffd.UFFD_API, features, 0)))
        modes = uffd.UFFDIO_REGISTER_MODE_MISSING | uffd.UFFDIO_REGISTER_MODE_MINOR
        register = uffd.uffdio_register(uffd.uffdio_range(self.view, size), modes, 0)
        door.ioctl(self.uffd, uffd.UFFDIO_REGISTER, ctypes.byref(register))
        door.syscall("madvise", self.view, size, uapi.MADV_DONTFORK)

    def share(self) -> None:
        page = uffd.uffdio_range(self.view + self.place, PAGE_SIZE)
        door.ioctl(self.uffd, uffd.UFFDIO_CONTINUE, ctypes.byref(uffd.uffdio_continue(page, 0, 0)))

    def unshare(self) -> None:
        door.syscall("madvise", self.view + self.place, PAGE_SIZE, uapi.MADV_DONTNEED)
