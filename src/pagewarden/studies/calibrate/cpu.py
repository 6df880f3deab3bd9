"""What calibration times on a CPU alone: exits of a guest to its warden and back."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from pagewarden.guest.hypercalls import HYPERCALL
from pagewarden.memory import PrivateMemory
from pagewarden.port import Cpu
from pagewarden.studies.calibrate.sampling import Array, Spread
from pagewarden.studies.calibrate.scripts import PriceFound, positive
from pagewarden.studies.run.machine import cpu_for
from pagewarden.vocab import PAGE_SIZE, ExitKind, GuestStopped, Unavailable, one_of

CPUS = ("auto", "kvm", "unicorn", "none")
RING = b"\xba" + HYPERCALL.to_bytes(4, "little") + bytes.fromhex("31c0 ef ebfd")
"""mov edx, HYPERCALL; xor eax, eax; again: out dx, eax; jmp again"""


@dataclass(frozen=True, slots=True)
class OnCpu:
    """A CPU as every number of it is labelled, and its kind."""

    cpu: Cpu
    label: str
    kind: str


@contextmanager
def cpu_named(name: str) -> Iterator[OnCpu]:
    """A CPU of a guest that does nothing but write a port; auto: KVM if this host has it. Unavailable, UserMistake."""
    one_of("CPU", name, CPUS)
    with ExitStack() as opened:
        memory = opened.enter_context(PrivateMemory(PAGE_SIZE, "memfd"))
        memory.populate(0, RING)
        kind = "kvm" if name == "auto" else name
        try:
            cpu = opened.enter_context(cpu_for(kind, memory))
        except Unavailable:
            if name != "auto":
                raise
            kind = "unicorn"
            cpu = opened.enter_context(cpu_for(kind, memory))
        yield OnCpu(cpu, f"{cpu.backend} ({cpu.level})", kind)


_TEXT = json.dumps([{"a": [1, 2.5, "b"], "c": {"d": None}}] * 40)
_ROOM = (bytearray(256 << 10), bytearray(256 << 10))


def elsewhere() -> None:
    """Other work, of the interpreter and in memory: between two exits of a request the device does as much, so that
    code and data of each are no longer in the nearest caches. A price that is timed back to back is too low for it."""
    json.loads(_TEXT)
    _ROOM[0][:] = _ROOM[1]


def nothing() -> None:
    """The host's function, as far as it is called: warden and host share a process here."""


class Exits:
    """sampling.Timed: a guest that writes a port again and again. Two rows: ns from the end of an answer to the
    beginning of the next, without the first, which meets cold caches; and of a call of the host's function."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu

    def time(self, rounds: int) -> list[float]:
        """sampling.Timed."""
        self._begins, self._ends, self._calls, self._rounds = list[int](), list[int](), list[int](), rounds
        self._cpu.start(0)
        stop = self._cpu.run(lambda port, value: self._note())
        if stop.kind is not ExitKind.ENDED:
            raise GuestStopped(stop.why, self._cpu.rip(), stop.gpa)
        between = np.array(self._begins[1:]) - self._ends[:-1]
        return [float(between.mean()), float(np.mean(self._calls))]

    def _note(self) -> None:
        now = time.perf_counter_ns
        self._begins.append(now())
        elsewhere()
        before = now()
        nothing()
        self._calls.append(now() - before)
        if len(self._begins) > self._rounds:
            self._cpu.stop()
        self._ends.append(now())


def hops(taken: Mapping[str, Array], label: str) -> dict[str, PriceFound]:
    """The four edges, from samples of an exit with its way back, and of a call of the host's function."""
    exit_, call = (positive(Spread.of(row).times(0.5)) for row in taken["cpu/exit"])
    way = f"half of an OUT to this process and back, on {label}"
    handed = "half of a call of a Python function: warden and host share a process here"
    return {
        "hop_guest_hyp": PriceFound(exit_, way),
        "hop_hyp_guest": PriceFound(exit_, way),
        "hop_hyp_host": PriceFound(call, handed),
        "hop_host_hyp": PriceFound(call, handed),
    }
