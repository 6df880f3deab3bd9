"""What calibration times on a CPU: exits of a guest to its warden and back, and the entries of its second stage."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from pagewarden.guest.hypercalls import HYPERCALL
from pagewarden.guest.listing import Code
from pagewarden.guest.serve import Guest
from pagewarden.guest.watchdog import watchdog
from pagewarden.kernel.door import syscall
from pagewarden.memory import PrivateMemory
from pagewarden.port import Cpu
from pagewarden.studies.calibrate.library import elsewhere
from pagewarden.studies.calibrate.sampling import Array, Spread, StraightLine, Timed
from pagewarden.studies.calibrate.scripts import SIZES, PriceFound, positive
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


class Exits:
    """sampling.Timed: a guest that does something and writes a port again and again, and what the host does then.

    Two rows: ns from the end of an answer to the beginning of the next, and of that one. What comes before the first
    answer's end is not in them: it meets cold caches.
    """

    clock = staticmethod(time.perf_counter_ns)

    def __init__(self, cpu: Cpu, at: int = 0, answer: Callable[[], object] = elsewhere) -> None:
        """at: the gpa of the guest's code."""
        self._cpu, self._at, self._answer = cpu, at, answer

    def time(self, rounds: int) -> list[float]:
        """sampling.Timed."""
        self._begins, self._ends, self._rounds = list[int](), list[int](), rounds
        self._run()
        begins, ends = np.array(self._begins), np.array(self._ends)
        return [float((begins[1:] - ends[:-1]).mean()), float((ends - begins)[1:].mean())]

    def _run(self) -> None:
        self._cpu.start(self._at)
        stop = self._cpu.run(lambda port, value: self._note())
        if stop.kind is not ExitKind.ENDED:
            raise GuestStopped(stop.why, self._cpu.rip(), stop.gpa)

    def _note(self) -> None:
        self._begins.append(self.clock())
        self._answer()
        if len(self._begins) > self._rounds:
            self._cpu.stop()
        self._ends.append(self.clock())


class ServedCalls(Exits):
    """The same exits as calls that `serve` takes from the guest and answers."""

    def _run(self) -> None:
        guest = Guest(self._cpu, Code(0, RING, {}), self, self._rounds + 8)
        with watchdog(self._cpu.kick, 60) as guest.runs:
            self._cpu.run(guest.out)

    def hypercall(self, number: int, arguments: tuple[int, int, int]) -> int:
        """serve.Hypervisor."""
        self._note()
        return 0

    def doorbell(self, queue: int) -> None:
        """serve.Hypervisor; never rung."""


class Copies(Exits):
    """A guest that copies before every other write of the port: ns from answer to write with a copy between, and
    without; the first pair is not counted. By this thread's own time: a slice may end in the middle of a copy."""

    clock = staticmethod(time.thread_time_ns)

    def time(self, rounds: int) -> list[float]:
        """sampling.Timed."""
        super().time(2 * rounds + 2)
        between = np.array(self._begins[1:]) - self._ends[:-1]
        return [float(between[first::2].mean()) for first in (3, 2)]


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


LENGTHS = SIZES[2:]
"""Pages of the copies that are timed: beside an exit a shorter one is not seen."""
_SOURCE, _TARGET = 1, SIZES[-1] + 73
"""Pages where their ends start. An emulator's TLB is a small direct-mapped table: ends that lie a multiple of
its entries apart would push each other out with every word, as the buffers of a 1 MiB request do on Unicorn."""
_CODE = PAGE_SIZE // 8
"""Bytes between two programs of the guest."""
MEMORY = (_TARGET + SIZES[-1]) * PAGE_SIZE
"""Bytes that the guest of a calibration has: its code, and the two ends of the longest copy."""


def guest_scripts(on: OnCpu, memory: PrivateMemory, disk: int) -> dict[str, Timed]:
    """What is timed on a CPU whose guest has this memory of MEMORY bytes. disk: the fd that the host writes to."""
    made: dict[str, Timed] = {"cpu/exit": Exits(on.cpu), "cpu/call": ServedCalls(on.cpu)}
    memory.populate(0, RING)
    target = memory.guest_address + _TARGET * PAGE_SIZE
    for number, pages in enumerate(LENGTHS, 1):
        length = pages * PAGE_SIZE
        memory.populate(number * _CODE, copying(_SOURCE * PAGE_SIZE, _TARGET * PAGE_SIZE, length))
        made[f"cpu/copy/{pages}"] = Copies(on.cpu, number * _CODE, partial(_served, disk, target, length))
    return made


def _served(disk: int, address: int, length: int) -> None:
    elsewhere()
    syscall("pwrite64", disk, address, length, 0)


def guest_prices(taken: Mapping[str, Array], label: str) -> dict[str, PriceFound]:
    """The hops, and what copies by this CPU take: of bytes that were not used just before, into a buffer that the host
    writes to a file between, so that lines and translations are as far away as a request's."""
    copies = np.stack([np.subtract(*taken[f"cpu/copy/{pages}"]) for pages in LENGTHS])
    line = StraightLine.through([pages * PAGE_SIZE for pages in LENGTHS], copies)
    made = hops(taken["cpu/exit"][0], taken["library/clock"][0], label)
    how = f"REP MOVSQ on {label} into a buffer that the host writes to a file between"
    made["guest_copies"] = PriceFound(positive(line.fixed), f"{how}, its fixed part", line.bend)
    made["guest_copy_warm"] = PriceFound(positive(line.unit, MEMORY), f"{how}, its rise a byte", line.bend)
    return made


def call_price(taken: Mapping[str, Array], label: str) -> dict[str, PriceFound]:
    """What this library adds to an exit that is a call of the guest: to read its arguments and to answer."""
    spread = Spread.of(taken["cpu/call"][0] - np.median(taken["cpu/exit"][0]))
    return {
        "hypercalls": PriceFound(positive(spread), f"a call served through this library beside its exit, on {label}")
    }


def copying(source: int, target: int, length: int) -> bytes:
    """Machine code: copy words with REP MOVSQ, write the port, write it again, and all that again."""
    ends = (b"\x48" + code + at.to_bytes(8, "little") for code, at in ((b"\xbe", source), (b"\xbf", target)))
    port = b"\xba" + HYPERCALL.to_bytes(4, "little") + bytes.fromhex("31c0 ef ef")
    body = b"".join(ends) + b"\xb9" + (length // 8).to_bytes(4, "little") + bytes.fromhex("f348a5") + port
    return body + b"\xeb" + (-len(body) - 2).to_bytes(1, "little", signed=True)
