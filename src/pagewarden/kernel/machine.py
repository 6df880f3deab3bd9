"""What is asked of the machine that runs, and what is for one kind of machine alone: here and nowhere else.

Numbers of system calls come by name from data (abi.memory_syscalls), a seccomp filter knows its architecture from
abi.memory_seccomp, and the size of a page is asked. Another machine needs its rows there. A guest is an x86-64 one
whatever the host is: an emulated CPU runs it anywhere, KVM where the host is x86-64 too.
"""

import platform
import resource
from collections.abc import Mapping

from pagewarden.abi.memory_seccomp import AUDIT_ARCH
from pagewarden.abi.memory_syscalls import SYSCALLS
from pagewarden.vocab import PAGE_SIZE, Unavailable

NAME = platform.machine()
"""As uname(2) calls it."""
X86_64_ONLY = {
    "abi.kvm_x86": "control registers, segments and page tables of a guest in long mode",
    "kernel.kvm": "registers that come with an exit (KVM_SYNC_X86_REGS), CPUID, segments",
    "kernel.kvm_x86": "a KVM CPU",
    "guest.assembler": "what a guest executes, as machine code",
    "guest.steps_x86": "the same for each step of a program",
    "guest.unicorn_cpu": "its emulated CPU; the host may be any",
    "studies.calibrate.cpu": "the machine code of a guest that writes a port",
    "probe.paths.machine": "the machine code of a guest of the host's own",
}
"""Module: what in it is for x86-64 alone. What is built on these takes their word."""


def syscalls(machine: str = NAME) -> Mapping[str, int]:
    """The numbers of a machine's system calls by name; Unavailable where its table is not carried."""
    if machine not in SYSCALLS:
        known = " or ".join(SYSCALLS)
        raise Unavailable(f"no syscall numbers for {machine}", f"run on {known}, or add the table to memory_syscalls")
    return SYSCALLS[machine]


def number_of(name: str) -> int:
    """The system call's number on this machine; Unavailable as `syscalls`, KeyError for one that it does not have."""
    return syscalls(NAME)[name]


def audit_arch(machine: str = NAME) -> int:
    """What seccomp calls a machine's architecture; Unavailable where nobody has said."""
    if machine not in AUDIT_ARCH:
        raise Unavailable(f"no seccomp filter for {machine}", f"use one of {', '.join(AUDIT_ARCH)}")
    return AUDIT_ARCH[machine]


def need_page_size() -> None:
    """Unavailable where this kernel's pages are of another size than those that everything counts in."""
    if (size := resource.getpagesize()) != PAGE_SIZE:
        raise Unavailable(f"this kernel's pages have {size} bytes", f"boot one whose pages have {PAGE_SIZE} bytes")


def need_x86_64(what: str) -> None:
    """Unavailable on any other machine."""
    if NAME != "x86_64":
        raise Unavailable(f"{what} is for x86-64 hosts, this one is {NAME}", "use the unicorn CPU")
