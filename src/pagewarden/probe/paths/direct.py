"""I/O that pins the page (GUP) and leaves the copying to a device: O_DIRECT and AIO, also in flight during unshare."""

import contextlib
import ctypes
import os
import stat
import threading
from collections.abc import Iterator

from pagewarden.abi import aio, uffd
from pagewarden.abi import memory as uapi
from pagewarden.kernel import door
from pagewarden.kernel.door import syscall
from pagewarden.probe import raw
from pagewarden.probe.registry import MARK, Attempt, Direction, Target, path
from pagewarden.vocab import PAGE_SIZE, Unavailable

READ, WRITE = Direction.READ, Direction.WRITE
PAGE_OF_MARKS = MARK * (PAGE_SIZE // len(MARK))


def direct_io() -> None:
    """Unavailable where O_DIRECT in TMPDIR is no I/O of a disk's: a file system may take the flag and copy all the same
    (tmpfs does, seen on Linux 6.18), and then no page is pinned."""
    try:
        with raw.scratch(flags=os.O_DIRECT) as (fd, _):
            lack = why_not_direct(door.statx(fd, uapi.STATX_DIOALIGN))
    except OSError as error:
        lack = str(error)
    if lack:
        raise Unavailable(f"no direct I/O in the temporary directory ({lack})", "set TMPDIR to a directory on a disk")


def why_not_direct(found: uapi.statx) -> str:
    """What speaks against it; "" for a file system on a block device that says how direct I/O is to be aligned."""
    if not found.stx_mask & uapi.STATX_DIOALIGN:
        return "the kernel does not say how to align it, STATX_DIOALIGN of Linux 6.1"
    if not found.stx_dio_mem_align or not found.stx_dio_offset_align:
        return "the file system copies it"
    device = f"{found.stx_dev_major}:{found.stx_dev_minor}"
    return "" if device in block_devices() else f"device {device} is no block device"


def block_devices() -> set[str]:
    """MAJOR:MINOR of every block device, and of the file systems that have a device number of their own on top of one
    (btrfs), as /proc/self/mountinfo says (proc(5)): fields 3 and, behind the dash, the source."""
    numbers = set(os.listdir("/sys/dev/block"))
    with open("/proc/self/mountinfo") as lines:
        for fields in map(str.split, lines):
            source = fields[fields.index("-") + 2]
            if source.startswith("/dev/") and os.path.exists(source) and stat.S_ISBLK(os.stat(source).st_mode):
                numbers.add(fields[2])
    return numbers


EMPTY, MARKED = raw.file(flags=os.O_DIRECT), raw.file(PAGE_OF_MARKS * 2, os.O_DIRECT)
"""What a path's I/O goes to: (for direct I/O, to look)."""


@path("o_direct-write", READ, requires=direct_io, opens=EMPTY)
def direct_write(target: Target) -> bytes:
    """O_DIRECT write(2) from the window."""
    syscall("write", target.fds[0], target.address, PAGE_SIZE)
    return content_of(target)


@path("o_direct-read", WRITE, requires=direct_io, opens=MARKED)
def direct_read(target: Target) -> bytes:
    """O_DIRECT read(2) into the window."""
    syscall("read", target.fds[0], target.address, PAGE_SIZE)
    return b""


def content_of(target: Target) -> bytes:
    """The first page of the file."""
    return os.pread(target.fds[1], PAGE_SIZE, 0)


class Stall:
    """A page whose first touch waits until `release`: it keeps a vectored I/O in flight, its other pages pinned."""

    def __init__(self) -> None:
        self.page = raw.own_memory(PAGE_SIZE)
        self._fd = syscall("userfaultfd", os.O_CLOEXEC | os.O_NONBLOCK)
        door.ioctl(self._fd, uffd.UFFDIO_API, ctypes.byref(uffd.uffdio_api(uffd.UFFD_API, 0, 0)))
        request = uffd.uffdio_register(self._range, uffd.UFFDIO_REGISTER_MODE_MISSING, 0)
        door.ioctl(self._fd, uffd.UFFDIO_REGISTER, ctypes.byref(request))

    @property
    def _range(self) -> uffd.uffdio_range:
        return uffd.uffdio_range(self.page, PAGE_SIZE)

    def reached(self, milliseconds: int) -> bool:
        """Whether somebody waits at the page within that time."""
        return bool(door.readable([self._fd], milliseconds / 1000))

    def release(self) -> None:
        """Let the page be touched like any other."""
        os.close(self._fd)


def stalls() -> None:
    """Unavailable where a kernel access cannot be made to wait by userfaultfd."""
    direct_io()
    try:
        Stall().release()
    except OSError as error:
        raise Unavailable(
            f"no userfaultfd for kernel faults ({error})",
            "set vm.unprivileged_userfaultfd=1 or run with CAP_SYS_PTRACE",
        ) from error


class InFlight(threading.Thread):
    """A vectored O_DIRECT call on the window's page and then a stalling one, in a thread of its own."""

    def __init__(self, call: str, target: Target) -> None:
        super().__init__(daemon=True)
        self.stall = Stall()
        self._call, self._fd = call, target.fds[0]
        self._pieces = (target.address, PAGE_SIZE), (self.stall.page, PAGE_SIZE)
        self._error: OSError | None = None

    def run(self) -> None:
        try:
            raw.vectored(self._call, self._fd, *self._pieces, offset=0)
        except OSError as error:
            self._error = error

    def begin(self) -> None:
        """Returns once the window's page is pinned; OSError if that was refused."""
        self.start()
        while not self.stall.reached(1):
            if not self.is_alive():
                self.end()
                return

    def end(self) -> None:
        """Let the I/O finish; OSError if it failed."""
        self.stall.release()
        self.join()
        if self._error:
            raise self._error


@path("o_direct-write-in-flight", READ, requires=stalls, opens=EMPTY, calls=("userfaultfd",))
def direct_write_in_flight(target: Target) -> Attempt:
    """An O_DIRECT pwritev that has pinned the window's page and waits, finished after the conversion."""
    flight = InFlight("pwritev", target)
    flight.begin()
    yield
    flight.end()
    return content_of(target)


@path("o_direct-read-in-flight", WRITE, requires=stalls, opens=MARKED, calls=("userfaultfd",))
def direct_read_in_flight(target: Target) -> Attempt:
    """An O_DIRECT preadv that has pinned the window's page and waits, finished after the conversion."""
    flight = InFlight("preadv", target)
    flight.begin()
    yield
    flight.end()
    return b""


@contextlib.contextmanager
def context() -> Iterator[int]:
    """An AIO context for one request."""
    handle = ctypes.c_uint64()
    syscall("io_setup", 1, ctypes.addressof(handle))
    try:
        yield handle.value
    finally:
        syscall("io_destroy", handle.value)


def asynchronous() -> None:
    """Unavailable without AIO or O_DIRECT."""
    direct_io()
    try:
        with context():
            pass
    except OSError as error:
        raise Unavailable(f"no AIO ({error})", "needs CONFIG_AIO=y and room in fs.aio-max-nr") from error


def submit(opcode: int, target: Target) -> None:
    """One AIO request on the window's page, waited for; OSError when it was refused or failed."""
    fd = target.fds[0]
    request = aio.iocb(aio_lio_opcode=opcode, aio_fildes=fd, aio_buf=target.address, aio_nbytes=PAGE_SIZE)
    pointers, event = (ctypes.c_uint64 * 1)(ctypes.addressof(request)), aio.io_event()
    with context() as handle:
        syscall("io_submit", handle, 1, ctypes.addressof(pointers))
        syscall("io_getevents", handle, 1, 1, ctypes.addressof(event), 0)
    if event.res < 0:
        raise OSError(-event.res, os.strerror(-event.res))


@path("aio-pwrite", READ, requires=asynchronous, opens=EMPTY, calls=("io_setup",))
def aio_pwrite(target: Target) -> bytes:
    """io_submit of a PWRITE from the window to an O_DIRECT file."""
    submit(aio.IOCB_CMD_PWRITE, target)
    return content_of(target)


@path("aio-pread", WRITE, requires=asynchronous, opens=MARKED, calls=("io_setup",))
def aio_pread(target: Target) -> bytes:
    """io_submit of a PREAD from an O_DIRECT file into the window."""
    submit(aio.IOCB_CMD_PREAD, target)
    return b""
