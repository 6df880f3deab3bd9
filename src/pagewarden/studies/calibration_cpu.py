"""What calibration times on a CPU: exits of a guest to its warden and back, and the entries of its second stage."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pagewarden.guest.hypercalls import HYPERCALL, PORTS
from pagewarden.guest.unicorn_cpu import UnicornCpu
from pagewarden.live.kvm import Kvm
from pagewarden.live.kvm_cpu import KvmMachine, Slot
from pagewarden.memory import PrivateMemory
from pagewarden.port import Cpu
from pagewarden.studies.calibration_scripts import Found
from pagewarden.studies.sampling import Array, Spread
from pagewarden.vocab import PAGE_SIZE, ExitKind, GuestStopped, Unavailable, UserMistake

CPUS = ("auto", "kvm", "unicorn", "none")
RING = b"\xba" + HYPERCALL.to_bytes(4, "little") + bytes.fromhex("31c0 ef ebfd")
"""mov edx, HYPERCALL; xor eax, eax; again: out dx, eax; jmp again"""


@dataclass(frozen=True, slots=True)
class OnCpu:
    """A CPU as every number of it is labelled."""

    cpu: Cpu
    label: str


@contextmanager
def cpu_named(name: str, memory: PrivateMemory) -> Iterator[OnCpu]:
    """A CPU that runs in this memory; auto: KVM if this host has it. Unavailable, UserMistake."""
    if name not in CPUS:
        raise UserMistake(f"no CPU is called {name!r}; there are {', '.join(CPUS)}")
    with ExitStack() as opened:
        cpu: Cpu
        try:
            if name == "unicorn":
                raise Unavailable("KVM is not wanted", "")
            device = opened.enter_context(Kvm())
            vm = opened.enter_context(device.create_vm())
            slot = Slot(0, memory.size, memory.guest_address)
            cpu = opened.enter_context(KvmMachine(vm, [slot], PORTS)).cpus[0]
        except Unavailable:
            if name == "kvm":
                raise
            cpu = UnicornCpu(memory.guest_address, memory.size)
            opened.callback(cpu.close)
        yield OnCpu(cpu, f"{cpu.backend} ({cpu.level})")


class Doorbells:
    """sampling.Timed: a guest that writes a port again and again, answered with nothing."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu

    def time(self, rounds: int) -> list[float]:
        """One row: ns from one exit to the next."""
        rung = 0

        def out(port: int, value: int) -> None:
            nonlocal rung
            rung += 1
            if rung > rounds:
                self._cpu.stop()

        self._cpu.start(0)
        start = time.perf_counter_ns()
        stop = self._cpu.run(out)
        spent = time.perf_counter_ns() - start
        if stop.kind is not ExitKind.ENDED:
            raise GuestStopped(stop.why, self._cpu.rip(), stop.gpa)
        return [spent / (rounds + 1)]


class Calls:
    """sampling.Timed: a call of a Python function that does nothing."""

    def __init__(self, function: Callable[[int], None]) -> None:
        self._function = function

    def time(self, rounds: int) -> list[float]:
        function = self._function
        start = time.perf_counter_ns()
        for _ in range(rounds):
            function(0)
        return [(time.perf_counter_ns() - start) / rounds]


def hops(exits: Array, calls: Array, label: str) -> dict[str, Found]:
    """The four edges, from samples of an exit with its way back, and of a call of the host's function."""
    exit_ = Spread.of(exits).times(0.5)
    call = Spread.of(calls).times(0.5)
    way = f"half of an OUT to this process and back, on {label}"
    handed = "half of a call of a Python function: warden and host share a process here"
    return {"hop_guest_hyp": Found(exit_, way), "hop_hyp_guest": Found(exit_, way),
            "hop_hyp_host": Found(call, handed), "hop_host_hyp": Found(call, handed)}


MEMORY = PAGE_SIZE
"""Bytes that the guest of a calibration has."""
