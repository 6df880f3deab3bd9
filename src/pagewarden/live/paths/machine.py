"""A guest of the host's own with the window as its memory: KVM takes the page by GUP and the guest reads it out."""

import ctypes
import errno

from pagewarden.abi import kvm as abi
from pagewarden.live.kvm import Kvm
from pagewarden.live.paths import raw
from pagewarden.live.paths.registry import MARK, SAMPLE, Attempt, Direction, Target, path
from pagewarden.vocab import PAGE_SIZE

READ, WRITE = Direction.READ, Direction.WRITE
CODE, DATA = 0x1000, 0x2000
"""Guest physical addresses of the program and of the window's page."""
READER = bytes.fromhex("be0020 b94000 ba1000 fc ac ee e2fc f4")
"""Real mode: si = DATA, cx = SAMPLE, dx = a port, cld; lodsb, out dx, al, loop; hlt."""
WRITER = bytes.fromhex("bf0020 b94000 b0a5 fc f3aa f4")
"""Real mode: di = DATA, cx = SAMPLE, al = a byte of MARK, cld, rep stosb, hlt."""
assert len(MARK) == SAMPLE == 0x40 and MARK[0] == 0xA5


class Machine:
    """A virtual machine of two pages and one vCPU in real mode."""

    def __init__(self, target: Target, program: bytes) -> None:
        code = raw.own_memory(PAGE_SIZE)
        ctypes.memmove(code, program, len(program))
        self._kvm = Kvm()
        self._vm = self._kvm.create_vm()
        self._vm.set_user_memory_region(0, CODE, PAGE_SIZE, code)
        self._vm.set_user_memory_region(1, DATA, PAGE_SIZE, target.address)
        self._vcpu = self._vm.create_vcpu()

    def _start(self) -> None:
        sregs = self._vcpu.get_sregs()
        for segment in (sregs.cs, sregs.ds, sregs.es):
            segment.base, segment.selector = 0, 0
        self._vcpu.set_sregs(sregs)
        self._vcpu.set_regs(abi.kvm_regs(rip=CODE, rflags=2))

    def run(self) -> bytes:
        """The program from its start to HLT, and the bytes it put out; OSError where the page did not answer."""
        self._start()
        out = bytearray()
        while (reason := self._exit()) == abi.KVM_EXIT_IO:
            out.append(self._vcpu.io_value())
        if reason == abi.KVM_EXIT_MMIO:
            raise OSError(errno.EFAULT, "the guest's access left the memslot (KVM_EXIT_MMIO)")
        if reason != abi.KVM_EXIT_HLT:
            raise OSError(errno.EIO, f"the guest stopped with exit {reason}")
        return bytes(out)

    def _exit(self) -> int:
        self._vcpu.run()
        return int(self._vcpu.kvm_run.exit_reason)


def kvm() -> None:
    """Unavailable where no virtual machine can be made."""
    with Kvm() as device, device.create_vm():
        pass


@path("kvm-memslot", READ, requires=kvm)
def read(target: Target) -> bytes:
    """A guest whose memslot is the window reads the page and puts it out."""
    return Machine(target, READER).run()


@path("kvm-memslot", WRITE, requires=kvm)
def write(target: Target) -> bytes:
    """A guest whose memslot is the window writes the page."""
    return Machine(target, WRITER).run()


@path("kvm-memslot-before", READ, requires=kvm)
def read_later(target: Target) -> Attempt:
    """A guest that has read the page before the conversion reads it again."""
    machine = Machine(target, READER)
    machine.run()
    yield
    return machine.run()


@path("kvm-memslot-before", WRITE, requires=kvm)
def write_later(target: Target) -> Attempt:
    """A guest that has written the page before the conversion writes it again."""
    machine = Machine(target, WRITER)
    machine.run()
    yield
    return machine.run()
