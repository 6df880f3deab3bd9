"""What this kernel lets this user do: each thing is asked for, none is concluded from a version."""

import ctypes
import errno
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from typing import NamedTuple

from pagewarden.abi import kvm, uffd
from pagewarden.abi import memory as uapi
from pagewarden.kernel import confine, door
from pagewarden.kernel import uffd as userfault
from pagewarden.kernel.counters import NAMED, Counters
from pagewarden.kernel.door import ioctl, syscall
from pagewarden.kernel.kvm import Kvm, backend
from pagewarden.kernel.region import Region
from pagewarden.memory.backings import guest_memfd
from pagewarden.memory.backings.protocol import Wanted
from pagewarden.memory.backings.uffd_window import UffdWindow
from pagewarden.memory.isolated import allowed, room
from pagewarden.memory.isolated.replace import WAIT_FEATURES
from pagewarden.probe import raw
from pagewarden.probe.paths.peers import vm_read
from pagewarden.probe.paths.pipes import SO_ZEROCOPY
from pagewarden.probe.paths.uring import IoUring
from pagewarden.probe.registry import SAMPLE, Died
from pagewarden.vocab import PAGE_SIZE, Unavailable


class Capability(NamedTuple):
    """One thing, whether it is to be had here, and why not, or what was found."""

    name: str
    available: bool
    reason: str


def capabilities() -> list[Capability]:
    """All of them, in a fixed order; every descriptor that was opened for the asking is closed again."""
    return [
        *(_asked(name, *question) for name, question in QUESTIONS.items()),
        *_userfault_features(),
        *_kvm(),
        *(_asked(f"counter:{name}", partial(_count, name)) for name in NAMED),
    ]


def _asked(name: str, question: Callable[[], object], works: str = "") -> Capability:
    try:
        said = question()
        return Capability(name, True, works or str(said))
    except Unavailable as lacking:
        return Capability(name, False, str(lacking))
    except OSError as error:
        return Capability(name, False, f"{errno.errorcode.get(error.errno or 0, '?')}: {error.strerror}")


def _memfd_secret() -> None:
    file, region = door.memfd_secret(PAGE_SIZE), Region(PAGE_SIZE)
    region.place(file.fd)
    door.claim(region.address, PAGE_SIZE)


def _process_vm() -> None:
    source = ctypes.create_string_buffer(SAMPLE)
    vm_read(os.getpid(), ctypes.addressof(source))


def _seccomp() -> str:
    """Install the host side's filter in a child, and see that it bites."""
    lines = room.program_for(allowed.Self(os.getpid(), (-1 & 0xFFFFFFFF, -1 & 0xFFFFFFFF), True))

    def forbidden() -> bytes:
        confine.no_new_privileges()
        confine.install_filter(lines)
        return b"%d" % syscall("mremap", 0, 0, 0, 0)

    try:
        raw.elsewhere(forbidden)
    except (OSError, Died) as end:
        held, said = getattr(end, "errno", 0) == errno.EPERM, str(end)
    else:
        held, said = False, "mremap was let through"
    if not held:
        raise Unavailable(f"the filter did not hold ({said})", "needs CONFIG_SECCOMP_FILTER=y")
    return f"{len(lines)} instructions, tried in a child"


def _zerocopy() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as end:
        end.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)


def _mlock() -> str:
    region = Region(PAGE_SIZE)
    try:
        syscall("mlock2", region.address, PAGE_SIZE, uapi.MLOCK_ONFAULT)
    finally:
        region.close()
    return f"RLIMIT_MEMLOCK {door.memlock()}"


def _count(name: str) -> str:
    with Counters(name) as counted:
        pass
    counted.as_dict()  # says so when the counter was never seen counting
    return "seen counting"


QUESTIONS: dict[str, tuple[Callable[[], object], str]] = {
    "memfd": (lambda: door.memfd("pagewarden-probe", PAGE_SIZE), "created"),
    "memfd_secret": (_memfd_secret, "created, mapped and touched"),
    "userfaultfd": (lambda: userfault.Userfault(0).close(), "user-mode faults"),
    "userfaultfd:kernel-faults": (
        lambda: userfault.Userfault(0, user_mode_only=False).close(), "faults inside system calls and KVM wait too",
    ),
    "uffd-window": (lambda: UffdWindow(Wanted(PAGE_SIZE)).close(), "memfd guarded by userfaultfd"),
    "page-replacement": (
        lambda: userfault.Userfault(WAIT_FEATURES, user_mode_only=False).close(),
        "pages are replaced while their users wait",
    ),
    "mlock": (_mlock, ""),
    "seccomp": (_seccomp, ""),
    "process_vm_readv": (_process_vm, "read from this process"),
    "io_uring": (lambda: IoUring().close(), "a ring was set up"),
    "MSG_ZEROCOPY": (_zerocopy, "SO_ZEROCOPY accepted on TCP"),
}  # fmt: skip
"""What is tried, and what is said where it works: "" for what it says itself."""


def _userfault_features() -> Iterator[Capability]:
    try:
        offered = userfault.offered()
    except Unavailable as lacking:
        yield from (Capability(name, False, str(lacking)) for name in uffd.FEATURES)
        return
    for name, bit in uffd.FEATURES.items():
        yield Capability(name, bool(offered & bit), "offered" if offered & bit else "not among the features offered")


def _kvm() -> Iterator[Capability]:
    names = sorted(name for name in vars(kvm) if name.startswith("KVM_CAP_"))
    with ExitStack() as opened:
        try:
            device = opened.enter_context(Kvm())
            vm = device.create_vm_fd()
        except (Unavailable, OSError) as lacking:
            yield from (Capability(name, False, str(lacking)) for name in ["kvm", *names, "guest_memfd"])
            return
        opened.callback(vm.close)
        yield Capability("kvm", True, f"a VM was created by {backend()}")
        asked = {"/dev/kvm": device.fd, f"a VM of type {kvm.VM_TYPES[0]}": vm.fd, **dict(_other_vms(device, opened))}
        yield from (_extension(name, asked) for name in names)
        yield _asked("guest_memfd", partial(_guest_memfd, vm.fd))


def _other_vms(device: Kvm, opened: ExitStack) -> Iterator[tuple[str, int]]:
    """A VM of each type beside the default one that KVM says it has and makes, and what to call it."""
    types = device.check_extension(kvm.KVM_CAP_VM_TYPES)
    for kind in range(1, types.bit_length()):
        with suppress(OSError):
            if types >> kind & 1:
                made = device.create_vm_fd(kind)
                opened.callback(made.close)
                yield f"a VM of type {kvm.VM_TYPES.get(kind, str(kind))}", made.fd


def _extension(name: str, asked: Mapping[str, int]) -> Capability:
    """KVM_CHECK_EXTENSION of the device and of every type of VM: an answer may depend on the type."""
    values = {who: ioctl(fd, kvm.KVM_CHECK_EXTENSION, getattr(kvm, name)) for who, fd in asked.items()}
    if len(set(values.values())) == 1:
        said = f"value {values['/dev/kvm']}"
    else:
        said = ", ".join(f"{who}: {value}" for who, value in values.items())
    return Capability(name, any(value > 0 for value in values.values()), said)


def _guest_memfd(vm: int) -> str:
    """Every flag that is advertised must be accepted, and the next one turned down."""
    offered = guest_memfd.flags_offered(vm)
    for flags in range(offered + 1):
        if not flags & ~offered:
            guest_memfd.create(vm, PAGE_SIZE, flags)
    return f"flags {offered:#x}, each combination created"
