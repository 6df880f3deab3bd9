"""The room of the host side: its parts, who builds which, and whether what this host has of them is enough.

The launcher makes the namespaces, the zygote their inside, and each host side shuts the door behind itself. Every part
is tried; the errno of what is not to be had travels to the warden, which decides.
"""

import errno
import os
import resource
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Literal, NamedTuple, TypeAlias

from pagewarden.abi import confinement as uapi
from pagewarden.abi import memory as mm
from pagewarden.kernel import confine
from pagewarden.kernel.door import prctl
from pagewarden.kernel.machine import NAME
from pagewarden.kernel.seccomp import program
from pagewarden.memory.isolated.allowed import ALLOWED, Self
from pagewarden.vocab import PAGE_SIZE, Refused, Unavailable

Level: TypeAlias = Literal[True, "best-effort"]
"""What a host must have: every promise, or as much as is to be had."""


class Part(Enum):
    """A part of the room, and what it keeps the host side from."""

    USER = "user namespace", "rights of its own outside, and another's processes by the same user id"
    PID = "PID namespace", "seeing or signalling any process; its init's end is the end of all"
    OWN_PID = "PID namespace of its own", "seeing or signalling other host sides"
    OWN_USER = "user namespace of its own", "using up what all host sides of this user may have, threads say"
    EMPTY_ROOT = "empty read-only root", "every file that was not handed over"
    NETWORK = "network namespace", "the network, and abstract sockets"
    IPC = "IPC namespace", "System V memory, semaphores and queues of others"
    UTS = "UTS namespace", "the host's name"
    CGROUP = "cgroup namespace", "the names of control groups"
    KEYRING = "session keyring", "the warden's keys"
    NOBODY = "user nobody", "what root's user id alone allows"
    CAPABILITIES = "no capability", "every right of root"
    BOUNDING = "no capability ever again", "gaining one by a program that it starts, which the filter forbids as well"
    FILES = "Landlock: files", "opening any file, whatever the namespaces are"
    SCOPES = "Landlock: signals, abstract sockets", "signals and sockets to processes outside"
    LIMITS = (
        "limits",
        "core dumps, locked memory, more than some hundred threads and some GiB, a long hold on the kernel",
    )
    OOM = "oom_score_adj 1000", "outliving the warden when memory runs out"

    def __init__(self, title: str, against: str) -> None:
        self.title = title
        self.against = against


PARTS = tuple(Part)
NAMESPACES = {
    Part.PID: uapi.CLONE_NEWPID,
    Part.EMPTY_ROOT: uapi.CLONE_NEWNS,
    Part.NETWORK: uapi.CLONE_NEWNET,
    Part.IPC: uapi.CLONE_NEWIPC,
    Part.UTS: uapi.CLONE_NEWUTS,
    Part.CGROUP: uapi.CLONE_NEWCGROUP,
}
NEEDED: tuple[tuple[Part, ...], ...] = (
    (Part.CAPABILITIES,),
    (Part.NOBODY,),
    (Part.KEYRING,),
    (Part.EMPTY_ROOT, Part.FILES),
    (Part.PID, Part.SCOPES),
)
"""One of each must be there for every promise to hold. The seccomp filter is no part: without it nothing starts."""
THREADS = 256
SPACE = 8 << 30
"""Bytes of address space beyond what it has when it starts, and of a file beyond those that were handed over: what it
can fill, and how long one call on a mapping may take, for which the warden waits when it converts a page."""
OWN_DESCRIPTORS = 16
"""Numbers that pagewarden itself may need above the ones that were handed over."""


NONE_OF_THESE = (
    resource.RLIMIT_CORE,
    resource.RLIMIT_MEMLOCK,
    resource.RLIMIT_MSGQUEUE,
    resource.RLIMIT_RTPRIO,
    resource.RLIMIT_NICE,
)
UNTRIED = -1


class Outcomes(dict[Part, int]):
    """What became of each part that was tried: 0, or the errno that it failed with. What root needs not is UNTRIED."""

    def attempt(self, part: Part, *acts: Callable[[], object]) -> bool:
        """Do these for the part; True when all went well. The last try counts."""
        try:
            for act in acts:
                act()
        except OSError as error:
            self[part] = error.errno or errno.EIO
            return False
        self[part] = 0
        return True

    def packed(self) -> bytes:
        """Two bytes a part."""
        return b"".join(self.get(part, UNTRIED).to_bytes(2, "little", signed=True) for part in PARTS)

    @classmethod
    def unpacked(cls, data: bytes) -> "Outcomes":
        """The same at the other end; Refused(EPROTO) for what is not as long."""
        if len(data) != 2 * len(PARTS):
            raise Refused(errno.EPROTO, f"{len(data)} bytes do not say what became of {len(PARTS)} parts of the room")
        codes = [int.from_bytes(data[at : at + 2], "little", signed=True) for at in range(0, len(data), 2)]
        return cls(zip(PARTS, codes, strict=True))


class Lack(NamedTuple):
    """A part that this host does not have."""

    part: Part
    errno: int

    @property
    def why(self) -> str:
        """The kernel's reason."""
        return os.strerror(self.errno)

    def __str__(self) -> str:
        return f"{self.part.title} ({self.why}): it does not keep the host side from {self.part.against}"


def lacks(outcomes: Outcomes) -> tuple[Lack, ...]:
    """What is not to be had, in the order of the parts."""
    return tuple(Lack(part, outcomes[part]) for part in PARTS if outcomes.get(part, UNTRIED) > 0)


def broken(missing: Iterable[Lack]) -> list[str]:
    """Why a promise would not hold; empty when all do."""
    gone = {lack.part: lack.errno for lack in missing}
    return [
        " and ".join(f"{part.title}: {os.strerror(gone[part])}" for part in choices)
        for choices in NEEDED
        if all(part in gone for part in choices)
    ]


# -- the launcher ------------------------------------------------------------------------------------------------------


def leave_namespaces() -> Outcomes:
    """New namespaces, each by itself, so that one that is missing costs no other; an ordinary user needs one of users
    for the right to the others. The PID namespace begins with the next child."""
    found = Outcomes()
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0:
        found.attempt(Part.USER, lambda: confine.unshare(uapi.CLONE_NEWUSER), lambda: confine.map_self(uid, gid))
    for part, flag in NAMESPACES.items():
        found.attempt(part, lambda flag=flag: confine.unshare(flag))  # type: ignore[misc]
    found.attempt(Part.KEYRING, confine.join_new_session_keyring)
    return found


# -- the zygote --------------------------------------------------------------------------------------------------------


def be_killed_first() -> None:
    """When memory runs out, this process and its children go before all others."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def empty_root(found: Outcomes) -> int:
    """A mount namespace whose root is empty, as a descriptor to enter it by; this process stays in its own. -1 when
    it is not to be had."""
    if found.get(Part.EMPTY_ROOT):
        return -1
    made = []

    def make() -> None:
        own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            confine.unshare(uapi.CLONE_NEWNS)
            made.append(os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
            try:
                confine.become_empty()
            finally:
                confine.enter(own, uapi.CLONE_NEWNS)
        finally:
            os.close(own)

    if found.attempt(Part.EMPTY_ROOT, make):
        return made[0]
    for fd in made:
        os.close(fd)
    return -1


# -- the host side -----------------------------------------------------------------------------------------------------


def limit_yourself(lowest: int) -> None:
    """Resource limits; descriptors up to some above `lowest`."""
    for kind in NONE_OF_THESE:
        _limit(kind, 0)
    _limit(resource.RLIMIT_NOFILE, max(1024, lowest + OWN_DESCRIPTORS))


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def shut_the_door(found: Outcomes, empty: int, longest: int) -> None:
    """Everything but the system calls is given up. What is not to be had stands in `found`. Unavailable where there is
    a thread besides: what follows is each thread's own. longest: bytes of the longest file that was handed over."""
    if (threads := len(os.listdir("/proc/self/task"))) != 1:
        raise Unavailable(
            f"{threads - 1} threads besides the host side's own were there before its rights were given up",
            "let the function's module start no thread when it is imported or forked",
        )
    with open("/proc/self/statm") as sizes:
        _limit(resource.RLIMIT_AS, int(sizes.read().split()[0]) * PAGE_SIZE + SPACE)
    _limit(resource.RLIMIT_FSIZE, longest + SPACE)
    root = os.geteuid() == 0
    if not found.get(Part.EMPTY_ROOT):
        found.attempt(Part.EMPTY_ROOT, lambda: confine.enter(empty, uapi.CLONE_NEWNS))
    if empty >= 0:
        os.close(empty)
    confine.no_new_privileges()
    for_ever = confine.lock_securebits, confine.drop_bounding_set
    bounded = found.attempt(Part.BOUNDING, *for_ever)
    if root:
        found.attempt(Part.NOBODY, confine.become_nobody)
    if found.attempt(Part.OWN_USER, lambda: confine.unshare(uapi.CLONE_NEWUSER)):  # where it has all rights again
        bounded = found.attempt(Part.BOUNDING, *for_ever)
    _limit(resource.RLIMIT_NPROC, THREADS)  # what was set before, all of that user's together would count against
    found.attempt(Part.CAPABILITIES, confine.drop_capabilities)
    if confine.capabilities_left(bounding=bounded):
        found[Part.CAPABILITIES] = errno.EPERM
    prctl(mm.PR_SET_DUMPABLE, 0)  # a change of user may have set it
    prctl(mm.PR_SET_PDEATHSIG, 9)  # after the change of user, which clears it
    abi = confine.landlock_abi()
    found.attempt(Part.FILES, lambda: confine.landlock(abi))
    found[Part.SCOPES] = found[Part.FILES] or (0 if abi >= 6 else errno.EOPNOTSUPP)


def shut_the_mouth(found: Outcomes, kept: tuple[int, int]) -> None:
    """The last thing: from now on only the calls of the table are made."""
    own = Self(os.getpid(), kept, not found.get(Part.EMPTY_ROOT))
    confine.install_filter(program_for(own))


def program_for(own: Self, machine: str = NAME) -> confine.Filter:
    """The filter of a host side; Unavailable on a machine without a table. clone3 keeps its flags in memory, where no
    filter sees them: the C library then falls back to clone."""
    rules = [(entry.name, entry.conditions(own) if entry.conditions else ()) for entry in ALLOWED]
    return program(rules, [("clone3", errno.ENOSYS)], machine)
