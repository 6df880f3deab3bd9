"""Guest programs on this host's KVM: the same as interpreted, in private memory, and with every bad end reported."""

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from guest_kit import (
    ANY_CODE,
    LONG,
    MISDEEDS,
    FlippingDevice,
    Misdeed,
    PlainMemory,
    SilentDevice,
    SmallDevice,
    guest_of,
    load,
    random_disk,
    random_program,
    survives,
    trace,
    unicorn_cpu,
)
from kvm_kit import kvm_cpu, machine
from leftovers import descriptors
from pagewarden.abi import kvm as uapi
from pagewarden.guest.listing import assemble
from pagewarden.guest.program import BATCH
from pagewarden.guest.serve import Guest, serve
from pagewarden.guest.warden import Warden
from pagewarden.kernel.kvm import Kvm, Vcpu, Vm, backend
from pagewarden.kernel.kvm_x86 import KvmCpu, KvmMachine, Slot
from pagewarden.vocab import PAGE_SIZE, ExitKind, GuestStopped, PageRange, Unavailable


@pytest.mark.usefixtures("vm")
@pytest.mark.parametrize("design", BATCH)
@pytest.mark.parametrize("batch", [1, 5])
def test_interpreted_and_kvm_agree(design: str, batch: int) -> None:
    disk = random_disk(batch)
    described = random_program(design, disk, batch, 13, batch)
    one, other = trace(described, disk, None), trace(described, disk, kvm_cpu)
    assert one == other
    assert one.outcome.failures == 0


@pytest.mark.usefixtures("vm")
def test_a_disk_that_lies_is_noticed() -> None:
    disk = random_disk(5)
    described = random_program("window", disk, requests=20, batch=4)
    one, other = (trace(described, disk, cpu, FlippingDevice) for cpu in (None, kvm_cpu))
    assert one == other and one.outcome.failures > 0


@pytest.mark.usefixtures("vm")
@pytest.mark.parametrize("misdeed", MISDEEDS, ids=lambda misdeed: misdeed.name)
def test_misdeeds_end_with_a_report(misdeed: Misdeed) -> None:
    memory = PlainMemory(16 * PAGE_SIZE)
    with kvm_cpu(memory) as cpu, pytest.raises(GuestStopped, match=misdeed.kvm) as report:
        serve(guest_of(misdeed.code, cpu, memory), misdeed.patience)
    assert "at rip 0x" in str(report.value)


def test_a_cpu_that_went_wrong_starts_afresh(vm: Vm) -> None:
    """Half an MMIO load, a shutdown, a kick: nothing of it reaches the next program."""
    memory = PlainMemory(16 * PAGE_SIZE)
    beyond = bytes.fromhex("488b042500800100")  # mov rax, [0x18000]: inside the page tables, outside the memslots
    with machine(vm, memory) as made:
        cpu = made.cpus[0]
        stray = Misdeed("stray", beyond, "", "fault.*MMIO.*gpa 0x18000")
        for misdeed in (stray, *MISDEEDS, stray):
            with pytest.raises(GuestStopped, match=misdeed.kvm):
                serve(guest_of(misdeed.code, cpu, memory), misdeed.patience)
        assert log_of_seven(cpu, memory) == 7


def log_of_seven(cpu: KvmCpu, memory: PlainMemory) -> int:
    """Runs `mov edi, 7; mov eax, 3; mov edx, HYPERCALL; out dx, eax`; what rdi was."""
    memory.populate(0, bytes.fromhex("bf07000000b803000000ba00050000ef"))
    cpu.start(0)
    assert cpu.run(lambda port, value: cpu.stop()).kind is ExitKind.ENDED
    return cpu.arguments()[0]


def test_a_silent_device_leaves_the_guest_waiting_and_the_watchdog_ends_it(vm: Vm) -> None:
    disk = random_disk(1)
    described = random_program("window", disk)
    memory, code = PlainMemory(described.layout.size), assemble(described)
    load(described, code, memory)
    warden = Warden(memory, [described], SilentDevice(memory.window, described.layout, disk).process)
    ends = pytest.raises(GuestStopped, match=r"no progress.*during wait")
    with machine(vm, memory) as made, ends, SilentDevice.clock():
        serve(Guest(made.cpus[0], code, warden, described.outs), patience=1.0)


@pytest.mark.usefixtures("vm")
@pytest.mark.parametrize("made_by", [kvm_cpu, unicorn_cpu])
def test_registers_hold_the_answer_and_what_is_behind_the_out(made_by: Callable[..., Any]) -> None:
    memory = PlainMemory(PAGE_SIZE)
    memory.populate(0, b"\xb8\1\0\0\0\xef\xf4")  # mov eax, 1; out dx, eax; hlt
    with made_by(memory) as cpu:
        told: list[tuple[int, int]] = []

        def out(port: int, value: int) -> None:
            for answer in (7, 9):
                cpu.reply(answer)
                registers = cpu.registers()
                told.append((registers[0], registers[-2]))
            cpu.stop()

        cpu.start(0)
        assert cpu.run(out).kind is ExitKind.ENDED
    assert told == [(7, 6), (9, 6)]


def test_a_kick_before_the_run_is_not_lost_and_a_late_one_harms_nobody(vm: Vm) -> None:
    memory = PlainMemory(PAGE_SIZE)
    memory.populate(0, b"\xeb\xfe")
    with machine(vm, memory) as made:
        cpu = made.cpus[0]
        cpu.start(0)
        cpu.kick()
        assert cpu.run(lambda port, value: None).kind is ExitKind.KICKED
        timer = threading.Timer(0.1, cpu.kick)
        timer.start()
        assert cpu.run(lambda port, value: None).kind is ExitKind.KICKED
        timer.join()
    cpu.kick()


def test_two_vcpus_run_at_once(vm: Vm) -> None:
    halves = [random_disk(7, 128), random_disk(8, 128)]
    first = random_program("window", halves[0], 1, 20, 2)
    programs = first, random_program("iommu", halves[1], 2, 20, 2, base=first.layout.end, queue=1)
    memory = PlainMemory(programs[1].layout.size)
    devices = [SmallDevice(memory.window, p.layout, disk) for p, disk in zip(programs, halves, strict=True)]
    warden = Warden(memory, programs, lambda queue: devices[queue].process())
    failures: list[int] = []

    def run(number: int, cpu: KvmCpu) -> None:
        described, code = programs[number], assemble(programs[number])
        load(described, code, memory)
        failures.append(serve(Guest(cpu, code, warden, described.outs)).failures)

    with machine(vm, memory, 2) as made:
        threads = [threading.Thread(target=run, args=(n, cpu)) for n, cpu in enumerate(made.cpus)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == [0, 0]


def handles() -> tuple[int, int]:
    return descriptors(), len(Path("/proc/self/maps").read_text().splitlines())


@pytest.mark.usefixtures("vm")
def test_nothing_is_left_open_however_it_ends() -> None:
    memory = PlainMemory(16 * PAGE_SIZE)

    def round_trip() -> None:
        with contextlib.suppress(GuestStopped), kvm_cpu(memory) as cpu:
            serve(guest_of(b"\x0f\x0b", cpu, memory))
        with Kvm() as kvm, kvm.create_vm() as vm, pytest.raises(OSError, match="ioctl"):
            KvmMachine(vm, [Slot(1, PAGE_SIZE, memory.guest_address)])

    round_trip()
    before = handles()
    for _ in range(20):
        round_trip()
    after = handles()
    assert after[0] == before[0] and after[1] < before[1] + 20, "a mapping a round; the allocator has some of its own"


@pytest.mark.usefixtures("vm")
def test_every_number_can_be_labelled() -> None:
    with kvm_cpu(PlainMemory(PAGE_SIZE)) as cpu:
        assert cpu.backend == backend() and (Path("/sys/module") / cpu.backend.split("+")[0]).exists()
        assert cpu.level == "CPL3"


def test_a_memory_that_is_gone_is_told_apart(vm: Vm) -> None:
    memory = PlainMemory(2 * PAGE_SIZE)
    memory.share(PageRange(0, 1))
    with KvmMachine(vm, [Slot(0, PAGE_SIZE, memory.guest_address)]) as made:
        memory.populate(0, bytes.fromhex("48c704250010000001000000"))  # mov qword [0x1000], 1
        made.cpus[0].start(0)
        stop = made.cpus[0].run(lambda port, value: None)
    assert stop.kind is ExitKind.FAULT and stop.gpa == PAGE_SIZE and "store of 8 bytes" in stop.why


@pytest.mark.usefixtures("vm")
@pytest.mark.parametrize("code", ["6d", "66b9fffff36d"], ids=["insd", "mov cx, 65535; rep insd"])
def test_what_is_left_half_done_does_not_reach_the_next_guest(code: str) -> None:
    """What IN brings to where rdi says, which is the place of the next guest's code."""
    memory = PlainMemory(16 * PAGE_SIZE)
    with kvm_cpu(memory) as cpu:
        memory.populate(0, bytes.fromhex(code))
        cpu.start(0)
        assert "IN from port 0x0" in cpu.run(lambda port, value: None).why
        assert cpu.rip() == len(bytes.fromhex(code)) - (2 if "f3" in code else 1)
        assert log_of_seven(cpu, memory) == 7


@pytest.mark.usefixtures("vm")
def test_any_machine_code_ends() -> None:
    memory = PlainMemory(16 * PAGE_SIZE)
    with kvm_cpu(memory) as cpu:  # one for all of them: what one leaves behind must not reach the next

        @settings(max_examples=5000 if LONG else 100)
        @given(ANY_CODE)
        def any_code(code: bytes) -> None:
            survives(code, cpu, memory)

        any_code()
        assert log_of_seven(cpu, memory) == 7


@pytest.mark.usefixtures("vm")
@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOMEM, errno.EPERM, errno.E2BIG])
@pytest.mark.parametrize("call", ["set_cpuid2", "set_sregs"])
def test_a_vcpu_that_cannot_be_made_is_unavailable_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def refuse(self: Vcpu, argument: object) -> None:
        raise OSError(code, os.strerror(code))

    memory = PlainMemory(PAGE_SIZE)
    monkeypatch.setattr(Vcpu, call, refuse)
    before = descriptors(sweep=True)
    with pytest.raises(Unavailable, match="makes no vCPU 0 in 64-bit user mode"), kvm_cpu(memory):
        pass
    assert descriptors() == before


def test_after_a_reset_by_kvm_the_last_known_place_is_told(vm: Vm, monkeypatch: pytest.MonkeyPatch) -> None:
    """What KVM on AMD leaves behind a triple fault (arch/x86/kvm/svm/svm.c), acted out where this one leaves more."""

    class AfterReset(Vcpu):
        def get_sregs(self) -> uapi.kvm_sregs:
            return uapi.kvm_sregs(cr0=0x60000010)

        def get_regs(self) -> uapi.kvm_regs:
            return uapi.kvm_regs(rip=0xFFF0)

    memory = PlainMemory(PAGE_SIZE)
    memory.populate(0x20, bytes.fromhex("ba00050000ef0f0b"))  # mov edx, HYPERCALL; out dx, eax; ud2
    with machine(vm, memory) as made:
        cpu = made.cpus[0]
        cpu.start(0x20)
        monkeypatch.setattr(cpu._vcpu, "__class__", AfterReset)
        stop = cpu.run(lambda port, value: None)
        monkeypatch.undo()
    assert stop.kind is ExitKind.CRASH and "KVM has reset the vCPU" in stop.why and stop.gpa is None
    assert 0x20 < cpu.rip() <= 0x26, "that of the OUT, before or behind it"
