"""What runs in the host side when it is wholly hostile: each function tries to get at private pages or at the warden,
and reports what came of it. What it sees it writes to the one file it was given.

Imported in the host side's process; values of reports are counts of what went through, data the words.
"""

import ctypes
import errno
import mmap
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress

from pagewarden.abi.memory_syscalls import SYSCALLS
from pagewarden.abi.uffd import USERFAULTFD_IOC_NEW
from pagewarden.memory.isolated.side import HostSide
from pagewarden.vocab import PAGE_SIZE, PrivateAccess

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
NUMBERS = SYSCALLS[platform.machine()]
UFFDIO = [0xC018AA3F, 0xC020AA00, 0x8010AA01, 0x8010AA02, 0xC028AA03, 0xC020AA04, 0xC018AA06, 0xC020AA07, 0xC020AA08]
HIGH = range(64, 90)
"""Where pagewarden's own descriptors lie."""


def raw(number: int, *arguments: int) -> int:
    """The result, or minus the errno."""
    result: int = _libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    return result if result >= 0 else -ctypes.get_errno()


def call(name: str, *arguments: int) -> int:
    """By name; one that this machine does not have is ENOSYS."""
    return raw(NUMBERS[name], *arguments) if name in NUMBERS else -errno.ENOSYS


def look(host: HostSide) -> int:
    """Read every page by plain means and write what was seen to the file: how many private ones answered."""
    seen = 0
    for page in range(1, host.size // PAGE_SIZE):
        with suppress(PrivateAccess):
            os.write(host.fds[0], host.read(page * PAGE_SIZE, PAGE_SIZE))
            seen += 1
    return seen


def outlive(host: HostSide) -> None:
    """Every way to leave a process behind; whoever is left looks until it sees something."""
    host.report(0, b"ready")
    clone_vm, clone_vfork, clone_thread, clone_files = 0x100, 0x4000, 0x10000, 0x400
    ways: dict[str, Callable[[], int]] = {
        "vfork": lambda: call("vfork"),
        "fork": lambda: call("fork"),
        "clone": lambda: call("clone", 17, 0, 0, 0, 0),
        "clone-vm": lambda: call("clone", clone_vm | 17, 0, 0, 0, 0),
        "clone-vm-vfork": lambda: call("clone", clone_vm | clone_vfork | 17, 0, 0, 0, 0),
        "thread-with-files-of-its-own": lambda: call("clone", 0x3D0F00 & ~clone_files, 0, 0, 0, 0),
        "thread-as-process": lambda: call("clone", 0x3D0F00 & ~clone_thread, 0, 0, 0, 0),
        "high-flags": lambda: call("clone", 0x3D0F00 | 1 << 40, 0, 0, 0, 0),
        "clone3": lambda: call("clone3", ctypes.addressof(ctypes.create_string_buffer(88)), 88),
        "execve": lambda: call("execve", 0, 0, 0),
        "unshare-files": lambda: call("unshare", clone_files),
        "pdeathsig-off": lambda: call("prctl", 1, 0, 0, 0, 0),
        "dumpable": lambda: call("prctl", 4, 1, 0, 0, 0),
        "setsid": lambda: call("setsid"),
    }
    went = []
    for name, way in ways.items():
        result = way()
        if result == 0 and ("clone" in name or "fork" in name or "thread" in name):  # the child
            while not look(host):
                time.sleep(0.001)  # between looks, till it is killed
            os._exit(0)
        if result >= 0:
            went.append(name)
    host.report(len(went), " ".join(went).encode()[:240])
    while True:
        look(host)


def break_guard(host: HostSide) -> None:
    """Close, replace, open or give away the guard, which lies in this process's own table."""
    request = (ctypes.c_uint64 * 8)(host.address, host.size, 0, 0, 0, 0, 0, 0)
    at, went = ctypes.addressof(request), []
    for fd in HIGH:
        for name, result in {
            **{f"ioctl {number:#x}": call("ioctl", fd, number, at) for number in [*UFFDIO, USERFAULTFD_IOC_NEW]},
            "close_range": call("close_range", fd, fd, 0),
            "mmap": raw(NUMBERS["mmap"], 0, PAGE_SIZE, 3, 1, fd, 0) if os_kind(fd) == 0 else -1,
        }.items():
            if result >= 0:
                went.append(f"{name} of {fd}")
    pair = [call("socketpair", 1, 5, 0, at), call("sendmsg", 64, at, 0), call("sendmmsg", 64, at, 1, 0)]
    if max(pair) >= 0:
        went.append(f"sockets {pair}")
    kept = [fd for fd in HIGH if os_kind(fd) == 0]  # anon_inode: no file type
    for fd in kept:
        for name, result in {
            "close": call("close", fd),
            "dup2": call("dup2", 0, fd),
            "dup3": call("dup3", 0, fd, 0),
        }.items():
            if result >= 0:
                went.append(f"{name} of guard {fd}")
    host.report(len(went), " ".join(went).encode()[:240])
    host.report(len(kept))
    look(host)
    host.report(0, b"looked")


def os_kind(fd: int) -> int:
    """The file type bits, -1 where nothing is open: an anonymous inode has none."""
    try:
        return os.fstat(fd).st_mode & 0o170000
    except OSError:
        return -1


def take_file(host: HostSide) -> None:
    """Reach for a file, a directory, a process or a descriptor that was not handed over."""
    went = []
    names = ["/", "/proc", "/proc/self/fd", "/proc/1/fd", "/proc/self/mem", "/proc/self/maps", "/etc/passwd", "/tmp"]
    names += [
        "/dev/shm",
        "/dev/userfaultfd",
        "/dev/kvm",
        "/dev/tty",
        f"/proc/{host.warden}/mem",
        os.path.expanduser("~"),
    ]
    for name in names:
        for flags in (os.O_RDONLY, os.O_RDWR | os.O_CREAT, os.O_PATH):
            with suppress(OSError):
                os.close(os.open(name, flags))
                went.append(name)
        with suppress(OSError):
            os.stat(name)
            went.append(f"stat {name}")
        path, about = ctypes.create_string_buffer(name.encode()), ctypes.create_string_buffer(256)
        if name != "/" and call("newfstatat", -100, ctypes.addressof(path), ctypes.addressof(about), 0x1000) >= 0:
            went.append(f"stat {name} by AT_EMPTY_PATH")
    buffer = ctypes.addressof(ctypes.create_string_buffer(b"/etc\0" + bytes(4096)))
    for name, arguments in {
        "open_by_handle_at": (-100, buffer, 0),
        "name_to_handle_at": (-100, buffer, buffer, buffer, 0),
        "pidfd_open": (host.warden, 0),
        "pidfd_getfd": (3, 3, 0),
        "openat2": (-100, buffer, buffer, 24),
        "mount": (buffer, buffer, buffer, 0, 0),
        "chroot": (buffer,),
        "setns": (0, 0),
        "keyctl": (11, -3 & 0xFFFFFFFF, buffer, 4096, 0),
        "add_key": (buffer, buffer, buffer, 1, -3 & 0xFFFFFFFF),
        "mincore": (host.address, host.size, buffer),
        "shmget": (0, 4096, 0o600),
        "io_uring_setup": (1, buffer),
        "userfaultfd": (1,),
        "bpf": (0, buffer, 72),
        "perf_event_open": (buffer, 0, -1, -1, 0),
        "process_vm_readv": (host.warden, buffer, 1, buffer, 1, 0),
        "ptrace": (16, host.warden, 0, 0),
        "kcmp": (host.warden, host.pid, 0, 0, 0),
        "socket": (1, 1, 0),
        "landlock_create_ruleset": (0, 0, 1),
        "seccomp": (1, 0, buffer),
    }.items():
        if call(name, *arguments) >= 0:
            went.append(name)
    host.report(len(went), " ".join(went).encode()[:240])


def kill_others(host: HostSide, victims: tuple[int, ...]) -> None:
    """Signal everybody: the warden, the zygote, other host sides."""
    went = []
    for pid in (*victims, host.warden, os.getppid(), 1, 2, -1, 0):
        for name, arguments in {
            "kill": (pid, 19),
            "tkill": (pid, 19),
            "tgkill": (pid if pid != os.getpid() else 3, pid, 19),
            "rt_sigqueueinfo": (pid, 19, 0),
            "setpriority": (0, pid, 19),
            "prlimit64": (pid if pid not in (0, os.getpid()) else 3, 0, 0, 0),
            "sched_setaffinity": (pid, 8, 0),
        }.items():
            if call(name, *arguments) == 0:
                went.append(f"{name} {pid}")
    went += ["F_SETOWN" for fd in range(3) if call("fcntl", fd, 8, host.warden) == 0]
    host.report(len(went), " ".join(went).encode()[:240])


def standard_files(host: HostSide) -> None:
    """What lies behind 0, 1 and 2: map it, read it, see whether it is a terminal."""
    went = []
    for fd in (0, 1, 2):
        if os.isatty(fd):
            went.append(f"{fd} is a terminal")
        if os.fstat(fd).st_size:
            went.append(f"{fd} has {os.fstat(fd).st_size} bytes")
        with suppress(OSError, ValueError):
            os.write(host.fds[0], mmap.mmap(fd, host.size)[:])
            went.append(f"{fd} mapped")
        with suppress(OSError):
            if data := os.pread(fd, host.size, 0):
                os.write(host.fds[0], data)
                went.append(f"{fd} read")
    host.report(len(went), " ".join(went).encode()[:240])
    look(host)
    host.report(0)


def deaf(host: HostSide) -> None:
    """Answers every doorbell on a timer and reads none."""
    while True:
        host.report(0)
        time.sleep(0.0005)


def flood(host: HostSide) -> None:
    """Nothing but words, with what a terminal would obey."""
    print("\x1b]0;pwned\x07\x1b[2J\r" + "words " * 1000)
    host.report(0)
    while True:
        print("\x1b[31m" + "w" * 200)


def move_offsets(host: HostSide) -> None:
    """Change what an open file description carries."""
    fd = host.fds[0]
    os.lseek(fd, 777, os.SEEK_SET)
    host.report(call("fcntl", fd, 4, os.O_APPEND | os.O_NONBLOCK))  # F_SETFL


def write_by_number(host: HostSide, number: int) -> None:
    """The caller's number is the file; a number that was not handed over is refused."""
    host.pwrite_to(number, 0, [(0, PAGE_SIZE)])
    refused = 0
    for fd in HIGH:
        try:
            host.pwrite_to(fd, 0, [(0, 8)])
        except Exception as error:
            refused += getattr(error, "errno", 0) == errno.EBADF
    host.report(refused)


def take_terminal(host: HostSide) -> None:
    """Read what is typed, push something back in, switch the echo off, by any of the numbers."""
    went = []
    buffer = ctypes.create_string_buffer(64)
    at = ctypes.addressof(buffer)
    for fd in (0, 1, 2, *HIGH):
        for name, request in {"TCGETS": 0x5401, "TCSETS": 0x5402, "TIOCSTI": 0x5412, "TIOCGPGRP": 0x540F}.items():
            if call("ioctl", fd, request, at) >= 0:
                went.append(f"{name} of {fd}")
    went += [f"read of {fd}" for fd in (0, 1, 2) if call("read", fd, at, 64) > 0]
    went += ["/dev/tty"] * (call("open", ctypes.addressof(ctypes.create_string_buffer(b"/dev/tty")), 2, 0) >= 0)
    host.report(len(went), " ".join(went).encode()[:240])


def take_key(host: HostSide, key: int) -> None:
    """Read a key of the warden's session keyring, search for it, and link it here, once the warden has looked at it."""
    host.listen()
    buffer = ctypes.addressof(ctypes.create_string_buffer(4096))
    went = [op for op in (0, 6, 8, 10, 11, 17) if call("keyctl", op, key, buffer, 4096, 0) >= 0]
    went += [999] * (call("request_key", buffer, buffer, 0, 0) >= 0)
    host.report(len(went), " ".join(map(str, went)).encode())


def wait_and_look(host: HostSide) -> None:
    """Look for ever: whoever dies around it."""
    host.report(0)
    while True:
        look(host)
