"""Compiled code on disk: where nobody else can put any, made anew if it cannot be read, never a reason to fail."""

import importlib.util
import os
import resource
from pathlib import Path
from types import ModuleType

import pytest

from pagewarden.vocab import compiled

TEXT = """
from pagewarden.vocab.compiled import njit

@njit
def lazy(x):
    return x + 1

eager = njit("i8(i8)")(lambda x: x + 2)
"""


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled._place.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)


def loaded(tmp_path: Path) -> ModuleType:
    (tmp_path / "some_compiled.py").write_text(TEXT)
    spec = importlib.util.spec_from_file_location("some_compiled", tmp_path / "some_compiled.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (module.lazy(1), module.eager(1)) == (2, 3)
    return module


def files(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "cache").rglob("*.nb?"))


def test_it_is_kept_and_found_again(tmp_path: Path) -> None:
    loaded(tmp_path)
    kept = files(tmp_path)
    assert len(kept) == 4 and all(path.parents[1].name.startswith("compiled-") for path in kept)
    compiled._place.cache_clear()
    assert loaded(tmp_path).lazy.stats.cache_hits
    assert files(tmp_path) == kept


@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_where_numba_is_told_to_keep_it_if_nobody_else_can_write_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    named = tmp_path / "cache" / "named"
    named.mkdir(parents=True)
    named.chmod(mode)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(named))
    loaded(tmp_path)
    kept = files(tmp_path)
    assert len(kept) == (4 if mode == 0o700 else 0) and all(named in path.parents for path in kept)


def test_a_broken_file_is_no_error(tmp_path: Path) -> None:
    loaded(tmp_path)
    for path in files(tmp_path):
        path.write_bytes(b"\x80junk" * 9)
    assert not loaded(tmp_path).lazy.stats.cache_hits
    assert loaded(tmp_path).lazy.stats.cache_hits, "it was made anew"


def test_a_directory_of_others_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    assert loaded(tmp_path).lazy._cache.cache_path is None
    assert files(tmp_path) == []


def test_a_disk_that_takes_nothing_is_no_error(tmp_path: Path) -> None:
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "some_compiled.py").write_text(TEXT)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(TEXT), usual[1]))
    try:
        loaded(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def test_old_ones_go(tmp_path: Path) -> None:
    home = tmp_path / "cache" / "pagewarden"
    for number in range(compiled.KEPT + 5):
        (home / f"compiled-{number}").mkdir(parents=True)
        os.utime(home / f"compiled-{number}", (number, number))
    loaded(tmp_path)
    left = {path.name for path in home.iterdir()}
    assert len(left) <= compiled.KEPT + 1 and "compiled-0" not in left and f"compiled-{compiled.KEPT + 4}" in left
