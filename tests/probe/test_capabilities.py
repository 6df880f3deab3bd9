"""The list of capabilities: complete, asked for real, and without anything left behind."""

import pytest

from leftovers import descriptors
from pagewarden.abi import uffd
from pagewarden.memory import PAGE_SIZE, PrivateMemory, Unavailable
from pagewarden.probe import capabilities as module
from pagewarden.probe.capabilities import QUESTIONS, capabilities


def test_each_is_there_once_with_a_reason() -> None:
    found = capabilities()
    names = [capability.name for capability in found]
    assert len(set(names)) == len(names) and all(capability.reason for capability in found)
    assert set(names) >= {
        *QUESTIONS,
        *uffd.FEATURES,
        "kvm",
        "guest_memfd",
        "KVM_CAP_GUEST_MEMFD_FLAGS",
        "counter:syscalls",
        "counter:tlb_flush",
    }


def test_nothing_stays_open() -> None:
    capabilities()
    before = descriptors(sweep=True)
    capabilities()
    assert descriptors() == before


@pytest.mark.parametrize(
    ("capability", "backing"),
    [
        ("uffd-window", "uffd-window"),
        ("memfd_secret", "memfd-secret"),
        ("guest_memfd", "guest-memfd"),
        ("memfd", "memfd"),
    ],
)
def test_it_agrees_with_what_the_memory_can_do(capability: str, backing: str) -> None:
    available = {found.name: found.available for found in capabilities()}[capability]
    try:
        PrivateMemory(PAGE_SIZE, backing).close()
        made = True
    except Unavailable:
        made = False
    assert made == available


def test_a_refusal_becomes_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> str:
        raise OSError(1, "Operation not permitted")

    def missing() -> str:
        raise Unavailable("no such thing", "buy one")

    monkeypatch.setattr(module, "QUESTIONS", {"a": (refused, ""), "b": (missing, "")})
    found = {capability.name: capability for capability in capabilities()}
    assert found["a"] == ("a", False, "EPERM: Operation not permitted")
    assert found["b"] == ("b", False, "no such thing; buy one")


def test_an_extension_is_asked_of_the_device_and_of_every_type_of_vm(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {3: 0, 4: 0, 5: 8}
    monkeypatch.setattr(module, "ioctl", lambda fd, request, argument: answers[fd])
    asked = {"/dev/kvm": 3, "a VM of type default": 4, "a VM of type SW_PROTECTED": 5}
    found = module._extension("KVM_CAP_MEMORY_ATTRIBUTES", asked)
    assert found.available and "SW_PROTECTED: 8" in found.reason and "/dev/kvm: 0" in found.reason
    answers[5] = 0
    found = module._extension("KVM_CAP_MEMORY_ATTRIBUTES", asked)
    assert not found.available and found.reason == "value 0"
