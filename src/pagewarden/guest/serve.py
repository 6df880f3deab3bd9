"""Run a guest on a CPU and answer it: ports become hypercalls and doorbells, its end a result or a clear report."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pagewarden.guest.hypercalls import DOORBELL, HYPERCALL, GuestReport, Number
from pagewarden.guest.listing import Code
from pagewarden.guest.unicorn_cpu import UnicornCpu
from pagewarden.guest.watchdog import watchdog
from pagewarden.port import Cpu
from pagewarden.vocab import Exit, ExitKind, GuestStopped, InternalError, PagewardenError


class Hypervisor(Protocol):
    """Who answers a guest. hypercall returns what the guest finds in rax: 0, or a negative errno.

    Either may raise a PagewardenError to end the guest (a device that needs a reset).
    """

    def hypercall(self, number: int, arguments: tuple[int, int, int]) -> int: ...
    def doorbell(self, queue: int) -> None: ...


@dataclass
class Guest:
    """A guest's code on a CPU, and who answers it.

    limit: how many times it may write a port (Program.outs): a guest that says more has lost its way. runs: told False
    when the host has it, True when the guest goes on.
    """

    cpu: Cpu
    code: Code
    hypervisor: Hypervisor
    limit: int
    runs: Callable[[bool], None] = lambda guest: None
    outs: int = 0
    outcome: GuestReport | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.cpu.start(self.code.base)

    def out(self, port: int, value: int) -> None:
        """The guest wrote a port."""
        self.runs(False)
        self.outs += 1
        if self.outs > self.limit:
            raise self.stopped(f"it wrote a port {self.outs} times, its program does {self.limit} times")
        try:
            self._answer(port, value)
            self.runs(True)
        except (GuestStopped, InternalError):
            raise
        except PagewardenError as error:
            raise self.stopped(str(error)) from error

    def _answer(self, port: int, value: int) -> None:
        if port == DOORBELL:
            self.hypervisor.doorbell(value)
        elif port == HYPERCALL:
            arguments = self.cpu.arguments()
            self.cpu.reply(self.hypervisor.hypercall(value, arguments))
            self._note_the_end(value, arguments)
        else:
            raise self.stopped(f"it wrote {value:#x} to port {port:#x}, where nothing is")

    def _note_the_end(self, number: int, arguments: tuple[int, int, int]) -> None:
        if number == Number.ABORT:
            call, answer, gfn = arguments
            raise self.stopped(f"hypercall {call} for gfn {gfn:#x} was answered {_signed(answer)}")
        if number == Number.DONE:
            self.outcome = GuestReport(*arguments)
            self.cpu.stop()

    def end(self, stop: Exit) -> GuestReport:
        """The result, when the CPU stopped because the guest was done; else raises GuestStopped."""
        if self.outcome is not None:
            return self.outcome
        if stop.kind is ExitKind.KICKED:
            raise self.stopped("it made no progress and was kicked", advice="an endless loop, or a device that is gone")
        raise self.stopped(f"{stop.kind.value}: {stop.why}", stop.gpa)

    def stopped(self, why: str, gpa: int | None = None, advice: str = "") -> GuestStopped:
        """The report, with the step of the program where it was."""
        rip = self.cpu.rip()
        step = self.code.step_at(rip)
        return GuestStopped(why + (f", during {step}" if step else ""), rip, gpa, advice)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def serve(guest: Guest, patience: float = 10.0) -> GuestReport:
    """Run the guest to its end; it may run for `patience` seconds at most between two writes of a port.

    Raises GuestStopped for every other end.
    """
    with watchdog(guest.cpu.kick, patience) as guest.runs:
        return guest.end(guest.cpu.run(guest.out))


def interleave(guests: Sequence[Guest], seed: int, longest: int = 1000, slices: int = 1_000_000) -> list[GuestReport]:
    """Run guests on emulated CPUs by turns on this thread, in an order and with instruction budgets (1 to `longest`)
    drawn from the seed: the same seed gives the same interleaving. GuestStopped after so many slices."""
    draw = random.Random(seed)
    outcomes: dict[int, GuestReport] = {}
    for _ in range(slices):
        waiting = [n for n in range(len(guests)) if n not in outcomes]
        if not waiting:
            return [outcomes[n] for n in range(len(guests))]
        turn = draw.choice(waiting)
        guest = guests[turn]
        assert isinstance(guest.cpu, UnicornCpu), "only an emulated CPU counts its instructions"
        stop = guest.cpu.run(guest.out, draw.randint(1, longest))
        if stop.kind is not ExitKind.SLICE:
            outcomes[turn] = guest.end(stop)
    raise guests[turn].stopped(f"{slices} slices were not enough")
