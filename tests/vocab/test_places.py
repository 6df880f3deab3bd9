"""Directories that nobody else can put anything into, and those that somebody could."""

import os
from pathlib import Path

import pytest

from pagewarden.vocab import places


def test_it_is_made_for_this_user_alone(tmp_path: Path) -> None:
    made = places.private(tmp_path / "a" / "b")
    assert made == tmp_path / "a" / "b" and made.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_what_others_may_write_is_not_used(tmp_path: Path, mode: int) -> None:
    (tmp_path / "open" / "inner").mkdir(parents=True, mode=0o700)
    (tmp_path / "open").chmod(mode)
    sticky_root = mode == 0o1777 and os.geteuid() == 0
    assert (places.private(tmp_path / "open" / "inner") is not None) == sticky_root
    assert places.private(tmp_path / "open") is None


def test_a_link_of_somebody_elses_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    if os.geteuid() != 0:
        assert places.private(tmp_path / "link") is None
        return
    assert places.private(tmp_path / "link") == tmp_path / "real"  # root's own: who could change it is root
    os.lchown(tmp_path / "link", 65534, 65534)
    assert places.private(tmp_path / "link") is None


def test_what_belongs_to_somebody_else_is_not_used(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    (tmp_path / "theirs" / "inner").mkdir(parents=True, mode=0o700)
    os.chown(tmp_path / "theirs", 65534, 65534)
    assert places.private(tmp_path / "theirs") is None
    assert places.private(tmp_path / "theirs" / "inner") is None


def test_there_need_not_be_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, "not/absolute")
    assert places.cache_home() is places.config_home() is places.private_cache() is None
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x")
    assert places.config_home() == Path("/x/pagewarden")


def test_a_cache_that_was_looked_at_is_used_where_owners_are_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a new user namespace the directories above a user's own belong to nobody: all code was compiled again."""
    monkeypatch.setattr(places, "_kept", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    places.keep_private_cache()
    monkeypatch.setattr(places, "_real", lambda path: None)
    assert places.private_cache() == tmp_path / "pagewarden"
    assert places.private_cache("compiled") == tmp_path / "pagewarden" / "compiled"
    assert places.private(tmp_path / "elsewhere") is None
    (tmp_path / "pagewarden" / "compiled").chmod(0o777)
    assert places.private_cache("compiled") is None
