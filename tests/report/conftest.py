"""Verbs of many checks, of few."""

import pytest

from pagewarden.check.bugs import bugs
from pagewarden.law import APART


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix has three policies, and the corpus two bugs: what is said of them has the form of what is said of all
    (tests/cli/test_check.py, tests/check/test_bugs.py)."""
    names = ("memfd", "pkvm-2022", "guest-memfd-private")
    monkeypatch.setattr("pagewarden.check.matrix.APART", {name: APART[name] for name in names})
    monkeypatch.setattr("pagewarden.check.bugs.bugs", lambda: dict(list(bugs().items())[:2]))
