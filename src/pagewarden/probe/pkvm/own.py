"""The ways that only a protected VM has, or that are asked in another way there: mappings of its memory, pins that
last, and what the guest itself may ask for."""

import os
import resource
import signal
from contextlib import suppress

from pagewarden.abi import kvm_arm64 as arm
from pagewarden.abi import memory as uapi
from pagewarden.kernel import confine, door
from pagewarden.probe import raw
from pagewarden.probe.paths import dump
from pagewarden.probe.paths.advice import MADV
from pagewarden.probe.paths.pipes import vmsplice
from pagewarden.probe.pkvm import guest
from pagewarden.probe.pkvm.stage import HOST, VmStage
from pagewarden.probe.pkvm.ways import way
from pagewarden.probe.registry import MARK, SAMPLE, Attempt, Died, Direction, Target
from pagewarden.vocab import PAGE_SIZE

READ, WRITE = Direction.READ, Direction.WRITE
FILE = ("memfd",)
NOWHERE = 0x2000_0000
"""gpa outside every memslot."""
READABLE = uapi.PROT_READ | uapi.PROT_WRITE


@way("load", READ)
def load(stage: VmStage, page: int) -> bytes:
    """A load by the CPU."""
    return stage.load(stage.hva(page))


@way("store", WRITE)
def store(stage: VmStage, page: int) -> bytes:
    """A store by the CPU."""
    stage.store(stage.hva(page))
    return b""


@way("nothing", READ)
def nothing(stage: VmStage, page: int) -> bytes:
    """No way at all: what the looks afterwards do by themselves."""
    return b""


@way("execute", READ)
def execute(stage: VmStage, page: int) -> bytes:
    """A jump to the page. Data are no program: SIGILL says that the CPU fetched them."""
    door.syscall("mprotect", stage.hva(page), PAGE_SIZE, READABLE | uapi.PROT_EXEC)
    if name := stage.touched((stage.hva(page), 0)):
        raise Died(signal.Signals[name])
    return b""


@way("pread-memfd", READ, backings=FILE)
def pread(stage: VmStage, page: int) -> bytes:
    """pread(2) of the file that the memslot is over."""
    return os.pread(stage.file, SAMPLE, page * PAGE_SIZE)


@way("pwrite-memfd", WRITE, backings=FILE)
def pwrite(stage: VmStage, page: int) -> bytes:
    """pwrite(2) to it."""
    os.pwrite(stage.file, MARK, page * PAGE_SIZE)
    return b""


@way("sendfile-memfd", READ, backings=FILE)
def sendfile(stage: VmStage, page: int) -> bytes:
    """sendfile(2) from it into a pipe."""
    with raw.pipe() as (receive, transmit):
        os.sendfile(transmit, stage.file, page * PAGE_SIZE, SAMPLE)
        return os.read(receive, SAMPLE)


@way("punch", WRITE, backings=FILE)
def punch(stage: VmStage, page: int) -> bytes:
    """fallocate(PUNCH_HOLE) of it."""
    door.punch_hole(stage.file, page * PAGE_SIZE, PAGE_SIZE)
    return b""


@way("second-mapping", READ, backings=FILE)
def second_mapping(stage: VmStage, page: int) -> bytes:
    """A load from a second mapping of it."""
    return stage.load(door.map_anywhere(PAGE_SIZE, stage.file, page * PAGE_SIZE))


@way("mlock-only", READ)
def mlock_only(stage: VmStage, page: int) -> bytes:
    """mlock(2) without a look."""
    door.syscall("mlock", stage.hva(page), PAGE_SIZE)
    return b""


@way("madvise-free-only", WRITE)
def madvise_free_only(stage: VmStage, page: int) -> bytes:
    """madvise(FREE) without a look, and whether it is allowed."""
    door.syscall("madvise", stage.hva(page), PAGE_SIZE, MADV["free"])
    return b""


@way("munmap", WRITE)
def munmap(stage: VmStage, page: int) -> bytes:
    """munmap(2) of the page."""
    door.unmap(stage.hva(page), PAGE_SIZE)
    return b""


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


@way("fork-kept", READ)
def fork_kept(stage: VmStage, page: int) -> bytes:
    """fork(2) with the page under MADV_DONTFORK."""
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


@way("registers", READ)
def registers(stage: VmStage, page: int) -> bytes:
    """KVM_GET_ONE_REG of the register that holds what the guest wrote last."""
    return stage.guest.get_register(arm.core_register(guest.WORD)).to_bytes(8, "little")


@way("pin-then-unmap", READ)
def pin_then_unmap(stage: VmStage, page: int) -> Attempt:
    """A page in a pipe, taken out of the mapping, the pipe read."""
    with raw.pipe() as (receive, transmit):
        vmsplice(transmit, Target(stage.hva(page), 0, 0))
        yield
        door.unmap(stage.hva(page), PAGE_SIZE)
        return os.read(receive, SAMPLE)


def _hypercall(name: str, number: int, offset: int = 0) -> None:
    @way(name, READ)
    def ask(stage: VmStage, page: int) -> bytes:
        stage.call(stage.gpa(page) + offset, number)
        return b""


_hypercall("guest-share", guest.SHARE)
_hypercall("guest-unshare", guest.UNSHARE)
_hypercall("guest-share-unaligned", guest.SHARE, 8)


@way("guest-share-nowhere", READ)
def share_nowhere(stage: VmStage, page: int) -> bytes:
    """The guest shares a page outside every memslot."""
    stage.call(NOWHERE, guest.SHARE)
    return b""


@way("guest-granule", READ)
def granule(stage: VmStage, page: int) -> bytes:
    """What a share covers, in bytes, as the hypervisor tells its guest."""
    return stage.tell(guest.CALL, 0, guest.GRANULE).to_bytes(8, "little")


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
