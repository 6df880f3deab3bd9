"""A profile is saved whole under a name of its own, or what was there stays."""

import os
import stat
from pathlib import Path

import pytest

from pagewarden.cost import Profile, load_profile
from pagewarden.studies.calibrate.calibration import (
    calibrate,
    place_of,
    places_of,
    save,
)
from pagewarden.vocab import UserMistake


def test_it_is_saved_whole_and_found_by_name(
    recorded: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = place_of("mine", None)
    assert [save(recorded, path), save(recorded, path)] == [False, True]
    assert load_profile("mine").prices == dict(recorded.prices)
    assert os.listdir(path.parent) == ["mine.toml"] and stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_file_that_is_no_profile_is_left_alone(recorded: Profile, tmp_path: Path) -> None:
    path = tmp_path / "notes.toml"
    path.write_text("my notes\n")
    with pytest.raises(UserMistake, match="no price profile"):
        save(recorded, path)
    assert path.read_text() == "my notes\n"


def test_what_fails_half_way_leaves_the_old_profile(
    recorded: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.toml"
    save(recorded, path)
    before = path.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserMistake, match="No space left"):
        save(recorded, path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["mine.toml"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x.toml", "a b", "x" * 65])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(UserMistake, match="--name"):
        calibrate(name)


def test_a_shipped_profile_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every later comparison with it would be another one, and nothing would say so."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(UserMistake, match="vmx-skylake: prices that came with pagewarden"):
        places_of("vmx-skylake", None, False)
    assert places_of("vmx-skylake", tmp_path / "mine.toml", False) == [tmp_path / "mine.toml"]
