"""A list of x86-64 instructions with labels. iced-x86 encodes them; it is loaded when the first one is put down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pagewarden.vocab import Unavailable


@dataclass(frozen=True, slots=True)
class Mem:
    """A memory operand: [base + index * scale + displacement], registers by name."""

    base: str
    displacement: int = 0
    index: str = ""
    scale: int = 1


Operand = str | int | Mem
"""A register by name ("RAX"), a constant, a memory operand."""


class Assembler:
    """Instructions by the names of iced-x86's Code, so that each line says which encoding it is."""

    def __init__(self) -> None:
        try:
            import iced_x86
        except ImportError as error:
            raise Unavailable("iced-x86 is not installed", "pip install pagewarden[guest]") from error
        self._iced: Any = iced_x86
        self._instructions: list[Any] = []
        self._labels: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []
        self._names = 0

    def new_label(self) -> str:
        """A name that no other label has."""
        self._names += 1
        return f".{self._names}"

    def label(self, name: str) -> None:
        """The next instruction is called so."""
        self._labels[name] = len(self._instructions) + 1

    def op(self, code: str, *operands: Operand) -> None:
        """An instruction: ("MOV_R64_RM64", "RAX", Mem("RBX", 8))."""
        kinds = "".join(f"_{self._kind(code, operand)}" for operand in operands)
        create = getattr(self._iced.Instruction, f"create{kinds}")
        self._put(create(getattr(self._iced.Code, code), *map(self._operand, operands)))

    def jump(self, code: str, label: str) -> None:
        """A branch: ("JNE_REL32_64", label)."""
        self._jumps.append((len(self._instructions), label))
        self._put(self._iced.Instruction.create_branch(getattr(self._iced.Code, code), 0))

    def repeat(self, code: str, *operands: Operand) -> None:
        """A string instruction of 8-byte words with a REP prefix: ("movsq"), ("stosq")."""
        self._put(getattr(self._iced.Instruction, f"create_rep_{code}")(64, *operands))

    def encode(self, base: int) -> tuple[bytes, dict[str, int]]:
        """Machine code for this address, and the address of each named label."""
        for at, label in self._jumps:
            self._instructions[at].near_branch64 = self._labels[label]
        encoder = self._iced.BlockEncoder(64)
        encoder.add_many(self._instructions)
        code = encoder.encode(base)
        starts = [instruction.ip for instruction in self._iced.Decoder(64, code, ip=base)]
        named = {name: starts[n - 1] for name, n in self._labels.items() if not name.startswith(".")}
        return code, named

    def _put(self, instruction: Any) -> None:
        instruction.ip = len(self._instructions) + 1  # branch targets are given by number: BlockEncoder resolves them
        self._instructions.append(instruction)

    def _kind(self, code: str, operand: Operand) -> str:
        if isinstance(operand, Mem):
            return "mem"
        if isinstance(operand, str):
            return "reg"
        return "u64" if code.endswith("IMM64") else "i32"

    def _operand(self, operand: Operand) -> Any:
        if isinstance(operand, Mem):
            index = self._register(operand.index) if operand.index else self._iced.Register.NONE
            return self._iced.MemoryOperand(
                self._register(operand.base),
                index,
                operand.scale,
                operand.displacement,
                8 if operand.displacement else 0,
            )
        return self._register(operand) if isinstance(operand, str) else operand

    def _register(self, name: str) -> Any:
        return getattr(self._iced.Register, name)
