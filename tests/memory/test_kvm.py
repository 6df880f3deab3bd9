"""A KVM guest in private memory: in place, beside shared memory, and where KVM has to refuse."""

import pytest

from guest_kit import PlainMemory, SmallDevice, guest_of, random_disk, random_program, trace
from kvm_kit import machine
from live import require
from pagewarden.abi import kvm as uapi
from pagewarden.guest.listing import assemble
from pagewarden.guest.program import image
from pagewarden.guest.serve import Guest, serve
from pagewarden.guest.warden import Warden
from pagewarden.kernel.kvm import Kvm, Vm
from pagewarden.kernel.kvm_x86 import KvmMachine, Slot
from pagewarden.memory import PrivateMemory
from pagewarden.vocab import PAGE_SIZE, ExitKind, GuestStopped


@pytest.mark.parametrize("backing", ["memfd", "uffd-window"])
def test_a_guest_converts_its_private_memory_in_place(vm: Vm, backing: str) -> None:
    disk = random_disk(3)
    described = random_program("window", disk)
    memory = PrivateMemory(described.layout.size, backing)
    code = assemble(described)
    with memory, machine(vm, memory) as made:
        for gpa, content in image(described, code.content):
            memory.populate(gpa, content)
        device = SmallDevice(memory.window, described.layout, bytearray(disk))
        outcome = serve(Guest(made.cpus[0], code, Warden(memory, [described], device.process), described.outs))
        assert outcome.failures == 0 and outcome.requests == len(described.requests)
        assert list(memory.shared_runs()) == [described.layout.shared_pages]
        assert (
            memory.private_read(described.layout.shared, described.layout.end - described.layout.shared)
            == trace(described, disk, None).memory[described.layout.shared :]
        )


def test_memfd_secret_cannot_be_a_kvm_guests_memory(vm: Vm) -> None:
    """The missing notifier of the 2022 mail: KVM needs GUP, secret memory refuses it."""
    memory = PrivateMemory(16 * PAGE_SIZE, "memfd-secret")
    with memory, machine(vm, memory) as made:
        made.cpus[0].start(0)
        stop = made.cpus[0].run(lambda port, value: None)
    assert stop.kind is ExitKind.CRASH and "EFAULT" in stop.why and "GUP" in stop.why


def guest_memfd(vm: Vm, size: int, shared: bool) -> PrivateMemory:
    with Kvm() as kvm:
        require(kvm.check_extension(uapi.KVM_CAP_GUEST_MEMFD_FLAGS) & 3 == 3, "guest_memfd has no MMAP, INIT_SHARED")
    return PrivateMemory(size, "guest-memfd", shared=shared, vm=vm.fd)


def test_a_private_slot_beside_a_shared_one(vm: Vm) -> None:
    """guest_memfd: the guest bounces between pages that only it can reach and pages that the host sees."""
    disk = random_disk(3)
    described = random_program("bounce", disk, requests=20)
    at, code = described.layout, assemble(described)
    with guest_memfd(vm, at.data, True) as shared, guest_memfd(vm, at.end - at.data, False) as private:
        for gpa, content in image(described, code.content):
            shared.private_write(gpa, content)
        slots = [
            Slot(0, shared.size, shared.guest_address, shared.file),
            Slot(at.data, private.size, private.guest_address, private.file),
        ]
        device = SmallDevice(shared.window, at, bytearray(disk))
        with KvmMachine(vm, slots) as made:
            outcome = serve(Guest(made.cpus[0], code, Warden(shared, [described], device.process), described.outs))
    assert outcome.failures == 0 and outcome.requests == 20


def test_a_guest_memfd_that_was_closed_is_a_memory_fault(vm: Vm) -> None:
    plain, load_data = PlainMemory(PAGE_SIZE), bytes.fromhex("488b042500100000")  # mov rax, [0x1000]
    with guest_memfd(vm, PAGE_SIZE, True) as file:
        slots = [Slot(0, PAGE_SIZE, plain.guest_address), Slot(PAGE_SIZE, PAGE_SIZE, file.guest_address, file.file)]
        made = KvmMachine(vm, slots)
    with made, pytest.raises(GuestStopped, match=r"KVM_EXIT_MEMORY_FAULT, .* 4096 bytes.* gpa 0x1000"):
        serve(guest_of(load_data, made.cpus[0], plain))
