"""What the untrusted host side gives up before it runs: its descriptors, its identity, and some system calls.

The filter closes the ways by which a process that has nothing but a guarded mapping could map, move or destroy what
lies behind it. Descriptors are not its business: none of the memory is left.
"""

import ctypes
import errno
import os
import platform

from pagewarden.abi import memory as uapi
from pagewarden.abi import memory_seccomp as bpf
from pagewarden.abi.memory_syscalls import LAST
from pagewarden.abi.uffd import USERFAULTFD_IOC_NEW
from pagewarden.kernel.door import number_of, prctl
from pagewarden.vocab import Unavailable

NOBODY = 65534
"""The overflow user and group id (kernel/sys.c, DEFAULT_OVERFLOWUID)."""

DENIED = {
    "mremap": "a moved mapping leaves its userfaultfd guard behind",
    "remap_file_pages": "maps the file behind a mapping afresh, without the guard and without a descriptor",
    "userfaultfd": "a second handler",
    "process_madvise": "madvise by another name",
    "io_uring_setup": "its operations (madvise, fallocate) pass no filter",
    "io_uring_enter": "the same, on a ring that was inherited",
    "io_uring_register": "the same",
    "ptrace": "another process's memory",
    "process_vm_readv": "another process's memory",
    "process_vm_writev": "another process's memory",
    "pidfd_getfd": "another process's descriptors",
    "kcmp": "compares them",
    "open_by_handle_at": "opens files by inode",
    "unshare": "a user namespace of its own gives capabilities",
    "setns": "the same",
    "bpf": "reads kernel memory where it is allowed at all",
    "perf_event_open": "samples other processes where it is allowed at all",
}
"""System calls that fail with EPERM, and why."""

HARMLESS_ADVICE = (
    uapi.MADV_NORMAL,
    uapi.MADV_DONTNEED,
    uapi.MADV_FREE,
    uapi.MADV_NOHUGEPAGE,
    uapi.MADV_DONTFORK,
    uapi.MADV_DONTDUMP,
    uapi.MADV_GUARD_INSTALL,
    uapi.MADV_GUARD_REMOVE,
)
"""The advice that madvise still takes, what allocators use. REMOVE would destroy private pages, DOFORK would hand the
window to a child without its guard, COLLAPSE and HUGEPAGE would map whole huge pages past it."""

Program = list[tuple[int, int, int, int]]
ALLOW = (bpf.BPF_RET_K, 0, 0, bpf.SECCOMP_RET_ALLOW)


def _fail(code: int) -> tuple[int, int, int, int]:
    return bpf.BPF_RET_K, 0, 0, bpf.SECCOMP_RET_ERRNO | code


def _argument(index: int) -> tuple[int, int, int, int]:
    """Load the low half of a system call's argument: the kernel takes these as int."""
    return bpf.BPF_LD_W_ABS, 0, 0, bpf.SECCOMP_DATA_ARGS + 8 * index


def _only_for(name: str, body: Program) -> Program:
    """The body, which must end the program on every way, for this system call; others skip it."""
    return [(bpf.BPF_JMP_JEQ_K, 0, len(body), number_of(name)), *body]


def filter_lines() -> Program:
    """The filter as (code, jump if true, jump if false, constant); Unavailable on a machine whose table is missing."""
    machine = platform.machine()
    if machine not in bpf.AUDIT_ARCH:
        raise Unavailable(f"no seccomp filter for {machine}", "run the isolated host side on x86_64")
    advice: Program = [_argument(2)]
    for i, value in enumerate(HARMLESS_ADVICE):
        advice.append((bpf.BPF_JMP_JEQ_K, len(HARMLESS_ADVICE) - i, 0, value))
    namespaces = sum(bpf.CLONE_NAMESPACES.values())
    return [
        (bpf.BPF_LD_W_ABS, 0, 0, bpf.SECCOMP_DATA_ARCH),
        (bpf.BPF_JMP_JEQ_K, 1, 0, bpf.AUDIT_ARCH[machine]),
        (bpf.BPF_RET_K, 0, 0, bpf.SECCOMP_RET_KILL_PROCESS),
        (bpf.BPF_LD_W_ABS, 0, 0, bpf.SECCOMP_DATA_NR),
        (bpf.BPF_JMP_JGT_K, 0, 1, LAST[machine]),
        _fail(errno.ENOSYS),  # newer than the table, and the x32 numbers
        *(line for name in DENIED for line in _only_for(name, [_fail(errno.EPERM)])),
        *_only_for("clone3", [_fail(errno.ENOSYS)]),  # its flags lie in memory; the C library falls back to clone
        *_only_for("madvise", [*advice, _fail(errno.EPERM), ALLOW]),
        *_only_for("clone", [_argument(0), (bpf.BPF_JMP_JSET_K, 0, 1, namespaces), _fail(errno.EPERM), ALLOW]),
        *_only_for("ioctl", [_argument(1), (bpf.BPF_JMP_JEQ_K, 0, 1, USERFAULTFD_IOC_NEW), _fail(errno.EPERM), ALLOW]),
        ALLOW,
    ]


def install(lines: Program) -> None:
    """From now on the filter judges every system call of this thread and its children; OSError."""
    array = (bpf.sock_filter * len(lines))(*(bpf.sock_filter(*line) for line in lines))
    prctl(bpf.PR_SET_NO_NEW_PRIVS, 1)
    program = bpf.sock_fprog(len(lines), ctypes.cast(array, ctypes.POINTER(bpf.sock_filter)))
    prctl(bpf.PR_SET_SECCOMP, bpf.SECCOMP_MODE_FILTER, ctypes.addressof(program))


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor that is not named."""
    low = 0
    for fd in sorted(keep):
        if low < fd:  # closerange(0, 0) closes everything (CPython 3.11 asks close_range for 0 to -1)
            os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def drop_privileges() -> None:
    """Root becomes nobody, of no group; anybody else stays who they are. OSError."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
