"""What a process gives up for good, one function for each kind of right. OSError where the kernel will not."""

import ctypes
import errno
import fcntl
import os
from collections.abc import Collection, Sequence

from pagewarden.abi import confinement as uapi
from pagewarden.abi import memory_seccomp as bpf
from pagewarden.kernel.door import prctl, syscall

NOBODY = 65534
"""The overflow user and group id (kernel/sys.c, DEFAULT_OVERFLOWUID)."""
Filter = Sequence[tuple[int, int, int, int]]


# -- descriptors -------------------------------------------------------------------------------------------------------


def lift(fd: int, lowest: int = 3) -> int:
    """The same descriptor at a number of at least `lowest`, close-on-exec; the old number is closed if it moved."""
    if fd >= lowest:
        return fd
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
    os.close(fd)
    return moved


def close_all_but(keep: Collection[int]) -> None:
    """Close every descriptor that is not named."""
    low = 0
    for fd in sorted(keep):
        if low < fd:  # closerange(0, 0) closes everything (CPython 3.11 asks close_range for 0 to -1)
            os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 1 << 30)


def fresh_standard_files() -> None:
    """0, 1 and 2 lead to /dev/null, whatever they were."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    if null > 2:
        os.close(null)


# -- namespaces --------------------------------------------------------------------------------------------------------


def unshare(flags: int) -> None:
    """unshare(2)."""
    syscall("unshare", flags)


def enter(namespace: int, kind: int) -> None:
    """setns(2): the namespace behind the descriptor, of this CLONE_NEW* kind."""
    syscall("setns", namespace, kind)


def map_self(uid: int, gid: int) -> None:
    """In a new user namespace of one's own: stay who one is, and nobody else is known there."""
    for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def become_empty(place: bytes = b"/proc") -> None:
    """In a mount namespace of one's own: the root is an empty directory that nobody can write, and the rest is gone.

    place: a directory of the old root, which the new one is mounted over on the way.
    """
    none, kind, root, here = (ctypes.create_string_buffer(text) for text in (b"none", b"tmpfs", b"/", b"."))
    over, options = ctypes.create_string_buffer(place), ctypes.create_string_buffer(b"size=4k,nr_inodes=2,mode=555")
    at = ctypes.addressof
    harmless = uapi.MS_NOSUID | uapi.MS_NODEV | uapi.MS_NOEXEC
    syscall("mount", at(none), at(root), 0, uapi.MS_REC | uapi.MS_PRIVATE, 0)
    syscall("mount", at(none), at(over), at(kind), harmless, at(options))
    os.chdir(place)
    syscall("mount", at(none), at(here), 0, uapi.MS_REMOUNT | uapi.MS_RDONLY | harmless, at(options))
    syscall("pivot_root", at(here), at(here))
    syscall("umount2", at(here), uapi.MNT_DETACH)
    os.chdir("/")


# -- rights ------------------------------------------------------------------------------------------------------------


def join_new_session_keyring() -> None:
    """An empty session keyring instead of the inherited one; a kernel without keys has nothing to leave."""
    try:
        syscall("keyctl", uapi.KEYCTL_JOIN_SESSION_KEYRING, 0)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise


def become_nobody() -> None:
    """User and group nobody, no other groups. Capabilities are for drop_capabilities."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def lock_securebits() -> None:
    """Neither user id 0 nor a change of user gives or takes capabilities from now on. Needs CAP_SETPCAP."""
    prctl(uapi.PR_SET_SECUREBITS, uapi.SECURE_ALL_BITS & ~uapi.SECBIT_KEEP_CAPS | uapi.SECURE_ALL_LOCKS)


def drop_bounding_set() -> None:
    """No capability can ever be had again. Needs CAP_SETPCAP."""
    for capability in _capabilities():
        if prctl(uapi.PR_CAPBSET_READ, capability):
            prctl(uapi.PR_CAPBSET_DROP, capability)


def drop_capabilities() -> None:
    """Nothing is left in the ambient, inheritable, permitted and effective sets."""
    prctl(uapi.PR_CAP_AMBIENT, uapi.PR_CAP_AMBIENT_CLEAR_ALL)
    header, nothing = uapi.cap_user_header(uapi._LINUX_CAPABILITY_VERSION_3, 0), (uapi.cap_user_data * 2)()
    syscall("capset", ctypes.addressof(header), ctypes.addressof(nothing))


def capabilities_left(bounding: bool = True) -> int:
    """How many capabilities are left in the sets of this thread: all five, or without the bounding set."""
    header, data = uapi.cap_user_header(uapi._LINUX_CAPABILITY_VERSION_3, 0), (uapi.cap_user_data * 2)()
    syscall("capget", ctypes.addressof(header), ctypes.addressof(data))
    held: int = sum((half.effective | half.permitted | half.inheritable).bit_count() for half in data)
    for capability in _capabilities():
        held += prctl(uapi.PR_CAP_AMBIENT, uapi.PR_CAP_AMBIENT_IS_SET, capability)
        held += bounding and prctl(uapi.PR_CAPBSET_READ, capability)
    return held


def _capabilities() -> range:
    """The capabilities that this kernel knows."""
    for last in range(64):
        try:
            prctl(uapi.PR_CAPBSET_READ, last)
        except OSError as error:
            if error.errno != errno.EINVAL:  # security/commoncap.c, cap_task_prctl: there is none of this number
                raise
            return range(last)
    return range(64)


def landlock_abi() -> int:
    """The version of Landlock's interface; 0 where the kernel lacks it or has it switched off."""
    try:
        return syscall("landlock_create_ruleset", 0, 0, uapi.LANDLOCK_CREATE_RULESET_VERSION)
    except OSError:
        return 0


def landlock(abi: int) -> None:
    """No file is opened any more, no TCP port used; from ABI 6 on no signal and no abstract socket leaves this process.
    Descriptors that are open stay as they are. Needs no_new_privs."""
    known = [
        max((bits for since, bits in table.items() if since <= abi), default=0)
        for table in (uapi.LANDLOCK_ACCESS_FS, uapi.LANDLOCK_ACCESS_NET, uapi.LANDLOCK_SCOPE)
    ]
    rules = uapi.landlock_ruleset_attr(*known)
    size = 8 * (1 + (abi >= 4) + (abi >= 6))  # what an older kernel does not know must not be there
    fd = syscall("landlock_create_ruleset", ctypes.addressof(rules), size, 0)
    try:
        syscall("landlock_restrict_self", fd, 0)
    finally:
        os.close(fd)


def no_new_privileges() -> None:
    """No program that is started later has more rights than this process."""
    prctl(bpf.PR_SET_NO_NEW_PRIVS, 1)


def install_filter(program: Filter) -> None:
    """From now on the seccomp filter judges every system call of this thread and of those that it starts. Lines are
    (code, jump if true, jump if false, constant). Needs no_new_privs."""
    array = (bpf.sock_filter * len(program))(*(bpf.sock_filter(*line) for line in program))
    described = bpf.sock_fprog(len(program), ctypes.cast(array, ctypes.POINTER(bpf.sock_filter)))
    prctl(bpf.PR_SET_SECCOMP, bpf.SECCOMP_MODE_FILTER, ctypes.addressof(described))
