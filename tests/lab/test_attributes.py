"""A page of a real guest_memfd with attributes by the page: each act came to what the law of `guest-memfd` says.

Debian's kernels have no such KVM; tests/kits/attributes_kvm.py builds one, and what it answered is kept.
"""

import json
from pathlib import Path
from typing import Any

import pytest

import attributes_kvm
from attributes_guest import WRONG, rows
from kernels import bootable, x86
from pagewarden.designs import Do, Options, Steps, follow
from pagewarden.designs.convert import share, unshare
from pagewarden.designs.life import PROCEDURES
from pagewarden.law import POLICIES, Op, Outcome, Owner, Policy, apply, calls, start
from pagewarden.law.page import View
from pagewarden.law.rules import RULES
from pagewarden.law.step import done
from pagewarden.vocab import PAGE_SIZE

RECORDED = sorted((Path(__file__).parent / "recorded" / "attributes").glob("*.json"))
POLICY = POLICIES["guest-memfd"]
ONE_OF = 31
"""Of so many rows one is asked where the kernel is there: together they are of every state and every act."""
OPS = {"h": Op.HOST_LOAD, "H": Op.HOST_STORE, "u": Op.UACCESS_READ, "U": Op.UACCESS_WRITE, "a": Op.ALLOCATE,
       "d": Op.SLOT_DELETE, "D": Op.SLOT_ADD, "c": Op.FD_CLOSE, "r": Op.FD_GET, "w": Op.FD_GET}  # fmt: skip
GUEST = {"g": Op.GUEST_LOAD, "G": Op.GUEST_STORE}


class Folded:
    """The law, act by act."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.page, self.device = policy, start(policy), False
        self.steps: dict[str, Steps] = {
            "P": unshare(Options(), policy), "S": share(Options(), policy), "x": PROCEDURES["punch"](policy).steps
        }  # fmt: skip

    def act(self, letter: str) -> str | None:
        """What it comes to; None where the law says nothing: of the file, while the page is not its."""
        if letter in self.steps:
            return self._procedure(self.steps[letter])
        if letter in GUEST:
            return self._guest(GUEST[letter])
        self.device &= letter != "D"
        if letter == "m":
            return None if self.page.owner is Owner.SHARED else self._apply(Op.HOST_MMAP)
        if letter == "k":
            self._apply(Op.GUP_PIN)
            found = self._apply(Op.KMAP_READ)
            assert "done" in (self._apply(Op.UNPIN), self._apply(Op.UNPIN_OLD))
            return found
        return self._apply(OPS[letter])

    def _apply(self, op: Op) -> str:
        before = self.page
        step = apply(self.policy, before, op)
        self.page = step.page
        if step.outcome is not Outcome.DONE:
            return step.outcome.name
        if op not in (Op.HOST_LOAD, Op.UACCESS_READ, Op.KMAP_READ, Op.GUEST_LOAD):
            return "done"
        return (before.data if step.reached else before.beside).name.lower()

    def _guest(self, op: Op) -> str:
        """A touch, which KVM maps the page for where it must."""
        if apply(self.policy, self.page, op).outcome is Outcome.GUEST_FAULT:
            if (found := self._apply(Op.KVM_GET)) != "EFAULT":
                found = self._apply(Op.GUEST_MAP)
            if found == "EFAULT":
                return self._no_memory()
            assert found == "done"
        return self._apply(op)

    def _no_memory(self) -> str:
        """How x86's KVM tells: a shared gpa without a memslot is a device's, and is taken for one until a memslot
        comes, also once it is private (arch/x86/kvm/mmu/mmu.c, handle_mmio_page_fault)."""
        self.device |= not self.page.slot and self.page.owner is Owner.SHARED
        return "MMIO" if self.device else "MEMORY_FAULT-private"

    def _procedure(self, steps: Steps) -> str:
        refused: list[str] = []

        def act(line: Do) -> bool:
            found = self._apply(line.op)
            if found != "done" and line.op not in (Op.KVM_GET, Op.GUEST_MAP):  # it is mapped at a touch
                refused.append(found)
            return found == "done"

        follow(steps, act)
        return refused[0] if refused else "done"


def differences(found: dict[str, Any], policy: Policy) -> list[tuple[str, int, str, str]]:
    """Acts that the law sees otherwise, the first of each row: the row, the place, what the law says, what came."""
    return [
        where for row in found["rows"] if (where := _first(row["acts"], row["answers"].split(), policy)) is not None
    ]


def _first(acts: str, answers: list[str], policy: Policy) -> tuple[str, int, str, str] | None:
    folded = Folded(policy)
    for place, (letter, came) in enumerate(zip(acts, answers, strict=True)):
        said = folded.act(letter)
        if said is not None and said != came:
            return acts, place, said, came
    return None


def refusals() -> list[str]:
    return [calls.attributes(*each).name for each in WRONG]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_the_law_says_what_the_kernel_did(path: Path) -> None:
    record = json.loads(path.read_text())
    assert [row["acts"] for row in record["rows"]] == list(rows()) and record["date"]
    assert differences(record, POLICY) == []
    assert record["wrong"] == refusals() == ["EINVAL"] * len(WRONG)
    made = [calls.gmem_create(PAGE_SIZE, flags, offered=calls.MMAP) for flags in range(4)]
    assert record["flags"] == ["done" if each is Outcome.DONE else each.name for each in made]


def test_what_is_said_to_be_asked_was_asked() -> None:
    said = {f"{record['kernel'].partition('+')[0]} ({record['built']})" for record in map(_read, RECORDED)}
    assert set(POLICY.asked) == said


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


@pytest.mark.parametrize("name", ["keeps-both", "idempotent", "two-flavours", "notifies"])
def test_a_rule_that_is_another_is_seen(name: str) -> None:
    assert all(differences(_read(path), POLICY.without(name)) for path in RECORDED)


def test_a_closed_file_leaves_what_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A law in which the memslot is gone with the file is seen to be wrong."""
    monkeypatch.setitem(RULES, Op.FD_CLOSE, lambda policy, page: done(page, slot=False, guest=View.NONE))
    assert all(differences(_read(path), POLICY) for path in RECORDED)


def test_the_kernel_does_so_now() -> None:
    kernel = bootable("debian:7.3", x86)
    if not attributes_kvm.place_of(kernel).exists():
        pytest.skip("a KVM with attributes is built by `python tests/kits/attributes_kvm.py`, some minutes")
    found = attributes_kvm.ask(attributes_kvm.with_attributes(kernel), ONE_OF)
    assert len(found["rows"]) > 50 and differences(found, POLICY) == [] and found["wrong"] == refusals()
