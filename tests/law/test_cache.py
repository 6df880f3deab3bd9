"""Tables on disk: the same as enumerated, and never a reason to fail."""

import hashlib
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


def test_a_changed_table_is_made_anew(directory: Path) -> None:
    """What a hostile writer would do: the refusal of a GUP becomes a success, the rest stays as it was."""
    policy = POLICIES["memfd-secret"]
    built = table.tabulate.__wrapped__(policy)
    arrays, other = dict(cache.load(policy) or {}), POLICIES["pkvm"]
    arrays["outcome"] = np.zeros_like(arrays["outcome"])
    cache.store(other, arrays)  # whole, and for another key
    one, theirs = (cache._path(each) for each in (policy, other))
    assert one is not None and theirs is not None
    theirs.replace(one)
    assert cache.load(policy) is None
    assert (table.tabulate.__wrapped__(policy).outcome == built.outcome).all() and built.outcome.any()
    assert cache.load(policy) is not None


def test_another_policys_file_is_not_believed(directory: Path) -> None:
    for name in ("pkvm", "pkvm-2022"):
        table.tabulate.__wrapped__(POLICIES[name])
    one, other = (cache._path(POLICIES[name]) for name in ("pkvm", "pkvm-2022"))
    assert one is not None and other is not None
    one.write_bytes(other.read_bytes())
    assert cache.load(POLICIES["pkvm"]) is None


def test_a_file_that_others_may_write_or_a_link_is_not_believed(directory: Path, tmp_path: Path) -> None:
    policy = POLICIES["memfd-secret"]
    table.tabulate.__wrapped__(policy)
    file = next(directory.iterdir())
    file.chmod(0o666)
    assert cache.load(policy) is None
    file.chmod(0o600)
    assert cache.load(policy) is not None
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert cache.load(policy) is None


def test_the_checker_asks_no_disk(directory: Path) -> None:
    table.enumerated.__wrapped__(POLICIES["memfd-secret"])
    assert not directory.exists()


def test_old_tables_go(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "KEPT", 2)
    for mechanism in ("scrubs", "in-place", "emulated", "gup-blocked"):
        cache.store(POLICIES["memfd-secret"].without(mechanism), {"x": np.zeros(1)})
    assert len(list(directory.iterdir())) == 2


@pytest.mark.parametrize("junk", [b"", b"PK\x03\x04", b"junk" * 100, hashlib.sha256(b"").digest()])
def test_a_broken_file_is_built_again(directory: Path, junk: bytes) -> None:
    policy = POLICIES["memfd-secret"]
    table.tabulate.__wrapped__(policy)
    next(directory.iterdir()).write_bytes(junk)
    assert len(table.tabulate.__wrapped__(policy).pages) == len(table.enumerated(policy).pages)
    assert cache.load(policy) is not None


def test_a_directory_that_cannot_be_made_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(table.tabulate.__wrapped__(POLICIES["memfd-secret"]).pages) == 22
