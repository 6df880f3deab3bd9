"""What a wholly hostile host side does with its own resources: as many threads, as much memory, as long system calls as
it can get, its own window in pieces, itself stopped, descriptors that are slow to close. See hostile.
"""

import ctypes
import errno
import mmap
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from hostile import call, look
from pagewarden.memory.isolated.side import HostSide
from pagewarden.vocab import PAGE_SIZE

MIB = 1 << 20
MAP_PRIVATE_ANONYMOUS, MAP_FIXED, MAP_NORESERVE = 0x22, 0x10, 0x4000


def _waiting_threads(most: int) -> tuple[int, threading.Event]:
    """How many there could be, and what ends them."""
    over, made = threading.Event(), 0
    threading.stack_size(64 << 10)
    with suppress(RuntimeError):
        while made < most:
            threading.Thread(target=over.wait, daemon=True).start()
            made += 1
    return made, over


def take_threads(host: HostSide) -> None:
    """All threads that are to be had; how many those are, and then it waits."""
    made, _over = _waiting_threads(5000)
    host.report(made)
    host.listen()


def need_threads(host: HostSide) -> None:
    """A few threads, as a device needs them."""
    made, _over = _waiting_threads(8)
    host.report(made)


def hoard(host: HostSide, mebibytes: int) -> None:
    """Memory that no process is charged for in the OOM killer's eyes: a file in memory that nobody maps."""
    file, chunk = os.memfd_create("hoard"), bytes(MIB)
    host.report(os.getpid())
    for _ in range(mebibytes):
        os.write(file, chunk)
    host.report(-7, b"all of it was to be had")
    time.sleep(1)


def most_space(host: HostSide) -> None:
    """Addresses, then a file in memory: how many MiB of each are to be had, up to 64 GiB."""
    taken = 0
    while taken < 64 << 10:
        if call("mmap", 0, 256 * MIB, 3, MAP_PRIVATE_ANONYMOUS | MAP_NORESERVE, -1, 0) < 0:
            break
        taken += 256
    file = os.memfd_create("long")
    length = 0
    while length < 64 << 10 and call("ftruncate", file, (length + 256) * MIB) >= 0:
        length += 256
    host.report(taken)
    host.report(length)


def hold(host: HostSide) -> None:
    """Threads that keep this address space busy: the largest mappings that are to be had, changed and dropped, for
    which the warden's conversions have to wait."""
    size = 1 << 32

    def work() -> None:
        while True:
            at = call("mmap", 0, size, 3, MAP_PRIVATE_ANONYMOUS | MAP_NORESERVE, -1, 0)
            if at < 0:
                continue
            for page in range(at, at + size, 2 * MIB):  # one table each
                ctypes.c_char.from_address(page).value  # noqa: B018  the page of zeroes
            for prot in (1, 3, 0, 3):
                call("mprotect", at, size, prot)
            call("madvise", at, size, 4)
            call("munmap", at, size)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    host.report(0)
    host.listen()


def stop_yourself(host: HostSide, when: int) -> None:
    """SIGSTOP to itself: at once, in the middle of talking, or from a thread while the window is in use."""
    me = os.getpid()

    def stop() -> int:
        return call("tgkill", me, call("gettid"), signal.SIGSTOP)

    if when == 0:
        stop()
    host.report(0)
    if when == 1:
        stop()
    if when == 2:
        threading.Thread(target=stop, daemon=True).start()
        while True:
            host.read(0, PAGE_SIZE)
    while True:
        look(host)


REMAPPED: dict[str, tuple[str, Callable[[HostSide], tuple[int, ...]]]] = {
    "munmap": ("munmap", lambda host: (host.address, PAGE_SIZE)),
    "munmap-all": ("munmap", lambda host: (host.address, host.size)),
    "anonymous": ("mmap", lambda host: (host.address, PAGE_SIZE, 3, MAP_FIXED | MAP_PRIVATE_ANONYMOUS, -1, 0)),
    "shared-anonymous": ("mmap", lambda host: (host.address, PAGE_SIZE, 3, MAP_FIXED | 0x21, -1, 0)),
    "file": ("mmap", lambda host: (host.address, PAGE_SIZE, 3, MAP_FIXED | 1, host.fds[0], 0)),
    "no-access": ("mprotect", lambda host: (host.address, host.size, 0)),
    "read-only": ("mprotect", lambda host: (host.address, host.size, 1)),
    "executable": ("mprotect", lambda host: (host.address, host.size, 7)),
    "dontneed": ("madvise", lambda host: (host.address, host.size, 4)),
    "guarded": ("madvise", lambda host: (host.address, host.size, 102)),
    "populate": ("madvise", lambda host: (host.address, host.size, 22)),
    "moved": ("mremap", lambda host: (host.address, PAGE_SIZE, PAGE_SIZE, 3, host.address + (1 << 30))),
    "locked": ("mlock", lambda host: (host.address, host.size)),
    "sealed": ("mseal", lambda host: (host.address, host.size, 0)),
}


def remap(host: HostSide, how: str) -> None:
    """Its own window in pieces, while the warden converts."""
    name, arguments = REMAPPED[how]
    host.report(call(name, *arguments(host)))
    while True:
        with suppress(Exception):
            look(host)


def _kernel_writes(host: HostSide) -> dict[str, Callable[[], object]]:
    page = host.address + PAGE_SIZE
    head = struct.pack("<QqQ", page, 0, page)

    def robust() -> None:
        buffer = ctypes.create_string_buffer(head)
        call("set_robust_list", ctypes.addressof(buffer), 24)
        os._exit(0)

    def on_signal_stack() -> None:
        stack = struct.pack("<QiiQ", page, 0, 0, PAGE_SIZE)
        call("sigaltstack", ctypes.addressof(ctypes.create_string_buffer(stack)), 0)
        action = struct.pack("<QQQQ", host.address, 0x0C000000, host.address, 0)  # SA_ONSTACK, SA_RESTORER
        call("rt_sigaction", signal.SIGUSR1, ctypes.addressof(ctypes.create_string_buffer(action)), 0, 8)
        call("tgkill", os.getpid(), call("gettid"), signal.SIGUSR1)

    return {
        "robust list": robust,
        "robust list in the page": lambda: call("set_robust_list", page, 24),
        "rseq": lambda: call("rseq", page, 32, 0, 0x53053053),
        "signal stack": on_signal_stack,
        "futex of two words": lambda: call("futex", host.address, 5, 1, 1, page, 0),
        "futex that waits": lambda: call("futex", page, 0, 0, 0, 0, 0),
        "clock": lambda: call("clock_gettime", 0, page),
        "random": lambda: call("getrandom", page, 16, 0),
        "name": lambda: call("prctl", 15, page),
        "limits": lambda: call("prlimit64", 0, 0, 0, page),
        "poll": lambda: call("poll", page, 1, 0),
        "message": lambda: call("recvmsg", 65, page, 0x40),
    }


KERNEL_WRITES = 12


def kernel_writes(host: HostSide, which: int) -> None:
    """Have the kernel read or write a private page: as it ends a thread, delivers a signal, wakes a waiter, answers."""
    ways = _kernel_writes(host)
    assert len(ways) == KERNEL_WRITES
    list(ways.values())[which]()
    look(host)
    host.report(0)


def linger(host: HostSide, fd: int) -> None:
    """A descriptor whose last close takes long, for the warden to close: made, changed or passed on."""
    at = ctypes.addressof(ctypes.create_string_buffer(struct.pack("ii", 1, 3600)))
    pair = ctypes.addressof(ctypes.create_string_buffer(8))
    went = []
    for name, result in {
        "socket": call("socket", socket.AF_INET, socket.SOCK_STREAM, 0),
        "socketpair": call("socketpair", socket.AF_UNIX, socket.SOCK_STREAM, 0, pair),
        "setsockopt": call("setsockopt", fd, socket.SOL_SOCKET, socket.SO_LINGER, at, 8),
        "shutdown": call("shutdown", fd, 2),
    }.items():
        went += [name] * (result >= 0)
    for channel in range(64, 90):
        try:
            with socket.socket(fileno=os.dup(channel)) as end:
                socket.send_fds(end, [bytes(256)], [fd])
            went.append(f"descriptor over {channel}")
        except OSError as error:
            assert error.errno in (errno.EPERM, errno.EBADF, errno.ENOTSOCK)
    host.report(len(went), " ".join(went).encode()[:240])
    while True:
        time.sleep(1)


def poison(host: HostSide, place: str) -> None:
    """Write into the caches of the warden's user, by every call that takes a name."""
    went = []
    path = ctypes.create_string_buffer(f"{place}/new".encode())
    at, there = ctypes.addressof(path), ctypes.addressof(ctypes.create_string_buffer(place.encode()))
    for name, arguments in {
        "open": (at, os.O_CREAT | os.O_RDWR, 0o600),
        "openat": (-100, at, os.O_CREAT | os.O_RDWR, 0o600),
        "creat": (at, 0o600),
        "mkdir": (at, 0o700),
        "mkdirat": (-100, at, 0o700),
        "unlink": (at,),
        "unlinkat": (-100, at, 0),
        "rename": (there, at),
        "renameat2": (-100, there, -100, at, 0),
        "symlink": (there, at),
        "linkat": (-100, there, -100, at, 0),
        "chmod": (there, 0o777),
        "chown": (there, 65534, 65534),
        "truncate": (at, 0),
        "setxattr": (there, at, at, 1, 0),
        "mknod": (at, 0o600, 0),
        "bind": (65, at, 16),
    }.items():
        went += [name] * (call(name, *arguments) >= 0)
    for flags in (os.O_RDONLY, os.O_PATH, os.O_TMPFILE | os.O_RDWR):
        with suppress(OSError):
            os.close(os.open(place, flags))
            went.append(f"opened with {flags:#o}")
    host.report(len(went), " ".join(went).encode()[:240])


def old_gate(host: HostSide) -> None:
    """int 0x80, by which 32-bit programs call the kernel: getpid, which has another number there."""
    code = mmap.mmap(-1, PAGE_SIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20; int 0x80; ret
    host.report(0)
    result = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
    host.report(1, str(result).encode())
