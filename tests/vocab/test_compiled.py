"""Compiled code on disk: where nobody else can put any, made anew if it cannot be read, never a reason to fail."""

import hashlib
import importlib.util
import os
import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pagewarden.vocab import compiled, places

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
    return sorted(path for path in (tmp_path / "cache").rglob("compiled-*/*"))


def test_it_is_kept_and_found_again(tmp_path: Path) -> None:
    loaded(tmp_path)
    kept = files(tmp_path)
    assert len(kept) == 2
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
    assert len(kept) == (2 if mode == 0o700 else 0) and all(named in path.parents for path in kept)


class Trap:
    """A pickle that tells that it was read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("sprung",)


def forged(data: bytes) -> bytes:
    """What a hand would write that does not know, or cannot find out, what the file must hold."""
    return data[: places.DIGEST] + pickle.dumps(Trap())


FORGERIES: dict[str, Callable[[bytes], bytes]] = {
    "junk": lambda data: b"\x80junk" * 9,
    "empty": lambda data: b"",
    "cut short": lambda data: data[: len(data) // 2],
    "a bit": lambda data: data[:-50] + bytes([data[-50] ^ 4]) + data[-49:],
    "another pickle": forged,
    "its own digest": lambda data: hashlib.sha256(pickle.dumps(Trap())).digest() + pickle.dumps(Trap()),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_was_changed_is_not_even_read(tmp_path: Path, forgery: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded(tmp_path)
    whole = {path: path.read_bytes() for path in files(tmp_path)}
    for path, data in whole.items():
        path.write_bytes(FORGERIES[forgery](data))
    assert not loaded(tmp_path).lazy.stats.cache_hits
    assert not (tmp_path / "sprung").exists()
    assert loaded(tmp_path).lazy.stats.cache_hits, "it was made anew"


def test_one_functions_code_is_not_anothers(tmp_path: Path) -> None:
    loaded(tmp_path)
    one, other = files(tmp_path)
    one.write_bytes(other.read_bytes())
    other.unlink()
    assert not loaded(tmp_path).lazy.stats.cache_hits


def test_a_link_or_a_file_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    loaded(tmp_path)
    for path in files(tmp_path):
        path.chmod(0o666)
    assert not loaded(tmp_path).lazy.stats.cache_hits
    for path in files(tmp_path):
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    assert not loaded(tmp_path).lazy.stats.cache_hits


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
