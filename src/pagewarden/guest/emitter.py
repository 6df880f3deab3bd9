"""What the machine code of a guest program is written with: an assembler that knows the layout and the registers.

Registers that live as long as the program: rbx first request of the batch, rbp end of the batch, r12 end of the table,
r13 requests posted, r14 failures, r15 first request that failed, r9 I/O entries added. r11 is the request at hand.
No stack, no calls; every address is a constant of the layout.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pagewarden.guest.assembler import Assembler, Mem
from pagewarden.guest.hypercalls import HYPERCALL, Number
from pagewarden.guest.program import REQUEST, Program
from pagewarden.vocab import PAGE_SIZE

_PAGE_SHIFT = PAGE_SIZE.bit_length() - 1


def field(name: str) -> Mem:
    """A field of the request at hand."""
    assert REQUEST.fields is not None
    return Mem("R11", REQUEST.fields[name][1])


SECTOR, WORD, LENGTH = field("sector"), field("word"), field("length")
PAGE, SLOT, WRITE = field("page"), field("slot"), field("write")
_LAST_PAGE, _LAST_PAGES = (Mem("RBP", field(name).displacement - REQUEST.itemsize) for name in ("page", "pages"))


def low(register: str) -> str:
    """The low 32 bits of a 64-bit register, by name."""
    return register + "D" if register[1].isdigit() else register.replace("R", "E", 1)


class Emitter:
    """Puts down instructions for one program; a step's code may use rax, rcx, rdx, rsi, rdi, r8, r10 freely."""

    def __init__(self, described: Program) -> None:
        self.asm = Assembler()
        self.op, self.jump = self.asm.op, self.asm.jump
        self.program, self.layout = described, described.layout

    def address(self, register: str, value: int) -> None:
        self.op("MOV_R64_IMM64", register, value)

    def hypercall(self, number: Number) -> None:
        """With rdi, rsi, r10 set; goes to `failed` unless the answer is 0."""
        self.op("MOV_R32_IMM32", "R8D", int(number))
        self.out(HYPERCALL, int(number))
        self.op("TEST_RM64_R64", "RAX", "RAX")
        self.jump("JNE_REL32_64", "failed")

    def out(self, port: int, value: int) -> None:
        self.op("MOV_R32_IMM32", "EAX", value)
        self.op("MOV_R32_IMM32", "EDX", port)
        self.op("OUT_DX_EAX", "DX", "EAX")

    def buffer(self, register: str, region: int) -> None:
        """Address of the request's buffer in a region of data pages; rax is lost."""
        self.op("MOV_R32_RM32", low(register), PAGE)
        self.op("SHL_RM64_IMM8", register, _PAGE_SHIFT)
        self.address("RAX", region)
        self.op("ADD_R64_RM64", register, "RAX")

    def words(self) -> None:
        """rcx: words of the request's buffer."""
        self.op("MOV_R32_RM32", "ECX", LENGTH)
        self.op("SHR_RM32_IMM8", "ECX", 3)

    def batch_pages(self, register: str) -> None:
        """Pages of the batch's buffers: they lie in a row, the last request's come last."""
        self.op("MOV_R32_RM32", register, _LAST_PAGE)
        self.op("ADD_R32_RM32", register, _LAST_PAGES)

    @contextmanager
    def each(self) -> Iterator[str]:
        """A loop over the batch's requests; yields the label of its end, for `continue`."""
        top, end = self.asm.new_label(), self.asm.new_label()
        self.op("MOV_R64_RM64", "R11", "RBX")
        self.asm.label(top)
        yield end
        self.asm.label(end)
        self.op("ADD_RM64_IMM8", "R11", REQUEST.itemsize)
        self.op("CMP_R64_RM64", "R11", "RBP")
        self.jump("JB_REL32_64", top)

    @contextmanager
    def counted(self, counter: str) -> Iterator[None]:
        """A loop of as many rounds as the counter says, at least one."""
        top = self.asm.new_label()
        self.asm.label(top)
        yield
        self.op("DEC_RM64", counter)
        self.jump("JNE_REL32_64", top)

    def unless_write(self, label: str, code: str = "JE_REL32_64") -> None:
        self.op("CMP_RM16_IMM8", WRITE, 0)
        self.jump(code, label)
