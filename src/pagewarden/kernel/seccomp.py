"""seccomp filters from conditions: classic BPF over struct seccomp_data, and nothing that reads memory."""

import errno
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from pagewarden.abi import memory_seccomp as bpf
from pagewarden.abi.memory_syscalls import LAST
from pagewarden.kernel.machine import NAME, audit_arch, syscalls

Instruction: TypeAlias = tuple[int, int, int, int]
"""code, jump if true, jump if false, constant."""
ALLOW: Instruction = (bpf.BPF_RET_K, 0, 0, bpf.SECCOMP_RET_ALLOW)


def fail(code: int) -> Instruction:
    """The system call is not made and has this errno."""
    return bpf.BPF_RET_K, 0, 0, bpf.SECCOMP_RET_ERRNO | code


DENY = fail(errno.EPERM)


class Condition(Protocol):
    """Something about one argument. `lines` fall through when it holds and end in a denial when it does not."""

    def lines(self) -> list[Instruction]: ...


def _load(argument: int, upper: bool = False) -> Instruction:
    """Half of an argument: on a little-endian machine the low half comes first."""
    return bpf.BPF_LD_W_ABS, 0, 0, bpf.SECCOMP_DATA_ARGS + 8 * argument + 4 * upper


def _equal(argument: int, value: int, upper: bool) -> list[Instruction]:
    return [_load(argument, upper), (bpf.BPF_JMP_JEQ_K, 1, 0, value), DENY]


class OneOf(NamedTuple):
    """An argument that the kernel takes as 32 bits is, where the mask has bits, one of the values."""

    argument: int
    values: Sequence[int]
    mask: int = 0xFFFFFFFF

    def lines(self) -> list[Instruction]:
        masked = [(bpf.BPF_ALU_AND_K, 0, 0, self.mask)] if self.mask != 0xFFFFFFFF else []
        tests = [(bpf.BPF_JMP_JEQ_K, len(self.values) - i, 0, value) for i, value in enumerate(self.values)]
        return [_load(self.argument), *masked, *tests, DENY]


class NoneOf(NamedTuple):
    """A 32-bit argument is none of the values."""

    argument: int
    values: Sequence[int]

    def lines(self) -> list[Instruction]:
        count = len(self.values)
        tests = [(bpf.BPF_JMP_JEQ_K, count - i - 1, int(i == count - 1), v) for i, v in enumerate(self.values)]
        return [_load(self.argument), *tests, DENY]


class AllOf(NamedTuple):
    """A 32-bit argument has the bit."""

    argument: int
    bit: int

    def lines(self) -> list[Instruction]:
        return [_load(self.argument), (bpf.BPF_JMP_JSET_K, 1, 0, self.bit), DENY]


class NothingBut(NamedTuple):
    """A 32-bit argument has none but these bits."""

    argument: int
    bits: int

    def lines(self) -> list[Instruction]:
        return [_load(self.argument), (bpf.BPF_JMP_JSET_K, 0, 1, ~self.bits & 0xFFFFFFFF), DENY]


class Equal(NamedTuple):
    """A 64-bit argument is the value."""

    argument: int
    value: int

    def lines(self) -> list[Instruction]:
        return [
            *_equal(self.argument, self.value & 0xFFFFFFFF, False),
            *_equal(self.argument, self.value >> 32, True),
        ]


class Zero(NamedTuple):
    """A 64-bit argument, a pointer say, is 0."""

    argument: int

    def lines(self) -> list[Instruction]:
        return Equal(self.argument, 0).lines()


def program(
    allowed: Iterable[tuple[str, Sequence[Condition]]], other: Iterable[tuple[str, int]] = (), machine: str = NAME
) -> tuple[Instruction, ...]:
    """A filter that lets the named system calls through when all their conditions hold and denies all the rest.

    other: calls with an errno of their own. machine: as uname(2) calls it, this one by default. Names that it does not
    have are left out; a number newer than its table, x32's too, is ENOSYS; another architecture's calls end the
    process. Unavailable on a machine whose table is missing.
    """
    arch, numbers = audit_arch(machine), syscalls(machine)
    lines: list[Instruction] = [
        (bpf.BPF_LD_W_ABS, 0, 0, bpf.SECCOMP_DATA_ARCH),
        (bpf.BPF_JMP_JEQ_K, 1, 0, arch),
        (bpf.BPF_RET_K, 0, 0, bpf.SECCOMP_RET_KILL_PROCESS),
        (bpf.BPF_LD_W_ABS, 0, 0, bpf.SECCOMP_DATA_NR),
        (bpf.BPF_JMP_JGT_K, 0, 1, LAST[machine]),
        fail(errno.ENOSYS),
    ]
    bodies = [
        (name, [*(line for condition in conditions for line in condition.lines()), ALLOW])
        for name, conditions in allowed
    ]
    bodies += [(name, [fail(code)]) for name, code in other]
    for name, body in bodies:
        if name in numbers:
            lines += [(bpf.BPF_JMP_JEQ_K, 0, len(body), numbers[name]), *body]
    return (*lines, DENY)
