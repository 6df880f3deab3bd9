"""The filter as the kernel reads it, on each architecture, by an interpreter of its own; and the tables of numbers.

What is judged here runs nowhere: on x86-64 tests/attacks make the same calls for real, on arm64 this is all there is.
"""

import errno
import re
from itertools import product
from pathlib import Path

import pytest

from pagewarden.abi import memory_seccomp as bpf
from pagewarden.abi.memory_syscalls import LAST, SYSCALLS
from pagewarden.memory.isolated.allowed import ALLOWED, THREAD, Self
from pagewarden.memory.isolated.room import program_for
from pagewarden.vocab import Unavailable

OWN = Self(7, (65, 66), True)
HEADERS = {"x86_64": "x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "asm-generic/unistd.h"}
NOT_OF_64_BITS = re.compile(r"arch_specific_syscall|sync_file_range2|syscalls|.*_time64|.*time64|clock_.*64|timer.*64")
ALLOW, KILL, EPERM, ENOSYS = (
    bpf.SECCOMP_RET_ALLOW,
    bpf.SECCOMP_RET_KILL_PROCESS,
    bpf.SECCOMP_RET_ERRNO | errno.EPERM,
    bpf.SECCOMP_RET_ERRNO | errno.ENOSYS,
)


def judged(machine: str, number: int, *arguments: int, arch: str = "", own: Self = OWN) -> int:
    """What the filter returns: struct seccomp_data is nr, arch, instruction pointer, six arguments."""
    words = [number, bpf.AUDIT_ARCH[arch or machine], 0, 0]
    for argument in (*arguments, *[0] * (6 - len(arguments))):
        words += [argument & 0xFFFFFFFF, argument >> 32 & 0xFFFFFFFF]
    lines, at, accumulator = program_for(own, machine), 0, 0
    while True:
        code, jump_true, jump_false, k = lines[at]
        at += 1
        if code == bpf.BPF_LD_W_ABS:
            accumulator = words[k // 4]
        elif code == bpf.BPF_ALU_AND_K:
            accumulator &= k
        elif code == bpf.BPF_RET_K:
            return k
        else:
            held = {
                bpf.BPF_JMP_JEQ_K: accumulator == k,
                bpf.BPF_JMP_JGT_K: accumulator > k,
                bpf.BPF_JMP_JSET_K: bool(accumulator & k),
            }[code]
            at += jump_true if held else jump_false


GOOD: dict[str, tuple[int, ...]] = {
    "newfstatat": (0, 0, 0, 0x1000),
    "fcntl": (0, 1030, 64),
    "mmap": (0, 4096, 3, 0x22, 0xFFFFFFFF, 0),
    "madvise": (0, 4096, 4),
    "clone": (THREAD,),
    "prctl": (15,),
    "tgkill": (7, 7, 6),
    "getsockopt": (0, 1, 3),
    "futex": (0, 128),
}
"""Arguments that the conditions hold for, where zeroes are none."""
BAD: dict[str, list[tuple[int, ...]]] = {
    "pwritev2": [(0, 0, 0, 0, 0, 0x20)],  # RWF_NOAPPEND
    "futex": [(0, 6), (0, 13)],
    "pipe2": [(0, 0o200)],  # O_NOTIFICATION_PIPE
    "sendto": [(0, 0, 0, 0, 1), (0, 0, 0, 0, 1 << 32), (0, 0, 0, 0x4000000), (0, 0, 0, 1)],  # MSG_ZEROCOPY, MSG_OOB
    "recvfrom": [(0, 0, 0, 1), (0, 0, 0, 0x2000)],
    "recvmsg": [(0, 0, 1)],
    "getsockopt": [(0, 1, 77), (0, 6, 35), (0, 6, 3)],  # SO_PEERPIDFD, TCP_ZEROCOPY_RECEIVE
    "close": [(65,), (66,), (65 | 1 << 32,)],
    "dup2": [(0, 65)],
    "dup3": [(0, 66)],
    "newfstatat": [(0, 0, 0, 0)],
    "fcntl": [(0, 4), (0, 8), (0, 1031), (0, 1033)],
    "mmap": [(0, 4096, 3, flag | 0x22) for flag in (0x2000, 0x8000, 0x40000, 0x100)],  # LOCKED, POPULATE, HUGETLB
    "madvise": [(0, 4096, advice) for advice in (9, 11, 14, 22, 23, 25)],
    "memfd_create": [(0, 4)],
    "clone": [(THREAD & ~0x400,), (17,), (THREAD | 1 << 40,), (THREAD | 0x10000000,)],
    "prctl": [(1,), (4,), (22,)],
    "tgkill": [(8, 8, 9), (1, 1, 9)],
    "prlimit64": [(8,), (0, 0, 1), (0, 0, 1 << 40)],
    "sched_getaffinity": [(8,)],
}


@pytest.mark.parametrize("machine", SYSCALLS)
def test_each_call_of_the_table_goes_through_and_no_other(machine: str) -> None:
    numbers = SYSCALLS[machine].items()
    through = {name for name, number in numbers if judged(machine, number, *GOOD.get(name, ())) == ALLOW}
    assert through == {entry.name for entry in ALLOWED} & set(SYSCALLS[machine])
    assert {"read", "futex", "mmap", "clone", "exit_group", "ppoll"} <= through
    nameless = set(range(LAST[machine] + 1)) - set(SYSCALLS[machine].values())
    assert {judged(machine, number) for number in nameless} == {EPERM}
    assert {judged(machine, n) for n in (LAST[machine] + 1, 0x40000000, 1 << 31, 0xFFFFFFFF)} == {ENOSYS}
    assert judged(machine, SYSCALLS[machine]["clone3"]) == ENOSYS


@pytest.mark.parametrize(("machine", "name"), [each for each in product(SYSCALLS, BAD) if each[1] in SYSCALLS[each[0]]])
def test_each_condition_bites(machine: str, name: str) -> None:
    for arguments in BAD[name]:
        assert judged(machine, SYSCALLS[machine][name], *arguments) == EPERM, arguments


def test_every_condition_has_arguments_that_break_it() -> None:
    unconditional = {entry.name for entry in ALLOWED if not entry.conditions}
    assert {entry.name for entry in ALLOWED} - unconditional == set(BAD) | {"preadv2"}


@pytest.mark.parametrize("machine", SYSCALLS)
def test_names_of_files_are_not_asked_about_where_there_are_any(machine: str) -> None:
    number = SYSCALLS[machine]["newfstatat"]
    assert judged(machine, number, 0, 0, 0, 0x1000, own=OWN._replace(rootless=False)) == EPERM


def test_another_architectures_calls_end_the_process() -> None:
    for machine, other in product(SYSCALLS, SYSCALLS):
        if machine != other:
            assert judged(machine, 0, arch=other) == KILL


def test_a_machine_without_a_table_is_refused() -> None:
    with pytest.raises(Unavailable, match="no seccomp filter for vax"):
        program_for(OWN, "vax")


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_those_of_the_headers_here(machine: str) -> None:
    header = Path("/usr/include") / HEADERS[machine]
    if not header.exists():
        pytest.skip(f"no {header}: the C library's headers are not installed")
    found = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)\s*$", header.read_text(), re.MULTILINE)
    theirs = {name: int(number) for name, number in found if not NOT_OF_64_BITS.fullmatch(name)}
    theirs.update({"newfstatat": theirs.pop("fstatat")} if "fstatat" in theirs else {})
    assert len(theirs) > 250
    assert {name: SYSCALLS[machine].get(name) for name in theirs} == theirs


def test_the_document_counts_them() -> None:
    assert (
        f"{len(ALLOWED)} calls and the page fault handler"
        in (Path(__file__).parents[3] / "docs" / "isolation.md").read_text()
    )
