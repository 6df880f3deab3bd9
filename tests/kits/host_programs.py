"""What the untrusted host side runs in the tests: each function is imported by its process."""

import ctypes
import errno
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from pagewarden.abi import memory as uapi
from pagewarden.abi.memory import iovec
from pagewarden.kernel.door import syscall
from pagewarden.memory.isolated.messages import RECORD, MessageKind
from pagewarden.memory.isolated.side import HostSide
from pagewarden.vocab import PAGE_SIZE, PrivateAccess


def peek(host: HostSide) -> None:
    """Report the first 8 bytes of each page it is told, or the offending offset."""
    while (page := host.listen()) >= 0:
        try:
            host.report(0, host.read(page * PAGE_SIZE, 8))
        except PrivateAccess as refusal:
            host.report(1, str(refusal.offset).encode())


def talk(host: HostSide) -> None:
    """More than anybody keeps, and fail."""
    print("x" * (1 << 20))
    raise KeyError("the last word")


def imports_late(host: HostSide) -> None:
    import colorsys  # noqa: F401  (nobody has it)


def report_much(host: HostSide) -> None:
    print("first")
    for _ in range(5000):
        host.report(0, b"")


def scribble(host: HostSide, offset: int, data: bytes) -> None:
    host.write(offset, data)


def touch(host: HostSide, offset: int) -> None:
    """A bare load."""
    ctypes.string_at(host.address + offset, 1)


def write_file(host: HostSide) -> None:
    host.pwrite_to(host.fds[0], 0, [(0, PAGE_SIZE)])


def descriptors(host: HostSide) -> None:
    """Report the number of each descriptor, and its device and inode."""
    for number in range(2000):
        try:
            status = os.fstat(number)
        except OSError:
            continue
        host.report(number, f"{status.st_dev} {status.st_ino}".encode())


def attempts(host: HostSide) -> dict[str, Callable[[], object]]:
    """Ways around the guard that must all fail."""
    page, warden = host.address, host.warden
    buffer = ctypes.create_string_buffer(64)
    local, remote = iovec(ctypes.addressof(buffer), 8), iovec(page, 8)
    pair = ctypes.addressof(local), 1, ctypes.addressof(remote), 1, 0
    return {
        "mremap": lambda: syscall("mremap", page, PAGE_SIZE, PAGE_SIZE, 3, page + (1 << 30)),
        "mremap-copy": lambda: syscall("mremap", page, 0, PAGE_SIZE, 1),
        "remap_file_pages": lambda: syscall("remap_file_pages", page, PAGE_SIZE, 0, 0, 0),
        "madvise-remove": lambda: syscall("madvise", page, PAGE_SIZE, uapi.MADV_REMOVE),
        "madvise-dofork": lambda: syscall("madvise", page, PAGE_SIZE, uapi.MADV_DOFORK),
        "madvise-collapse": lambda: syscall("madvise", page, PAGE_SIZE, 25),
        "userfaultfd": lambda: syscall("userfaultfd", 1),
        "dev-userfaultfd": lambda: os.open("/dev/userfaultfd", os.O_RDWR),
        "io_uring": lambda: syscall("io_uring_setup", 1, ctypes.addressof(buffer)),
        "ptrace-warden": lambda: syscall("ptrace", 16, warden, 0, 0),
        "process_vm-warden": lambda: syscall("process_vm_readv", warden, *pair),
        "process_vm-self": lambda: syscall("process_vm_readv", os.getpid(), *pair),
        "warden-mem": lambda: open(f"/proc/{warden}/mem", "rb"),
        "warden-fds": lambda: os.listdir(f"/proc/{warden}/fd"),
        "map_files": lambda: [
            os.open(f"/proc/self/map_files/{name}", os.O_RDWR) for name in os.listdir("/proc/self/map_files")
        ],
        "own-mem": lambda: os.pread(os.open("/proc/self/mem", os.O_RDONLY), 8, page),
        "fork": os.fork,
        "vfork": lambda: syscall("vfork"),
        "clone-vm": lambda: syscall("clone", 0x100 | 17, 0, 0, 0, 0),
        "vmsplice": lambda: syscall("vmsplice", 1, ctypes.addressof(remote), 1, 0),
        "user-namespace": lambda: syscall("unshare", 0x10000000),
        "clone-namespace": lambda: syscall("clone", 0x10000000 | 17, 0, 0, 0, 0),
        "root-again": lambda: os.setuid(0),
        "x32": lambda: syscall_number(0x40000000 + 39),
        "newer": lambda: syscall_number(5000),
    }


def syscall_number(number: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(ctypes.c_long(number))
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def try_everything(host: HostSide) -> None:
    """Report (errno or 0, name) for each attempt."""
    for name, attempt in attempts(host).items():
        try:
            attempt()
            host.report(0, name.encode())
        except OSError as error:
            host.report(error.errno or errno.EIO, name.encode())


def _permit(host: HostSide) -> None:
    for prot in (uapi.PROT_READ, uapi.PROT_NONE, uapi.PROT_READ | uapi.PROT_WRITE):
        syscall("mprotect", host.address, host.size, prot)


def _advise(host: HostSide, *advice: int) -> None:
    for one in advice:
        with suppress(OSError):
            syscall("madvise", host.address + PAGE_SIZE, PAGE_SIZE, one)


LIFTS: dict[str, Callable[[HostSide], object]] = {
    "shared": lambda host: None,
    "nothing": lambda host: None,
    "mprotect": _permit,
    "guard": lambda host: _advise(host, uapi.MADV_GUARD_INSTALL, uapi.MADV_GUARD_REMOVE),
    "free": lambda host: _advise(host, uapi.MADV_FREE, uapi.MADV_NOHUGEPAGE, uapi.MADV_NORMAL),
    "futex": lambda host: syscall("futex", host.address + PAGE_SIZE, 1, 1),
    "dontneed": lambda host: _advise(host, uapi.MADV_DONTNEED),
    "neighbour": lambda host: syscall(
        "mmap", host.address + 2 * PAGE_SIZE, PAGE_SIZE, 3, uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS | uapi.MAP_FIXED, -1
    ),
}
"""What a host side may do to the second page of its window, and about it. The last two for good: the pages do not come
back to it."""


def lift(host: HostSide) -> None:
    """Say each name, hear that the page was shared and, but for the first, shut, do it, and report what the page then
    shows: 0 for nothing."""
    scratch = os.memfd_create("ask")
    page = (ctypes.c_char * PAGE_SIZE).from_address(host.address + PAGE_SIZE)
    for name, attempt in LIFTS.items():
        host.report(0, name.encode())
        host.listen()
        with suppress(OSError):
            attempt(host)
        try:
            os.pwritev(scratch, [page], 0)
            host.report(1, os.pread(scratch, 8, 0))
        except OSError as error:
            assert error.errno == errno.EFAULT
            host.report(0)
    host.report(0, b"end")


def shout(host: HostSide, raw: bytes) -> None:
    """Send the warden something that is no message."""
    socket.socket(fileno=os.dup(host._channel.fileno())).send(raw)
    time.sleep(60)  # till it is killed


def smuggle(host: HostSide) -> None:
    """A report that brings a descriptor along."""
    socket.send_fds(host._channel, [RECORD.pack(MessageKind.REPORT, 0, 0, b"")], [2])
    time.sleep(60)  # till it is killed


def environment(host: HostSide) -> None:
    for name in os.environ:
        host.report(0, name.encode())


def fail(host: HostSide) -> None:
    raise RuntimeError("the device model has a bug")


def stay(host: HostSide) -> None:
    host.report(host.pid)
    time.sleep(600)  # till it is killed


def replace_window(host: HostSide, waits: bool = False) -> None:
    """Something else where the window was, which no userfaultfd guards that way: ordinary memory. waits: until it is
    told."""
    if waits:
        host.listen()
    libc = ctypes.CDLL(None)
    libc.mmap.restype, libc.mmap.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 4]
    private_anonymous_fixed = 0x32
    host.report(int(libc.mmap(host.address, PAGE_SIZE, 3, private_anonymous_fixed, -1, 0) != host.address))
    host.listen()


def search_itself(host: HostSide, disguised: bytes) -> None:
    """Report how often the bytes, each disguised by XOR with 1, are in this process's heap, and how much was searched.
    fds: a pipe, through which pages are looked at: one that is not there is EFAULT."""
    wanted, (receive, transmit) = bytes(each ^ 1 for each in disguised), host.fds
    libc = ctypes.CDLL(None)
    libc.sbrk.restype = ctypes.c_void_p
    page, found, searched, holes = libc.sbrk(0) // PAGE_SIZE * PAGE_SIZE, 0, 0, 0
    while holes < 16:
        page -= PAGE_SIZE
        try:
            syscall("write", transmit, page, PAGE_SIZE)
        except OSError:
            holes += 1
            continue
        found, searched = found + os.read(receive, PAGE_SIZE).count(wanted), searched + 1
    host.report(found, str(searched).encode())


def hear_a_secret(host: HostSide, secret: bytes) -> None:
    host.report(len(secret))
