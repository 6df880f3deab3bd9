"""The ways that only a protected VM has, or that are asked in another way there: mappings of its memory, memslots, pins
that last, and what the guest itself may ask for."""

import ctypes
import os
import resource
import signal
from contextlib import suppress
from ctypes import byref

from pagewarden.abi import kvm as uapi_kvm
from pagewarden.abi import kvm_arm64 as arm
from pagewarden.abi import memory as uapi
from pagewarden.kernel import confine, door
from pagewarden.kernel.kvm_arm64 import ProtectedGuest
from pagewarden.probe import raw
from pagewarden.probe.paths import dump
from pagewarden.probe.paths.advice import MADV
from pagewarden.probe.paths.pipes import vmsplice
from pagewarden.probe.pkvm import guest
from pagewarden.probe.pkvm.stage import BACKINGS, BASE, HOST, VmStage
from pagewarden.probe.pkvm.ways import OwnAct, way
from pagewarden.probe.registry import MARK, SAMPLE, Attempt, Died, Direction, Target
from pagewarden.vocab import PAGE_SIZE

READ, WRITE = Direction.READ, Direction.WRITE
FILE = ("memfd",)
NOWHERE, NEW = 0x2000_0000, 0x7000_0000
"""gpas: outside every memslot; where a page of further memslots lies, one for each page on trial."""
OPEN_FILE = uapi_kvm.GUEST_MEMFD_FLAG_MMAP | uapi_kvm.GUEST_MEMFD_FLAG_INIT_SHARED
READABLE = uapi.PROT_READ | uapi.PROT_WRITE


@way("execute", READ)
def execute(stage: VmStage, page: int) -> bytes:
    """A jump to the page. Data are no program: SIGILL says that the CPU fetched them."""
    door.syscall("mprotect", stage.hva(page), PAGE_SIZE, READABLE | uapi.PROT_EXEC)
    if name := stage.touched((stage.hva(page), 0)):
        raise Died(signal.Signals[name])
    return b""


@way("sendfile-memfd", READ, backings=FILE)
def sendfile(stage: VmStage, page: int) -> bytes:
    """sendfile(2) from it into a pipe."""
    with raw.pipe() as (receive, transmit):
        os.sendfile(transmit, stage.file, page * PAGE_SIZE, SAMPLE)
        return os.read(receive, SAMPLE)


@way("map-fixed", WRITE)
def map_fixed(stage: VmStage, page: int) -> bytes:
    """mmap(MAP_FIXED) of other memory over the page, which is then written."""
    flags = uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS | uapi.MAP_FIXED
    door.syscall("mmap", stage.hva(page), PAGE_SIZE, READABLE, flags, -1, 0)
    stage.store(stage.hva(page))
    return b""


@way("mprotect-none", WRITE)
def mprotect_none(stage: VmStage, page: int) -> bytes:
    """mprotect(NONE), then as before."""
    for protection in (uapi.PROT_NONE, READABLE):
        door.syscall("mprotect", stage.hva(page), PAGE_SIZE, protection)
    return b""


@way("pinned", READ)
def pinned(stage: VmStage, page: int) -> Attempt:
    """A pin that is taken, by vmsplice(2) into a pipe, and never used."""
    vmsplice(os.pipe()[1], Target(stage.hva(page), 0, 0))
    yield
    return b""


@way("fork-untouched", READ)
def fork_untouched(stage: VmStage, page: int) -> bytes:
    """fork(2) with the page inherited; the child ends at once."""
    door.syscall("madvise", stage.hva(page), PAGE_SIZE, uapi.MADV_DOFORK)
    return raw.elsewhere(bytes)


@way("fork-all", READ, alone=True)
def fork_all(stage: VmStage, page: int) -> bytes:
    """fork(2) with all of the guest's memory inherited, its program too."""
    for start in range(stage.address, stage.address + stage.size, PAGE_SIZE):
        with suppress(OSError):  # another way has unmapped its page
            door.syscall("madvise", start, PAGE_SIZE, uapi.MADV_DOFORK)
    return raw.elsewhere(bytes)


@way("close-vm", READ, alone=True)
def close_vm(stage: VmStage, page: int) -> bytes:
    """The VM's end, then a load."""
    stage.close()
    return stage.load(stage.hva(page))


@way("close-vm-pinned", READ, alone=True)
def close_vm_pinned(stage: VmStage, page: int) -> bytes:
    """The VM's end with the page in a pipe, which is then read."""
    with raw.pipe() as (receive, transmit):
        vmsplice(transmit, Target(stage.hva(page), 0, 0))
        stage.close()
        return os.read(receive, SAMPLE)


@way("pin-then-unmap", READ)
def pin_then_unmap(stage: VmStage, page: int) -> Attempt:
    """A page in a pipe, taken out of the mapping, the pipe read."""
    with raw.pipe() as (receive, transmit):
        vmsplice(transmit, Target(stage.hva(page), 0, 0))
        yield
        door.unmap(stage.hva(page), PAGE_SIZE)
        return os.read(receive, SAMPLE)


@way("memlock", WRITE, alone=True)
def memlock(stage: VmStage, page: int) -> bytes:
    """An ordinary user whose RLIMIT_MEMLOCK is used up: the guest writes the page."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (PAGE_SIZE, PAGE_SIZE))
    confine.become_nobody()
    stage.fill(page, HOST)
    return b""


@way("kcore", READ)
def kcore(stage: VmStage, page: int) -> bytes:
    """/proc/kcore at the page's frame, which /proc/self/pagemap tells (fs/proc/kcore.c, fs/proc/task_mmu.c)."""
    with open("/proc/self/pagemap", "rb", buffering=0) as table:
        entry = int.from_bytes(os.pread(table.fileno(), 8, stage.hva(page) // PAGE_SIZE * 8), "little")
    frame = (entry & (1 << 55) - 1) * PAGE_SIZE
    with open("/proc/kcore", "rb") as core:
        for part in dump.parts(core):
            if part.kind == dump.PT_LOAD and part.physical <= frame < part.physical + part.stored:
                return os.pread(core.fileno(), SAMPLE, part.at + frame - part.physical)
    raise FileNotFoundError(2, "no part of /proc/kcore is the page's")


def _word(value: int) -> bytes:
    return value.to_bytes(8, "little")


def _add_slot(stage: VmStage, page: int, address: int, flags: int = 0) -> int:
    """A memslot of one page beside the first; its gpa."""
    stage.guest.set_user_memory_region(page, NEW + page * PAGE_SIZE, PAGE_SIZE, address, flags)
    return NEW + page * PAGE_SIZE


def _another_slot(stage: VmStage, page: int, flags: int) -> None:
    _add_slot(stage, page, raw.own_memory(PAGE_SIZE), flags)


def _over(stage: VmStage, page: int, file: door.Descriptor) -> None:
    """The guest writes to a memslot over a page of a file."""
    stage.tell(guest.FILL, _add_slot(stage, page, door.map_anywhere(PAGE_SIZE, file.fd, 0)), 1)


def _in_memory() -> door.Descriptor:
    file = door.opened_path("/tmp", os.O_TMPFILE | os.O_RDWR)
    os.ftruncate(file.fd, PAGE_SIZE)
    return file


def _over_guest_memfd(stage: VmStage, page: int, flags: int) -> None:
    asked = uapi_kvm.kvm_create_guest_memfd(PAGE_SIZE, flags)
    file = door.ioctl_opened(stage.guest.fd, uapi_kvm.KVM_CREATE_GUEST_MEMFD, byref(asked))
    address = door.map_anywhere(PAGE_SIZE, file.fd, 0) if flags else raw.own_memory(PAGE_SIZE)
    stage.guest.set_user_memory_region2(page, NEW + page * PAGE_SIZE, PAGE_SIZE, address, file.fd, 0)
    stage.tell(guest.FILL, NEW + page * PAGE_SIZE, 1)


def _by_another(stage: VmStage, page: int, kind: int) -> bytes:
    with ProtectedGuest(stage.device, NOWHERE, kind) as other:
        program = raw.own_memory(PAGE_SIZE)
        ctypes.memmove(program, guest.CODE, len(guest.CODE))
        other.set_user_memory_region(0, NOWHERE, PAGE_SIZE, program)
        other.set_user_memory_region(1, stage.gpa(page), PAGE_SIZE, stage.hva(page))
        return _word(guest.tell(other, guest.LOAD, stage.gpa(page)))


@way("pre-fault", READ)
def pre_fault(stage: VmStage, page: int) -> bytes:
    """KVM_PRE_FAULT_MEMORY of the page."""
    asked = arm.kvm_pre_fault_memory(stage.gpa(page), PAGE_SIZE)
    door.ioctl(stage.guest.vcpu.fd, arm.KVM_PRE_FAULT_MEMORY, byref(asked))
    return b""


IN_A_LINE: dict[str, tuple[Direction, OwnAct]] = {
    "nothing": (READ, lambda at, page: None),  # what the looks afterwards do by themselves
    "load": (READ, lambda at, page: at.load(at.hva(page))),
    "store": (WRITE, lambda at, page: at.store(at.hva(page))),
    "mlock-only": (READ, lambda at, page: door.syscall("mlock", at.hva(page), PAGE_SIZE)),
    "madvise-free-only": (WRITE, lambda at, page: door.syscall("madvise", at.hva(page), PAGE_SIZE, MADV["free"])),
    "munmap": (WRITE, lambda at, page: door.unmap(at.hva(page), PAGE_SIZE)),
    "fork-kept": (READ, lambda at, page: raw.elsewhere(bytes)),  # under MADV_DONTFORK
    "registers": (
        READ,
        lambda at, page: _word(at.guest.get_register(arm.core_register(guest.WORD))),
    ),  # KVM_GET_ONE_REG
    # what the guest itself asks for; the granule is what a share covers, in bytes
    "guest-share": (READ, lambda at, page: at.call(at.gpa(page), guest.SHARE)),
    "guest-unshare": (READ, lambda at, page: at.call(at.gpa(page), guest.UNSHARE)),
    "guest-share-unaligned": (READ, lambda at, page: at.call(at.gpa(page) + 8, guest.SHARE)),
    "guest-share-nowhere": (READ, lambda at, page: at.call(NOWHERE, guest.SHARE)),
    "guest-granule": (READ, lambda at, page: _word(at.tell(guest.CALL, 0, guest.GRANULE))),
    # memslots, and other VMs over the same memory
    "slot-delete": (WRITE, lambda at, page: at.guest.set_user_memory_region(0, BASE, 0, at.address)),
    "slot-move": (WRITE, lambda at, page: at.guest.set_user_memory_region(0, NEW, at.size, at.address)),
    "slot-add": (READ, lambda at, page: _another_slot(at, page, 0)),
    "slot-readonly": (READ, lambda at, page: _another_slot(at, page, uapi_kvm.KVM_MEM_READONLY)),
    "slot-dirty-log": (READ, lambda at, page: _another_slot(at, page, uapi_kvm.KVM_MEM_LOG_DIRTY_PAGES)),
    "slot-second": (READ, lambda at, page: _word(at.tell(guest.LOAD, _add_slot(at, page, at.hva(page))))),
    "vm-second": (READ, lambda at, page: _by_another(at, page, arm.KVM_VM_TYPE_ARM_PROTECTED)),
    "vm-plain": (READ, lambda at, page: _by_another(at, page, 0)),
    "slot-over-memfd_secret": (WRITE, lambda at, page: _over(at, page, door.memfd_secret(PAGE_SIZE))),
    "slot-over-block-device": (WRITE, lambda at, page: _over(at, page, door.opened_path("/dev/vda", os.O_RDWR))),
    "slot-over-tmpfs": (WRITE, lambda at, page: _over(at, page, _in_memory())),
    "slot-guest_memfd-private": (WRITE, lambda at, page: _over_guest_memfd(at, page, 0)),
    "slot-guest_memfd-shared": (WRITE, lambda at, page: _over_guest_memfd(at, page, OPEN_FILE)),
}
"""Ways of one line."""
OF_THE_FILE: dict[str, tuple[Direction, OwnAct]] = {
    "pread-memfd": (READ, lambda at, page: os.pread(at.file, SAMPLE, page * PAGE_SIZE)),
    "pwrite-memfd": (WRITE, lambda at, page: os.pwrite(at.file, MARK, page * PAGE_SIZE)),
    "punch": (WRITE, lambda at, page: door.punch_hole(at.file, page * PAGE_SIZE, PAGE_SIZE)),
    "second-mapping": (READ, lambda at, page: at.load(door.map_anywhere(PAGE_SIZE, at.file, page * PAGE_SIZE))),
}
"""The same of the file that the memslot is over."""
for _ways, _backings in ((IN_A_LINE, tuple(BACKINGS)), (OF_THE_FILE, FILE)):
    for _name, (_direction, _act) in _ways.items():
        way(_name, _direction, backings=_backings)(_act)
