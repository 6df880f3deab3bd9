"""`keep seal`: a VMM's plain snapshot, sealed whole, or not at all."""

import ctypes
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from kept_kit import content
from pagewarden.keep import plain
from pagewarden.keep.plain import seal_plain
from pagewarden.keep.source import SealedFile
from pagewarden.vocab import PAGE_SIZE, Refused, UserMistake
from verbs import Verb, document

KEY = bytes(range(32))
PAGES = 150


@pytest.fixture
def mem(tmp_path: Path) -> Path:
    """With a hole, and pages of zeroes that are none."""
    with (tmp_path / "mem").open("wb") as file:
        file.write(b"".join(map(content, range(100))))
        file.seek(130 * PAGE_SIZE)
        file.write(bytes(10 * PAGE_SIZE) + content(140))
        file.truncate(PAGES * PAGE_SIZE)
    return tmp_path / "mem"


def unsealed(path: Path, key: bytes = KEY) -> bytes:
    source = SealedFile(path, key)
    out = bytearray()
    for page in range(source.size // PAGE_SIZE):
        where, right, why = source.fetch(page * PAGE_SIZE, PAGE_SIZE)
        assert right == PAGE_SIZE, why
        out += ctypes.string_at(where, PAGE_SIZE)
    source.close()
    return bytes(out)


def test_all_of_it_comes_back_and_zeroes_take_no_room(mem: Path) -> None:
    told: list[tuple[int, int]] = []
    found = seal_plain(mem, mem.with_name("sealed"), KEY, lambda done, total: told.append((done, total)))
    assert found == (PAGES, 101) and told[-1] == (101, 101)
    sealed = mem.with_name("sealed")
    assert unsealed(sealed) == mem.read_bytes() and sealed.stat().st_size < 104 * PAGE_SIZE


def test_what_changes_meanwhile_or_is_no_memory_is_refused(mem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = plain._read

    def written(fd: int, pages: Any, out: memoryview) -> None:
        read(fd, pages, out)
        os.utime(mem, ns=(1, os.stat(mem).st_mtime_ns + 1))

    def shorter(fd: int, pages: Any, out: memoryview) -> None:
        os.truncate(mem, 5 * PAGE_SIZE)
        read(fd, pages, out)

    for change in (written, shorter):
        monkeypatch.setattr(plain, "_read", change)
        with pytest.raises(Refused) as refusal:
            seal_plain(mem, mem.with_name("sealed"), KEY)
        assert refusal.value.errno == errno.EBUSY and [*mem.parent.iterdir()] == [mem]
    for size in (0, 100, PAGE_SIZE + 1):
        os.truncate(mem, size)
        with pytest.raises(UserMistake, match="no memory"):
            seal_plain(mem, mem.with_name("sealed"), KEY)
    os.truncate(mem, PAGE_SIZE)
    with pytest.raises(UserMistake, match="32 bytes"):
        seal_plain(mem, mem.with_name("sealed"), b"short")


def test_in_its_own_place(verb: Verb, mem: Path) -> None:
    before, key = mem.read_bytes(), mem.with_name("key")
    found = document(verb, "keep", "seal", str(mem), str(mem), "--key", str(key))
    assert (found["pages"], found["pages_sealed"]) == (PAGES, 101) and key.stat().st_mode & 0o777 == 0o600
    assert unsealed(mem, key.read_bytes()) == before
    assert "--socket PATH" in verb("keep", code=2).stderr
