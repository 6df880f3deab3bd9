"""Tables on disk: the same as enumerated, and never a reason to fail."""

from pathlib import Path

import numpy as np
import pytest

from pagewarden.law import POLICIES, cache, table


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "pagewarden"


def test_a_stored_table_is_the_enumerated_one(directory: Path) -> None:
    policy = POLICIES["pkvm"]
    assert cache.load(policy) is None
    built = table.tabulate.__wrapped__(policy)
    assert len(list(directory.iterdir())) == 1
    again = table.tabulate.__wrapped__(policy)
    assert again.pages == built.pages and again.index == built.index
    assert type(again.pages[5].owner) is type(built.pages[0].owner) and type(again.pages[5].kvm) is bool
    for name in ("next", "outcome", "events", "reached"):
        assert (getattr(again, name) == getattr(built, name)).all()


def test_another_policy_has_another_file(directory: Path) -> None:
    cache.store(POLICIES["pkvm"], {"x": np.zeros(1)})
    assert cache.load(POLICIES["pkvm-2022"]) is None
    assert cache.load(POLICIES["pkvm"].without("scrubs")) is None


@pytest.mark.parametrize("junk", [b"", b"PK\x03\x04", b"junk" * 100])
def test_a_broken_file_is_built_again(directory: Path, junk: bytes) -> None:
    policy = POLICIES["memfd-secret"]
    table.tabulate.__wrapped__(policy)
    next(directory.iterdir()).write_bytes(junk)
    assert len(table.tabulate.__wrapped__(policy).pages) == 70
    assert cache.load(policy) is not None


def test_a_directory_that_cannot_be_made_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(table.tabulate.__wrapped__(POLICIES["memfd-secret"]).pages) == 70
