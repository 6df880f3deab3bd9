"""`pagewarden run --limit`, `--snapshot` and `--restore`: a guest does the same I/O at the same counts."""

import sys
from collections import Counter
from pathlib import Path

import pytest

from kept_kit import kept
from verbs import Verb, document


@pytest.fixture(params=["unicorn", "kvm"])
def cpu(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    kept(tmp_path / "swap").close()  # skips where it cannot be had
    if request.param == "kvm":
        request.getfixturevalue("vm")
    return str(request.param)


def test_a_limit_changes_no_byte_and_no_count(verb: Verb, tmp_path: Path, cpu: str) -> None:
    words = ("run", "--cpu", cpu, "--requests", "24", "--verify")
    limited = document(verb, *words, "--limit", "64k", "--swap", str(tmp_path / "swap"))
    assert limited["good"] and limited["differs"] == 0
    assert min(limited["kept"].values()) > 0
    assert limited["total"] == document(verb, *words)["total"]
    assert not list(tmp_path.iterdir())


def test_a_guest_that_was_sealed_goes_on_where_it_stopped(verb: Verb, tmp_path: Path, cpu: str) -> None:
    """Halves add up to the whole, and the second one checks what the first one wrote."""
    disk, key = tmp_path / "disk", tmp_path / "key"
    design = {"unicorn": "window", "kvm": "iommu"}[cpu]
    words = ("run", "--cpu", cpu, "--requests", "36", "--design", design)
    whole = document(verb, *words)
    files = ("--disk", str(disk), "--key", str(key))
    one = document(verb, *words, *files, "--snapshot", str(tmp_path / "snap"))
    other = document(verb, *words, *files, "--restore", str(tmp_path / "snap"), "--verify")
    assert one["good"] and other["good"] and other["differs"] == 0
    assert (one["requests"], other["requests"]) == (16, 20)
    for counts in ("total", "start_and_end"):
        assert Counter(one[counts]) + Counter(other[counts]) == +Counter(whole[counts])
    assert key.stat().st_mode & 0o777 == 0o600
    again = verb(*words, "--overwrite", *files, "--restore", str(tmp_path / "snap"), "--requests", "30", code=2)
    assert "other requests" in again.stderr
    (tmp_path / "snap").write_bytes(b"\0" + (tmp_path / "snap").read_bytes()[1:])
    assert "no snapshot" in verb(*words, *files, "--restore", str(tmp_path / "snap"), code=2).stderr


def test_what_does_not_go_together_is_said(verb: Verb, tmp_path: Path) -> None:
    swap = ("--swap", str(tmp_path / "swap"))
    assert "go together" in verb("run", "--limit", "64k", code=2).stderr
    assert "real CPU" in verb("run", "--limit", "64k", *swap, "--cpu", "interpreted", code=2).stderr
    apart = ("--snapshot", str(tmp_path / "snap"), "--key", "key", "--disk", str(tmp_path / "disk"), "--isolated")
    assert "cooperating host" in verb("run", *apart, code=2).stderr
    assert "room for a page" in verb("run", "--limit", "100", *swap, code=2).stderr
    disk = ("--disk", str(tmp_path / "disk"))
    snapshot = ("--snapshot", str(tmp_path / "snap"))
    assert "--disk" in verb("run", *snapshot, "--key", "key", code=2).stderr
    assert "--key" in verb("run", *snapshot, *disk, code=2).stderr
    assert "half way" in verb("run", *snapshot, *disk, "--key", "key", "--verify", code=2).stderr
    (tmp_path / "disk").write_bytes(bytes(16 << 20))
    lacking = ("run", "--restore", str(tmp_path / "snap"), *disk, "--key", str(tmp_path / "key"))
    assert "no key" in verb(*lacking, code=2).stderr
    few = verb("run", *snapshot, *disk, "--key", str(tmp_path / "key"), "--requests", "3", code=2)
    assert "no half way" in few.stderr


def test_what_sealing_lacks_is_said_before_anything_is_made(
    verb: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    files = ("--key", str(tmp_path / "key"), "--disk", str(tmp_path / "disk"))
    said = verb("run", "--snapshot", str(tmp_path / "snap"), *files, code=2).stderr
    assert said.startswith("pagewarden: sealing needs the package cryptography; pip install") and said.count("\n") == 1
    assert not list(tmp_path.iterdir())
