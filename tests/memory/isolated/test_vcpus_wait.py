"""KVM guests on pages that are replaced under them: a vCPU that touches one waits and loses nothing."""

import threading
import time
from collections.abc import Iterator

import pytest

from pagewarden.kernel.kvm import Kvm
from pagewarden.kernel.kvm_x86 import KvmMachine, Slot
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory
from pagewarden.vocab import Exit, ExitKind

PORT = 0x500
ROUNDS = 2000


def store_and_check(word: int) -> bytes:
    """mov edi, word; xor eax, eax; again: inc rax; mov [rdi], rax; mov rbx, [rdi]; cmp rbx, rax; je again;
    mov edx, PORT; out dx, eax; jmp self: a store that is lost or torn ends the loop."""
    return (
        b"\xbf"
        + word.to_bytes(4, "little")
        + bytes.fromhex("31c048ffc0488907488b1f4839c374f2")
        + b"\xba"
        + PORT.to_bytes(4, "little")
        + bytes.fromhex("efebfe")
    )


@pytest.fixture
def machine() -> Iterator[tuple[PrivateMemory, KvmMachine]]:
    memory = PrivateMemory(16 * PAGE_SIZE, isolated=True)
    with memory:
        for cpu in range(2):
            memory.populate(256 * cpu, store_and_check(PAGE_SIZE + 64 * cpu))
        kvm = Kvm()
        slots = [Slot(0, memory.size, memory.guest_address)]
        with kvm, kvm.create_vm() as vm, KvmMachine(vm, slots, 2) as made:
            yield memory, made


def test_stores_of_vcpus_survive_replacements(machine: tuple[PrivateMemory, KvmMachine]) -> None:
    memory, made = machine
    wrong: list[int] = []
    stops: list[Exit] = []

    def guest(number: int) -> None:
        cpu = made.cpus[number]
        cpu.start(256 * number)

        def out(port: int, value: int) -> None:
            wrong.append(value)
            cpu.stop()

        stops.append(cpu.run(out))

    threads = [threading.Thread(target=guest, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    counts = [memory.private_read(PAGE_SIZE, 8)]
    for _ in range(ROUNDS):
        memory.share(PageRange(1, 2))
        memory.unshare(PageRange(1, 2))
        while (count := memory.private_read(PAGE_SIZE, 8)) == counts[-1] and threads[0].is_alive():
            time.sleep(0)  # until the guest is back on its page
        counts.append(count)
    for cpu, thread in zip(made.cpus, threads, strict=True):
        cpu.kick()
        thread.join()
    assert not wrong and [stop.kind for stop in stops] == [ExitKind.KICKED] * 2
    values = [int.from_bytes(count, "little") for count in counts]
    assert values == sorted(set(values)), "it went on after each replacement, and never back"
