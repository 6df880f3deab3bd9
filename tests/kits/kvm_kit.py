"""What tests of KVM guests share: a machine over a memory, a CPU of it."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

from guest_kit import PlainMemory
from pagewarden.kernel.kvm import Kvm, Vm
from pagewarden.kernel.kvm_x86 import KvmCpu, KvmMachine, Slot


class Bytes(Protocol):
    """A memory that a memslot can be made of."""

    @property
    def size(self) -> int: ...
    @property
    def guest_address(self) -> int: ...


@contextlib.contextmanager
def kvm_cpu(memory: PlainMemory) -> Iterator[KvmCpu]:
    with Kvm() as kvm, kvm.create_vm() as vm, machine(vm, memory) as made:
        yield made.cpus[0]


def machine(vm: Vm, memory: Bytes, vcpus: int = 1) -> KvmMachine:
    return KvmMachine(vm, [Slot(0, memory.size, memory.guest_address)], vcpus)
