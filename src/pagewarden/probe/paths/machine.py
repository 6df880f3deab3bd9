"""A guest of the host's own with the window as its memory: KVM takes the page by GUP and the guest copies it."""

import ctypes
import errno

from pagewarden.kernel.kvm import Kvm, Vm, backend
from pagewarden.kernel.kvm_x86 import KvmMachine, Slot
from pagewarden.probe import raw
from pagewarden.probe.registry import MARK, SAMPLE, Attempt, Direction, Target, path
from pagewarden.vocab import PAGE_SIZE, ExitKind, Unavailable

READ, WRITE = Direction.READ, Direction.WRITE
CODE, BUFFER, MEMORY, PORT = 0x1000, 0x2000, 0x10000, 0x10
"""Guest physical addresses of the program, of a page that guest and VMM share, of the memory on trial; a port."""


def copier(source: int, target: int, length: int) -> bytes:
    """64-bit code: esi = source, edi = target, ecx = length, rep movsb; edx = PORT, out dx, eax."""
    words = [word.to_bytes(4, "little") for word in (source, target, length, PORT)]
    return b"\xbe" + words[0] + b"\xbf" + words[1] + b"\xb9" + words[2] + b"\xf3\xa4\xba" + words[3] + b"\xef"


class Copier:
    """A guest that copies between a page of the VMM's and the memory on trial, both of one VM.

    OSError EFAULT: the memory did not answer the guest.
    """

    def __init__(self, vm: Vm, size: int, address: int, guest_memfd: int = -1) -> None:
        self._own = raw.own_memory(2 * PAGE_SIZE)
        slots = [Slot(CODE, 2 * PAGE_SIZE, self._own), Slot(MEMORY, size, address, guest_memfd)]
        self._machine = KvmMachine(vm, slots)

    def read(self, place: int, length: int) -> bytes:
        """Bytes of the memory from an offset, at most a page."""
        self._run(copier(MEMORY + place, BUFFER, length))
        return ctypes.string_at(self._own + PAGE_SIZE, length)

    def write(self, place: int, data: bytes) -> None:
        """Put bytes into the memory at an offset, at most a page."""
        ctypes.memmove(self._own + PAGE_SIZE, data, len(data))
        self._run(copier(BUFFER, MEMORY + place, len(data)))

    def _run(self, program: bytes) -> None:
        ctypes.memmove(self._own, program, len(program))
        cpu = self._machine.cpus[0]
        cpu.start(CODE)
        end = cpu.run(lambda port, value: cpu.stop())
        if end.kind is not ExitKind.ENDED:
            raise OSError(errno.EFAULT, str(end))


def kvm() -> None:
    """Unavailable where no guest runs: a page of ours, where nothing stands in its way, is written and read by one."""
    with Kvm() as device:
        guest = Copier(device.create_vm(), PAGE_SIZE, raw.own_memory(PAGE_SIZE))
    try:
        guest.write(0, MARK)
        seen = guest.read(0, len(MARK))
    except OSError as error:
        raise Unavailable(
            f"{backend()} runs no guest ({error})", "try another machine, or another KVM module"
        ) from error
    if seen != MARK:
        raise Unavailable(f"{backend()} runs a guest that does not copy bytes", "try another KVM module")


class Inherited(Kvm):
    """/dev/kvm, opened by somebody else."""

    def __init__(self, fd: int) -> None:
        self._inherited = fd

    @property
    def fd(self) -> int:
        """Not ours to close."""
        return self._inherited


def guest_on(target: Target) -> Copier:
    """A guest whose memslot is the window's page."""
    device = Kvm() if target.kvm < 0 else Inherited(target.kvm)
    return Copier(device.create_vm(), target.length, target.address)


@path("kvm-memslot", READ, requires=kvm, calls=("ioctl",))
def read(target: Target) -> bytes:
    """A guest whose memslot is the window copies the page out."""
    return guest_on(target).read(0, SAMPLE)


@path("kvm-memslot", WRITE, requires=kvm, calls=("ioctl",))
def write(target: Target) -> bytes:
    """A guest whose memslot is the window writes the page."""
    guest_on(target).write(0, MARK)
    return b""


@path("kvm-memslot-before", READ, requires=kvm, calls=("ioctl",))
def read_later(target: Target) -> Attempt:
    """A guest that has read the page before the conversion reads it again."""
    guest = guest_on(target)
    guest.read(0, SAMPLE)
    yield
    return guest.read(0, SAMPLE)


@path("kvm-memslot-before", WRITE, requires=kvm, calls=("ioctl",))
def write_later(target: Target) -> Attempt:
    """A guest that has written the page before the conversion writes it again."""
    guest = guest_on(target)
    guest.write(0, MARK)
    yield
    guest.write(0, MARK)
    return b""
