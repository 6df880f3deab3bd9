"""A guest program as x86-64 machine code: one loop over the request table, a page at most, however many requests."""

from dataclasses import dataclass

from pagewarden.guest.assembler import Mem
from pagewarden.guest.emitter import Emitter
from pagewarden.guest.program import EPILOGUE, PROLOGUE, REQUEST, Act, Program
from pagewarden.guest.steps_x86 import EMIT, give_up


@dataclass(frozen=True, slots=True)
class Code:
    """Machine code to be placed at `base`, which is also its entry; marks: address of each step's code."""

    base: int
    content: bytes
    marks: dict[str, int]

    def step_at(self, rip: int) -> str:
        """Name of the step whose code holds this address, "" outside the code."""
        if not self.base <= rip < self.base + len(self.content):
            return ""
        return max((start, name) for name, start in self.marks.items() if start <= rip)[1]


def assemble(described: Program) -> Code:
    """The program's machine code. Unavailable without iced-x86."""
    to = Emitter(described)
    _start(to)
    _steps(to, PROLOGUE)
    to.asm.label("batch")
    _next_batch(to)
    _steps(to, described.steps)
    to.op("MOV_R64_RM64", "RBX", "RBP")
    to.op("CMP_R64_RM64", "RBX", "R12")
    to.jump("JB_REL32_64", "batch")
    _steps(to, EPILOGUE)
    to.asm.label("failed")
    give_up(to)
    content, marks = to.asm.encode(described.layout.base)
    return Code(described.layout.base, content, marks)


def _start(to: Emitter) -> None:
    to.asm.label("start")
    to.address("RBX", to.layout.table)
    to.address("R12", to.layout.table + to.program.requests.nbytes)
    to.op("MOV_R64_RM64", "R15", "RBX")
    for register in ("R9D", "R13D", "R14D"):
        to.op("XOR_R32_RM32", register, register)


def _next_batch(to: Emitter) -> None:
    to.op("LEA_R64_M", "RBP", Mem("RBX", to.program.batch * REQUEST.itemsize))
    to.op("CMP_R64_RM64", "RBP", "R12")
    to.op("CMOVA_R64_RM64", "RBP", "R12")


def _steps(to: Emitter, steps: tuple[Act, ...]) -> None:
    for step in steps:
        to.asm.label(step.value)
        EMIT[step](to)
