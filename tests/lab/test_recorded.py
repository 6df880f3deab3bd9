"""Matrices that other kernels gave, kept with the version and the day: the law as it is now is held against each.

Without the isolated memories: what is refused there is this package's own filter as it was that day, not the kernel.
"""

import json
from pathlib import Path

import pytest

from pagewarden.probe.trial import OPEN, TrialResult
from pagewarden.studies.probe.elsewhere import judged

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.json"))


def test_there_are_some() -> None:
    assert RECORDED


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_the_law_says_what_the_kernel_did(path: Path) -> None:
    record = json.loads(path.read_text())
    found = judged(record, "qemu")
    assert not any(row.memory.isolated for row in found.rows)
    assert found.kernel == record["kernel"] and record["date"]
    assert not [(row.memory.name, row.path.name, row.state, row.verdict, row.law) for row in found.disagreements]
    answered = [row for row in found.rows if row.verdict.result not in OPEN]
    assert len(answered) >= 1000 and not found.ended(TrialResult.TIMEOUT)
    assert any(row.path.name == "kvm-memslot" and row.verdict.result is TrialResult.LEAK for row in answered)
