"""What calibration times on a CPU: exits of a guest to its warden and back, and the entries of its second stage."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from pagewarden.guest.hypercalls import HYPERCALL
from pagewarden.memory import PrivateMemory
from pagewarden.port import Cpu
from pagewarden.studies.calibrate.sampling import Array, Spread, Timed
from pagewarden.studies.calibrate.scripts import PriceFound, positive
from pagewarden.studies.run.machine import cpu_for
from pagewarden.vocab import PAGE_SIZE, ExitKind, GuestStopped, Unavailable, one_of

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
    one_of("CPU", name, CPUS)
    with ExitStack() as opened:
        try:
            cpu = opened.enter_context(cpu_for("kvm" if name == "auto" else name, memory))
        except Unavailable:
            if name != "auto":
                raise
            cpu = opened.enter_context(cpu_for("unicorn", memory))
        yield OnCpu(cpu, f"{cpu.backend} ({cpu.level})")


class Doorbells:
    """sampling.Timed: a guest that does something and writes a port again and again, answered with nothing."""

    def __init__(self, cpu: Cpu, at: int = 0) -> None:
        """at: the gpa of its code."""
        self._cpu, self._at = cpu, at

    def time(self, rounds: int) -> list[float]:
        """One row: ns from one exit to the next, and what the guest does between."""
        rung = 0

        def out(port: int, value: int) -> None:
            nonlocal rung
            rung += 1
            if rung > rounds:
                self._cpu.stop()

        self._cpu.start(self._at)
        start = time.perf_counter_ns()
        stop = self._cpu.run(out)
        spent = time.perf_counter_ns() - start
        if stop.kind is not ExitKind.ENDED:
            raise GuestStopped(stop.why, self._cpu.rip(), stop.gpa)
        return [spent / (rounds + 1)]


def hops(exits: Array, calls: Array, label: str) -> dict[str, PriceFound]:
    """The four edges, from samples of an exit with its way back, and of a call of the host's function."""
    exit_, call = (positive(Spread.of(taken).times(0.5)) for taken in (exits, calls))
    way = f"half of an OUT to this process and back, on {label}"
    handed = "half of a call of a Python function: warden and host share a process here"
    return {
        "hop_guest_hyp": PriceFound(exit_, way),
        "hop_hyp_guest": PriceFound(exit_, way),
        "hop_hyp_host": PriceFound(call, handed),
        "hop_host_hyp": PriceFound(call, handed),
    }


LENGTHS = (4 * PAGE_SIZE, 64 * PAGE_SIZE)
"""Bytes of the copies that are timed."""
_SOURCE, _TARGET = 1, 72
"""Pages where they start. An emulator's TLB is a small direct-mapped table: ends that lie a multiple of its entries
apart would push each other out with every word, as the buffers of a 1 MiB request do on Unicorn."""
_CODE = PAGE_SIZE // 4
"""Bytes between two programs of the guest."""
MEMORY = 136 * PAGE_SIZE
"""Bytes that the guest of a calibration has: its code, and the two ends of the longest copy."""


def guest_scripts(on: OnCpu, memory: PrivateMemory) -> dict[str, Timed]:
    """What is timed on a CPU whose guest has this memory of MEMORY bytes."""
    made: dict[str, Timed] = {"cpu/exit": Doorbells(on.cpu)}
    memory.populate(0, RING)
    for number, length in enumerate(LENGTHS, 1):
        memory.populate(number * _CODE, copying(_SOURCE * PAGE_SIZE, _TARGET * PAGE_SIZE, length))
        made[f"cpu/copy/{length}"] = Doorbells(on.cpu, number * _CODE)
    return made


def guest_prices(taken: Mapping[str, Array], label: str) -> dict[str, PriceFound]:
    """The hops, and the rate at which this CPU copies."""
    exits, short, long = (taken[name][0] for name in ("cpu/exit", *(f"cpu/copy/{length}" for length in LENGTHS)))
    rise = (long - np.median(short)) / (LENGTHS[1] - LENGTHS[0])
    fixed = Spread.of(short - np.median(exits) - np.median(rise) * LENGTHS[0])
    made = hops(exits, taken["library/clock"][0], label)
    made["guest_copies"] = PriceFound(positive(fixed), f"REP MOVSQ on {label}, its fixed part")
    made["guest_copy_warm"] = PriceFound(
        positive(Spread.of(rise), LENGTHS[1]), f"REP MOVSQ on {label}, its rise a byte"
    )
    return made


def copying(source: int, target: int, length: int) -> bytes:
    """Machine code: copy words with REP MOVSQ, write the port, again."""
    body = (
        b"\x48\xbe"
        + source.to_bytes(8, "little")
        + b"\x48\xbf"
        + target.to_bytes(8, "little")
        + b"\xb9"
        + (length // 8).to_bytes(4, "little")
        + bytes.fromhex("f348a5")
        + b"\xba"
        + HYPERCALL.to_bytes(4, "little")
        + bytes.fromhex("31c0 ef")
    )
    return body + b"\xeb" + (-len(body) - 2).to_bytes(1, "little", signed=True)
