"""The machine that runs: numbers from data, the size of a page asked, and what only x86-64 has."""

import resource

import pytest

from pagewarden.abi.memory_syscalls import SYSCALLS
from pagewarden.kernel import machine
from pagewarden.kernel.kvm_x86 import KvmMachine
from pagewarden.memory import PAGE_SIZE, PrivateMemory
from pagewarden.vocab import Unavailable


def test_numbers_are_of_the_machine() -> None:
    assert machine.number_of("ioctl") == SYSCALLS[machine.NAME]["ioctl"]
    assert machine.syscalls("x86_64")["read"] == 0 and machine.syscalls("aarch64")["read"] == 63
    for ask in (machine.syscalls, machine.audit_arch):
        with pytest.raises(Unavailable, match="sparc"):
            ask("sparc")


def test_other_pages_are_refused_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getpagesize", lambda: 16 * PAGE_SIZE)
    with pytest.raises(Unavailable, match="pages have 65536 bytes"):
        PrivateMemory(PAGE_SIZE, "memfd")


def test_kvm_is_for_x86_64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "NAME", "aarch64")
    with pytest.raises(Unavailable, match="x86-64"):
        KvmMachine(None, [])  # type: ignore[arg-type]  # it is not looked at
