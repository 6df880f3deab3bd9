"""`pagewarden run --limit`: a guest under a limit does the same I/O at the same counts."""

from pathlib import Path

import pytest

from kept_kit import kept
from verbs import Verb, document


@pytest.mark.parametrize("cpu", ["unicorn", "kvm"])
def test_a_limit_changes_no_byte_and_no_count(
    verb: Verb, tmp_path: Path, cpu: str, request: pytest.FixtureRequest
) -> None:
    kept(tmp_path / "swap").close()  # skips where it cannot be had
    if cpu == "kvm":
        request.getfixturevalue("vm")
    words = ("run", "--cpu", cpu, "--requests", "24", "--verify")
    limited = document(verb, *words, "--limit", "64k", "--swap", str(tmp_path / "swap"))
    assert limited["good"] and limited["differs"] == 0
    assert min(limited["kept"].values()) > 0
    assert limited["total"] == document(verb, *words)["total"]
    assert not list(tmp_path.iterdir())


def test_what_does_not_go_together_is_said(verb: Verb, tmp_path: Path) -> None:
    swap = ("--swap", str(tmp_path / "swap"))
    assert "go together" in verb("run", "--limit", "64k", code=2).stderr
    assert "cooperating host" in verb("run", "--limit", "64k", *swap, "--isolated", code=2).stderr
    assert "room for a page" in verb("run", "--limit", "100", *swap, code=2).stderr
