"""What this kernel lets this user do: each thing is asked for, none is concluded from a version."""

import ctypes
import errno
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from typing import NamedTuple

from pagewarden.abi import io_uring, kvm, uffd
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
from pagewarden.vocab import PAGE_SIZE, Unavailable

MSG_ZEROCOPY = 0x4000000
SO_ZEROCOPY = 60


class Capability(NamedTuple):
    """One thing, whether it is to be had here, and why not, or what was found."""

    name: str
    available: bool
    reason: str


def capabilities() -> list[Capability]:
    """All of them, in a fixed order; every descriptor that was opened for the asking is closed again."""
    return [
        *(_asked(name, question) for name, question in QUESTIONS.items()),
        *_userfault_features(),
        *_kvm(),
        *(_asked(f"counter:{name}", partial(_count, name)) for name in NAMED),
    ]


def _asked(name: str, question: Callable[[], str]) -> Capability:
    try:
        return Capability(name, True, question())
    except Unavailable as lacking:
        return Capability(name, False, str(lacking))
    except OSError as error:
        return Capability(name, False, f"{errno.errorcode.get(error.errno or 0, '?')}: {error.strerror}")


def _memfd() -> str:
    door.memfd("pagewarden-probe", PAGE_SIZE)
    return "created"


def _memfd_secret() -> str:
    file, region = door.memfd_secret(PAGE_SIZE), Region(PAGE_SIZE)
    region.place(file.fd)
    door.claim(region.address, PAGE_SIZE)
    return "created, mapped and touched"


def _userfaultfd() -> str:
    userfault.Userfault(0).close()
    return "user-mode faults"


def _userfaultfd_kernel() -> str:
    userfault.Userfault(0, user_mode_only=False).close()
    return "faults inside system calls and KVM wait too"


def _window() -> str:
    UffdWindow(Wanted(PAGE_SIZE)).close()
    return "memfd guarded by userfaultfd"


def _replacement() -> str:
    userfault.Userfault(WAIT_FEATURES, user_mode_only=False).close()
    return "pages are replaced while their users wait"


def _io_uring() -> str:
    params = io_uring.io_uring_params()
    door.opened("io_uring_setup", 1, ctypes.addressof(params))
    return "a ring was set up"


def _process_vm() -> str:
    source, target = ctypes.create_string_buffer(b"x"), ctypes.create_string_buffer(1)
    local, remote = (uapi.iovec(ctypes.addressof(buffer), 1) for buffer in (target, source))
    syscall("process_vm_readv", os.getpid(), ctypes.addressof(local), 1, ctypes.addressof(remote), 1, 0)
    return "read from this process"


def _seccomp() -> str:
    """Install the host side's filter in a child, and see that it bites."""
    lines = room.program_for(allowed.Self(os.getpid(), (-1 & 0xFFFFFFFF, -1 & 0xFFFFFFFF), True))
    pid = os.fork()
    if pid == 0:
        try:
            confine.no_new_privileges()
            confine.install_filter(lines)
            syscall("mremap", 0, 0, 0, 0)
        except OSError as error:
            os._exit(error.errno or 255)
        finally:
            os._exit(255)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != errno.EPERM:
        raise Unavailable(f"the filter did not hold (result {code})", "needs CONFIG_SECCOMP_FILTER=y")
    return f"{len(lines)} instructions, tried in a child"


def _zerocopy() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as end:
        end.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    return "SO_ZEROCOPY accepted on TCP"


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


QUESTIONS: dict[str, Callable[[], str]] = {
    "memfd": _memfd,
    "memfd_secret": _memfd_secret,
    "userfaultfd": _userfaultfd,
    "userfaultfd:kernel-faults": _userfaultfd_kernel,
    "uffd-window": _window,
    "page-replacement": _replacement,
    "mlock": _mlock,
    "seccomp": _seccomp,
    "process_vm_readv": _process_vm,
    "io_uring": _io_uring,
    "MSG_ZEROCOPY": _zerocopy,
}


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
