"""Every statement of the kernel's sources, tests and lists: the law says it, or tells why it does not."""

import inspect
import re

import pytest

import statements_kvm  # noqa: F401  (each enters its checks)
import statements_pkvm  # noqa: F401
import statements_store  # noqa: F401
from pagewarden.law import EVERY, calls, sources
from pagewarden.law.ops import Op
from statements import CHECKS

STATED = sources.statements()
NOT_SAID = {number for number, row in STATED.items() if row[2].startswith("no: ")}


@pytest.mark.parametrize("number", sorted(CHECKS))
def test_the_law_says_it(number: int) -> None:
    CHECKS[number]()


def test_each_is_checked_or_has_a_reason() -> None:
    assert CHECKS.keys() | NOT_SAID == STATED.keys()
    assert not CHECKS.keys() & NOT_SAID


def test_at_most_one_in_ten_is_not_said() -> None:
    assert len(STATED) == 151 and len(NOT_SAID) <= len(STATED) / 10


@pytest.mark.parametrize("number", sorted(STATED.keys() - NOT_SAID))
def test_what_says_it_exists(number: int) -> None:
    """Operations, calls and policies that a row names are the law's."""
    said = STATED[number][2]
    named = set(re.findall(r"[a-z]+(?:[-_.][a-z0-9]+)+", said))
    known = {op.key for op in Op} | EVERY.keys() | {f"calls.{name}" for name, _ in inspect.getmembers(calls)}
    assert all(name in known for name in named if "_" in name or name in EVERY or name.startswith("calls.")), named


def test_a_kernel_that_was_asked_is_one_that_a_policy_names() -> None:
    versions = {version.partition(" ")[0] for policy in EVERY.values() for version in policy.asked}
    for *_, kernels in STATED.values():
        assert set(re.findall(r"\d+\.\d+(?:\.\d+)?", kernels)) <= versions
