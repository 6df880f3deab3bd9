"""The system calls that the untrusted host side may make, each with its conditions and its reason. All others: EPERM.

What decides is whether a device in Python, numpy and numba needs the call after its modules are imported, not whether
an attack by it is known. Three rules stand behind the conditions:

- the guard's descriptor lies in the host side's own table, where it lives as long as the address space does. So its
  number, and the channel's, can be neither closed nor replaced, nothing is sent along with a message (sendmsg), and
  no ioctl is made at all;
- no second process: what shares the address space is a thread and dies with it;
- nobody else is named: a call that takes a process id takes this one's only.

Flags are listed too: of those that the kernel has beside them some pin pages or lock them (MSG_ZEROCOPY, MAP_LOCKED,
TCP_ZEROCOPY_RECEIVE), take what others need (MAP_HUGETLB), get round the mode of a file (RWF_NOAPPEND), name the peer's
process (SO_PEERPIDFD), or lead to code that few use (MSG_OOB, O_NOTIFICATION_PIPE).
"""

import os
import socket
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from pagewarden.abi import confinement as uapi
from pagewarden.abi import memory as mm
from pagewarden.kernel.seccomp import AllOf, Condition, Equal, NoneOf, NothingBut, OneOf, Zero

F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_GETLK, F_DUPFD_CLOEXEC, F_OFD_GETLK = 0, 1, 2, 3, 5, 1030, 36
"""include/uapi/asm-generic/fcntl.h"""
FUTEX_FLAGS = 128 | 256  # PRIVATE, CLOCK_REALTIME
FUTEX_OPERATIONS = (0, 1, 3, 4, 5, 9, 10)
"""WAIT, WAKE, REQUEUE, CMP_REQUEUE, WAKE_OP, WAIT_BITSET, WAKE_BITSET (include/uapi/linux/futex.h)."""
MAPPING_FLAGS = (
    mm.MAP_SHARED | mm.MAP_PRIVATE | mm.MAP_FIXED | mm.MAP_ANONYMOUS | mm.MAP_NORESERVE | mm.MAP_FIXED_NOREPLACE
) | 0x20800  # MAP_STACK and MAP_DENYWRITE, which do nothing (include/uapi/asm-generic/mman.h)
SEND_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL | socket.MSG_EOR
RECEIVE_FLAGS = socket.MSG_PEEK | socket.MSG_TRUNC | socket.MSG_DONTWAIT | socket.MSG_WAITALL | socket.MSG_CMSG_CLOEXEC
SOCKET_OPTIONS = (3, 4, 7, 8, 30, 38, 39)
"""SO_TYPE, ERROR, SNDBUF, RCVBUF, ACCEPTCONN, PROTOCOL, DOMAIN (include/uapi/asm-generic/socket.h)."""
RWF = 0x1E
"""DSYNC, SYNC, NOWAIT, APPEND (include/uapi/linux/fs.h)."""
HARMLESS_ADVICE = (
    mm.MADV_NORMAL,
    mm.MADV_DONTNEED,
    mm.MADV_FREE,
    mm.MADV_NOHUGEPAGE,
    mm.MADV_DONTFORK,
    mm.MADV_DONTDUMP,
    mm.MADV_GUARD_INSTALL,
    mm.MADV_GUARD_REMOVE,
)
"""The advice that madvise still takes, what allocators use. REMOVE would destroy private pages, DOFORK would hand the
window to a child without its guard, COLLAPSE and HUGEPAGE would map whole huge pages past it."""
THREAD = (
    uapi.CLONE_VM
    | uapi.CLONE_FS
    | uapi.CLONE_FILES
    | uapi.CLONE_SIGHAND
    | uapi.CLONE_THREAD
    | uapi.CLONE_SYSVSEM
    | uapi.CLONE_SETTLS
    | uapi.CLONE_PARENT_SETTID
    | uapi.CLONE_CHILD_CLEARTID
)
"""The flags of pthread_create, all of them: a descriptor table or an address space of its own is no thread's."""


class Self(NamedTuple):
    """What the conditions speak of: this process's id, as it sees itself, the two descriptors to be kept, and whether
    its root is empty."""

    pid: int
    kept: tuple[int, int]
    rootless: bool


Conditions: TypeAlias = Callable[[Self], tuple[Condition, ...]]


class Entry(NamedTuple):
    """One system call: its name, why it is needed, what must be true of its arguments, and that in words."""

    name: str
    reason: str
    conditions: Conditions | None = None
    words: str = ""


def _plain(reason: str, names: str) -> list[Entry]:
    return [Entry(name, reason) for name in names.split()]


_OWN_PID: Conditions = lambda own: (OneOf(0, (own.pid,)),)  # noqa: E731
_NOT_KEPT: Conditions = lambda own: (NoneOf(0, own.kept),)  # noqa: E731
_NOT_ONTO_KEPT: Conditions = lambda own: (NoneOf(1, own.kept),)  # noqa: E731

ALLOWED: tuple[Entry, ...] = (
    *_plain(
        "input and output on the descriptors that were handed over",
        "pread64 pwrite64 preadv pwritev read write readv writev lseek fsync fdatasync",
    ),
    *(
        Entry(name, "the same with flags", lambda own: (NothingBut(5, RWF),), "DSYNC, SYNC, NOWAIT, APPEND")
        for name in ("preadv2", "pwritev2")
    ),
    Entry("fallocate", "discard and write zeroes on the disk"),
    Entry("ftruncate", "the size of scratch files; of a disk as well, which is the host side's to write"),
    Entry(
        "futex",
        "locks of threads and interpreter",
        lambda own: (OneOf(1, FUTEX_OPERATIONS, ~FUTEX_FLAGS & 0xFFFFFFFF),),
        "not the operations with priority inheritance",
    ),
    *_plain(
        "waiting for doorbells",
        "poll ppoll select pselect6 epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2",
    ),
    *_plain("the device's threads wake each other", "pipe eventfd2"),
    Entry(
        "pipe2",
        "the device's threads wake each other",
        lambda own: (NothingBut(1, os.O_CLOEXEC | os.O_NONBLOCK),),
        "CLOEXEC, NONBLOCK",
    ),
    Entry(
        "sendto",
        "words to the warden",
        lambda own: (Zero(4), NothingBut(3, SEND_FLAGS)),
        "to the peer only, no address; DONTWAIT, NOSIGNAL, EOR",
    ),
    *(
        Entry(
            name,
            "words from the warden",
            lambda own, flags=flags: (NothingBut(flags, RECEIVE_FLAGS),),  # type: ignore[misc]
            "PEEK, TRUNC, DONTWAIT, WAITALL, CMSG_CLOEXEC",
        )
        for name, flags in (("recvfrom", 3), ("recvmsg", 2))
    ),
    Entry("getsockname", "what a socket that was handed over is"),
    Entry(
        "getsockopt",
        "what a socket that was handed over is",
        lambda own: (OneOf(1, (socket.SOL_SOCKET,)), OneOf(2, SOCKET_OPTIONS)),
        "SO_TYPE, ERROR, SNDBUF, RCVBUF, ACCEPTCONN, PROTOCOL, DOMAIN",
    ),
    Entry("close", "descriptors", _NOT_KEPT, "not the guard, not the channel"),
    *_plain("descriptors", "dup fstat"),
    Entry("dup2", "descriptors", _NOT_ONTO_KEPT, "not onto the guard or the channel"),
    Entry("dup3", "descriptors", _NOT_ONTO_KEPT, "not onto the guard or the channel"),
    Entry(
        "newfstatat",
        "fstat of some C libraries",
        lambda own: (AllOf(3, 0x1000) if own.rootless else OneOf(3, ()),),
        "AT_EMPTY_PATH, and not at all unless the root is empty: a name goes with it, which no filter sees",
    ),
    Entry(
        "fcntl",
        "descriptors",
        lambda own: (OneOf(1, (F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_GETLK, F_DUPFD_CLOEXEC, F_OFD_GETLK)),),
        "duplicates and questions; the flags and locks of an open file may be somebody else's too",
    ),
    Entry(
        "mmap",
        "memory; executable too, for compilers: what runs here is not trusted anyway",
        lambda own: (NothingBut(3, MAPPING_FLAGS),),
        "SHARED, PRIVATE, FIXED, FIXED_NOREPLACE, ANONYMOUS, NORESERVE, STACK, DENYWRITE",
    ),
    *_plain("memory", "munmap mprotect brk"),
    Entry(
        "madvise",
        "allocators",
        lambda own: (OneOf(2, HARMLESS_ADVICE),),
        "NORMAL, DONTNEED, FREE, NOHUGEPAGE, DONTFORK, DONTDUMP, GUARD_*",
    ),
    Entry(
        "memfd_create",
        "scratch files of guarded copies",
        lambda own: (NothingBut(1, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING),),
        "CLOEXEC, ALLOW_SEALING",
    ),
    Entry("clone", "threads", lambda own: (Equal(0, THREAD),), "the flags of pthread_create exactly"),
    *_plain("threads", "set_robust_list rseq sched_yield exit exit_group gettid"),
    Entry("prctl", "names of threads", lambda own: (OneOf(0, (uapi.PR_SET_NAME,)),), "PR_SET_NAME"),
    *_plain(
        "signals to oneself",
        "rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait sigaltstack restart_syscall",
    ),
    Entry("tgkill", "abort", _OWN_PID, "this process only"),
    *_plain("time", "clock_gettime clock_getres gettimeofday time clock_nanosleep nanosleep"),
    Entry("getrandom", "hash seeds, random numbers"),
    *_plain("who and where one is", "getpid getppid getuid geteuid getgid getegid uname getcpu times getrusage"),
    Entry("sched_getaffinity", "how many threads are of use", lambda own: (OneOf(0, (0, own.pid)),), "of oneself"),
    Entry("getrlimit", "limits"),
    Entry(
        "prlimit64", "limits", lambda own: (OneOf(0, (0, own.pid)), Zero(2)), "of oneself, asked for and not changed"
    ),
)
"""The table, in the order in which the filter looks: the hot ones first."""

NAMES = frozenset(entry.name for entry in ALLOWED)
