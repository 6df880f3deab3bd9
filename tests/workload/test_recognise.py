"""What a file is, told by its content, and what is said of a file that is nothing."""

from pathlib import Path

import numpy as np
import pytest

from pagewarden.vocab import UserMistake
from pagewarden.workload import Workload, load, single


def put(tmp_path: Path, content: str | bytes, name: str = "file") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


IOLOG = "fio version 2 iolog\n/d add\n/d open\n/d write 4096 8192\n/d read 0 512\n/d close\n"
BLK = "  8,0    1        1     0.000000123  697  Q  WS 8 + 16 [fio]\n"


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (IOLOG, "fio iolog v2"),
        (IOLOG.replace("\n", "\r\n"), "fio iolog v2"),
        (BLK, "blkparse"),
        ("\n" + BLK, "blkparse"),
        ("; a job\n\n[j]\nsize=8k\n", "fio job"),
        ("[j]\r\nsize=8k\r\n", "fio job"),
    ],
)
def test_the_content_decides(tmp_path: Path, content: str, form: str) -> None:
    assert load(put(tmp_path, content, "misleading.txt")).format == form


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\x1f\x8b\x08junk", "gzip"),
        (b"\x28\xb5\x2f\xfdxx", "zstd"),
        (b"\xef\xbb\xbffio version 2 iolog\n", "byte order mark"),
        (b"\x7fELF\x02\x01\x01\x00\x00", ":1: found"),
        (b"0, 4096, 4096\n", "v1 is not supported"),
        (b"\n# note\nhello world\n", ":3: found 'hello world'"),
        (b"x" * 200_000, ":1: found"),
        (b"\0" * 4096, ":1: found"),
    ],
)
def test_strangers_are_refused_with_a_reason(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(UserMistake) as caught:
        load(put(tmp_path, content))
    assert said in str(caught.value)
    assert "fio job file" in str(caught.value)
    assert len(str(caught.value).removeprefix(str(tmp_path))) < 460, "the rest of a long line is left out"


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match="No such file"):
        load(tmp_path / "missing")
    with pytest.raises(UserMistake, match="not a regular file"):
        load(tmp_path)
    with pytest.raises(UserMistake, match="not a regular file"):
        load("/dev/zero")
    with pytest.raises(UserMistake):
        load("a\0b")


def test_a_single_request() -> None:
    one = single()
    assert (one.requests, one.bytes, one.write.tolist(), one.depth) == (1, 4096, [True], 1)
    assert single(512, write=False).write.tolist() == [False]
    for length in (0, -1, 2**32):
        with pytest.raises(ValueError, match="bytes"):
            single(length)


def test_columns_match_and_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="do not match"):
        Workload("w", "single", np.ones(2, bool), np.zeros(1, np.uint64), np.ones(2, np.uint32))
    with pytest.raises(ValueError, match="read-only"):
        single().length[0] = 7


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    path = put(tmp_path, IOLOG[:-9] + "/d write 4096 8192\n" * 400_000)
    told: list[tuple[int, int]] = []
    assert load(path, lambda done, total: told.append((done, total))).requests == 400_002
    assert len(told) > 1
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (path.stat().st_size,) * 2
