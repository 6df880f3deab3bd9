"""How a guest's CPU comes to a stop, in words that emulated and real CPUs share."""

from dataclasses import dataclass
from enum import Enum

from pagewarden.vocab.errors import PagewardenError


class ExitKind(Enum):
    """Why a CPU stopped running its guest."""

    ENDED = "ended"  # whoever serves the guest's ports asked it to stop
    FAULT = "fault"  # the guest touched memory that its stage-2, or its memslots, do not give it: gpa
    HALT = "halt"  # the guest executed HLT
    CRASH = "crash"  # an exception nobody handles (on hardware: a triple fault), or a state the CPU cannot run
    KICKED = "kicked"  # another thread stopped it
    SLICE = "slice"  # its budget of instructions is used up (emulated CPUs)


@dataclass(frozen=True, slots=True)
class Exit:
    """A stop: gpa is the address of a FAULT (None when the CPU does not say), why the CPU's own words."""

    kind: ExitKind
    why: str = ""
    gpa: int | None = None


class GuestStopped(PagewardenError):
    """A guest ended otherwise than by saying that it is done.

    rip: where it was, bytes (guest virtual); gpa: the address it touched, if that is why.
    """

    def __init__(self, why: str, rip: int, gpa: int | None = None, advice: str = "") -> None:
        where = f" at rip {rip:#x}" + ("" if gpa is None else f", gpa {gpa:#x}")
        super().__init__(f"the guest stopped: {why}{where}" + (f"; {advice}" if advice else ""))
        self.why, self.rip, self.gpa = why, rip, gpa
