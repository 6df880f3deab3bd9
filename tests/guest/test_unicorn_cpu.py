"""The emulated CPU: a stage-2 that caches, misdeeds that end with a report, instruction budgets."""

import threading

import pytest
from hypothesis import given, settings

from guest_kit import (
    ANY_CODE,
    LONG,
    MISDEEDS,
    Misdeed,
    PlainMemory,
    Recorder,
    SilentDevice,
    SmallDevice,
    guest_of,
    load,
    random_disk,
    random_program,
    survives,
    unicorn_cpu,
)
from pagewarden.guest import stage2
from pagewarden.guest.listing import assemble
from pagewarden.guest.program import Program
from pagewarden.guest.serve import Guest, interleave, serve
from pagewarden.guest.stage2 import Stage2
from pagewarden.guest.unicorn_cpu import UnicornCpu
from pagewarden.guest.warden import Warden
from pagewarden.guest.watchdog import watchdog
from pagewarden.vocab import PAGE_SIZE, Exit, ExitKind, GuestStopped, PageRange, Refused
from waits import SOON

PAGE = PageRange(3, 4)
LOAD_AND_LOG = bytes.fromhex("488b3c2500300000ba00050000b803000000efebeb")
"""again: mov rdi, [0x3000]; mov edx, HYPERCALL; mov eax, LOG; out dx, eax; jmp again"""


class Loads:
    """A guest that loads a word of page 3 for ever, and something to do after its third load."""

    def __init__(self, permissions: int = stage2.ALL) -> None:
        self.memory = PlainMemory(8 * PAGE_SIZE)
        self.memory.populate(0, LOAD_AND_LOG)
        self.memory.populate(3 * PAGE_SIZE, b"\x2a")
        self.stage2 = Stage2(8)
        self.stage2.set(PAGE, permissions)
        self.cpu = UnicornCpu(self.memory.guest_address, self.memory.size, self.stage2)
        self.cpu.start(0)
        self.seen: list[int] = []

    def run(self, flush: bool) -> Exit:
        def out(port: int, value: int) -> None:
            self.seen.append(self.cpu.arguments()[0])
            if len(self.seen) == 3:
                self.stage2.set(PAGE, stage2.NONE)
                if flush:
                    self.stage2.flush()
            if len(self.seen) == 8:
                self.cpu.stop()

        return self.cpu.run(out)


def test_a_revoked_page_stays_readable_without_a_flush() -> None:
    """The missing-TLBI bug: the table says no, the cached translation still says yes."""
    loads = Loads()
    assert loads.run(flush=False).kind is ExitKind.ENDED
    assert loads.seen == [0x2A] * 8
    assert loads.stage2.permissions[3] == stage2.NONE


def test_a_flush_makes_the_revocation_true() -> None:
    loads = Loads()
    assert loads.run(flush=True) == Exit(ExitKind.FAULT, "stage-2 does not give it", 0x3000)
    assert loads.seen == [0x2A] * 3 and loads.stage2.flushes == 1
    assert loads.cpu.rip() == 0


def test_a_fault_can_be_resolved_and_the_guest_goes_on() -> None:
    loads = Loads(stage2.NONE)
    assert loads.run(flush=False).gpa == 0x3000
    loads.stage2.set(PAGE, stage2.READ)
    assert loads.run(flush=False).kind is ExitKind.ENDED
    assert loads.seen == [0x2A] * 8


@pytest.mark.parametrize("granted", [stage2.READ, stage2.WRITE, stage2.EXECUTE])
@pytest.mark.parametrize(
    ("needed", "code"),
    [(stage2.READ, "488b042500300000"), (stage2.WRITE, "4889042500300000"), (stage2.EXECUTE, "be00300000ffe6")],
)
def test_each_permission_gives_one_kind_of_access(granted: int, needed: int, code: str) -> None:
    loads = Loads(granted)
    loads.memory.populate(0, bytes.fromhex(code) + b"\xf4")
    loads.memory.populate(3 * PAGE_SIZE, b"\xf4")
    wanted = ExitKind.HALT if granted == needed else ExitKind.FAULT
    assert loads.cpu.run(lambda port, value: None).kind is wanted


def test_one_flush_reaches_every_cpu() -> None:
    loads = Loads()
    other = UnicornCpu(loads.memory.guest_address, loads.memory.size, loads.stage2)
    other.start(0)
    assert other.run(lambda port, value: other.stop()).kind is ExitKind.ENDED
    assert loads.run(flush=True).kind is ExitKind.FAULT
    assert other.run(lambda port, value: other.stop()).kind is ExitKind.FAULT


@pytest.mark.parametrize("misdeed", MISDEEDS, ids=lambda misdeed: misdeed.name)
def test_misdeeds_end_with_a_report(misdeed: Misdeed) -> None:
    memory = PlainMemory(16 * PAGE_SIZE)
    with unicorn_cpu(memory) as cpu, pytest.raises(GuestStopped, match=misdeed.unicorn) as report:
        serve(guest_of(misdeed.code, cpu, memory), misdeed.patience)
    assert "at rip 0x" in str(report.value)


def one_guest(described: Program, memory: PlainMemory, device: type[SmallDevice], disk: bytearray) -> Guest:
    code = assemble(described)
    load(described, code, memory)
    warden = Warden(memory, [described], device(memory.window, described.layout, disk).process)
    return Guest(UnicornCpu(memory.guest_address, memory.size), code, Recorder(warden), described.outs)


def test_a_silent_device_leaves_the_guest_waiting_and_the_watchdog_ends_it() -> None:
    disk = random_disk(1)
    described = random_program("window", disk)
    guest = one_guest(described, PlainMemory(described.layout.size), SilentDevice, disk)
    with pytest.raises(GuestStopped, match=r"no progress.*during wait"), SilentDevice.clock():
        serve(guest, patience=1.0)


def test_a_device_that_meets_a_private_page_ends_the_guest() -> None:
    disk = random_disk(1)
    described = random_program("window", disk)
    memory = PlainMemory(described.layout.size)
    guest = one_guest(described, memory, SmallDevice, disk)
    memory.share = lambda pages: None  # type: ignore[method-assign]  # a warden that only pretends
    with pytest.raises(GuestStopped, match=r"private.*during kick") as report:
        serve(guest)
    assert isinstance(report.value.__cause__, Refused)


def test_an_unshare_that_is_refused_makes_the_guest_give_up() -> None:
    disk = random_disk(1)
    described = random_program("window", disk)
    memory = PlainMemory(described.layout.size)

    def busy(pages: PageRange) -> None:
        raise Refused(11, "somebody holds it")

    memory.unshare = busy  # type: ignore[method-assign]
    with pytest.raises(GuestStopped, match=r"hypercall 2 for gfn .* was answered -11"):
        serve(one_guest(described, memory, SmallDevice, disk))


def interleaved(seed: int) -> tuple[list[int], list[list[tuple[object, ...]]], bytes]:
    """Two vCPUs, each with a program of its own in one memory and half of the disk; who spoke in which order."""
    order: list[int] = []
    halves = [random_disk(7, 128), random_disk(8, 128)]
    first = random_program("window", halves[0], 1, 8, 2)
    second = random_program("iommu", halves[1], 2, 8, 2, base=first.layout.end)
    memory = PlainMemory(second.layout.size)
    guests = [one_guest(p, memory, SmallDevice, disk) for p, disk in zip((first, second), halves, strict=True)]
    for number, guest in enumerate(guests):
        guest.runs = lambda goes_on, number=number: order.append(number)  # type: ignore[misc]  # bound now
    outcomes = interleave(guests, seed, longest=3000)
    assert [outcome.failures for outcome in outcomes] == [0, 0]
    said = [guest.hypervisor.said for guest in guests if isinstance(guest.hypervisor, Recorder)]
    return order, said, memory.bytes[:]


def test_the_seed_decides_the_interleaving() -> None:
    runs = [interleaved(seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[2][0], "another seed, another order"
    assert runs[0][1:] == runs[2][1:], "but the same words and bytes: the programs do not touch each other"


def test_a_guest_that_never_ends_uses_up_its_slices() -> None:
    memory = PlainMemory(PAGE_SIZE)
    guest = guest_of(b"\xeb\xfe", UnicornCpu(memory.guest_address, memory.size), memory)
    with pytest.raises(GuestStopped, match="50 slices were not enough"):
        interleave([guest], seed=1, slices=50)


def test_a_kick_from_another_thread_stops_a_loop() -> None:
    memory = PlainMemory(PAGE_SIZE)
    memory.populate(0, b"\xeb\xfe")
    with unicorn_cpu(memory) as cpu:
        cpu.start(0)
        timer = threading.Timer(0.1, cpu.kick)
        timer.start()
        assert cpu.run(lambda port, value: None).kind is ExitKind.KICKED
        timer.join()


@settings(max_examples=5000 if LONG else 100)
@given(ANY_CODE)
def test_any_machine_code_ends(code: bytes) -> None:
    memory = PlainMemory(16 * PAGE_SIZE)
    with unicorn_cpu(memory) as cpu:
        survives(code, cpu, memory)


def test_the_watchdog_counts_the_guests_time_alone() -> None:
    kicked = threading.Event()
    with watchdog(kicked.set, patience=0.3) as runs:
        runs(False)
        kicked.wait(0.3)
        kicked.clear()  # this thread may have slept before
        assert not kicked.wait(0.8), "the host has it, however slow it is"
        runs(True)
        assert kicked.wait(SOON)
    kicked.clear()
    assert not kicked.wait(0.3), "who could still kick?"
