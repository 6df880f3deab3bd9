"""Matrices that other kernels gave, kept with the version and the day: the law as it is now is held against each.

Of the isolated memories what is left to the kernel's guard of their pages: what is refused else is this package's own
filter as it was that day.
"""

import json
from collections import Counter
from pathlib import Path

import pytest
from msgspec import convert

from pagewarden.probe.trial import OPEN, TrialResult
from pagewarden.studies.probe.elsewhere import judged
from pagewarden.studies.probe.expected import forbidden
from pagewarden.studies.probe.said import SaidMatrix

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.json"))
ANSWERED = {
    "memfd": ("memfd", 315), "uffd-window": ("uffd-window", 327), "memfd-secret": ("memfd_secret", 315),
    "guest-memfd": ("guest_memfd", 200), "uffd-rwp": ("UFFD_FEATURE_RWP", 327),
}  # fmt: skip
"""Of a backing, the capability that it needs, and the least trials with an answer where the kernel has that (6.12
has not the last two)."""


def test_there_are_some() -> None:
    assert RECORDED


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_the_law_says_what_the_kernel_did(path: Path) -> None:
    record = json.loads(path.read_text())
    found = judged(convert(record, SaidMatrix), "qemu")
    assert not any(row.memory.isolated and forbidden(row.path) for row in found.rows)
    assert found.kernel == record["kernel"] and record["date"]
    assert not [(row.memory.name, row.path.name, row.state, row.verdict, row.law) for row in found.disagreements]
    answered = [row for row in found.rows if row.verdict.result not in OPEN]
    offered = {capability["name"] for capability in record["capabilities"] if capability["available"]}
    counted = Counter(row.memory.backing for row in answered)
    for backing, (needed, least) in ANSWERED.items():
        assert counted[backing] >= (least if needed in offered else 0), backing
    assert offered >= {"memfd", "uffd-window", "memfd_secret"} and not found.ended(TrialResult.TIMEOUT)
    assert any(row.path.name == "kvm-memslot" and row.verdict.result is TrialResult.LEAK for row in answered)
