"""fio's I/O log: the fast reader against a slow plain one, on whole, broken and mutated logs."""

import functools
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagewarden.vocab import UserMistake
from pagewarden.workload import Workload, iolog, load
from pagewarden.workload.lines import chunks
from pagewarden.workload.model import MAX_END, MAX_LENGTH

Request = tuple[bool, int, int, int]
FILES = [b"/dev/vda", b"data", b"a", b"x" * 31, b"/very/long/" + b"n" * 100, b"12345678", b"fio"]


def number(field: bytes, most: int) -> int | None:
    if not re.fullmatch(rb"[0-9]{1,19}", field) or int(field) > most:
        return None
    return int(field)


def slow_line(fields: list[bytes], version: int, added: set[bytes]) -> Request | bool:
    """A request, True for a good line without one, False for a bad line."""
    if fields == [b"fio", b"version", b"%d" % version, b"iolog"]:
        return True
    stamp: int | None = 0
    if version == 3:
        stamp, fields = number(fields[0], (2**63 - 1) // 1000), fields[1:]
    if len(fields) == 2 and fields[1] in (b"add", b"open", b"close"):
        added |= {fields[0]} if fields[1] == b"add" else set()
        return stamp is not None and fields[0] in added
    skipped = {b"sync", b"datasync", b"sync_file_range", b"trim"} | ({b"wait"} if version == 2 else set())
    if len(fields) != 4 or fields[1] not in skipped | {b"read", b"write"} or fields[0] not in added:
        return False
    offset, length = number(fields[2], MAX_END), number(fields[3], MAX_LENGTH)
    if offset is None or length is None or offset + length > MAX_END or stamp is None:
        return False
    if fields[1] in skipped:
        return True
    return (fields[1] == b"write", offset, length, stamp * 1000) if length else False


def slow(text: bytes) -> tuple[list[Request], int | None]:
    """All requests, and the number of the first bad line."""
    version = int(text.split()[2])
    found: list[Request] = []
    added: set[bytes] = set()
    for line_number, line in enumerate(text.split(b"\n"), 1):
        fields = [field for field in re.split(rb"[ \t\r]+", line) if field]
        result = slow_line(fields, version, added) if fields else True
        if result is False:
            return [], line_number
        if isinstance(result, tuple):
            found.append(result)
    return found, None


def rows(workload: Workload) -> list[Request]:
    times = [0] * workload.requests if workload.time_ns is None else workload.time_ns.tolist()
    return list(zip(workload.write.tolist(), workload.offset.tolist(), workload.length.tolist(), times, strict=True))


@st.composite
def logs(draw: st.DrawFn) -> bytes:
    """A log as fio writes them, several jobs appended now and then, with blanks and line ends varied."""
    version = draw(st.sampled_from([2, 3]))
    files = draw(st.lists(st.sampled_from(FILES), min_size=1, max_size=3, unique=True))
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    lines: list[bytes] = []
    for _ in range(draw(st.integers(1, 2))):
        actions = [b"%s add" % name for name in files] + [b"%s open" % name for name in files]
        for _ in range(draw(st.integers(0, 12))):
            name = draw(st.sampled_from(files))
            action = draw(st.sampled_from([b"read", b"write", b"write", b"sync", b"trim", b"sync_file_range"]))
            offset, length = draw(st.integers(0, MAX_END - MAX_LENGTH)), draw(st.integers(1, MAX_LENGTH))
            actions.append(b"%s %s %d %d" % (name, action, offset, length))
        actions += [b"%s close" % name for name in files]
        stamps = [b"%d " % draw(st.integers(0, 10**12)) if version == 3 else b"" for _ in actions]
        lines += [b"fio version %d iolog" % version] + [a + b for a, b in zip(stamps, actions, strict=True)]
    blank = draw(st.sampled_from([b" ", b"\t", b"  "]))
    head, *rest = lines
    return end.join([head, *(line.replace(b" ", blank) for line in rest)]) + end


def check(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    expected, bad = slow(text)
    if bad is None and expected:
        assert rows(load(path)) == expected
        return
    with pytest.raises(UserMistake) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:{bad}: found " if bad else f"{path}: the log has no read or write")


@pytest.fixture(params=[1 << 22, 100, 7], ids=lambda size: f"chunks of {size}")
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for a log that is then read in chunks of this size."""
    monkeypatch.setattr(iolog, "chunks", functools.partial(chunks, size=request.param))
    return tmp_path / "log"


EXAMPLES = 4000 if os.environ.get("PAGEWARDEN_LONG") == "1" else 60
relaxed = settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@relaxed
@given(text=logs())
def test_generated_logs_are_read_back(path: Path, text: bytes) -> None:
    check(path, text)


@relaxed
@given(text=logs(), data=st.data())
def test_mutated_logs_are_refused_at_the_same_line(path: Path, text: bytes, data: st.DataObject) -> None:
    start = text.index(b"\n")
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(start, len(text) - 1))
        patch = data.draw(st.one_of(st.binary(max_size=2), st.sampled_from([b" ", b"\n", b"0", b"-", b"99999999999"])))
        text = text[:at] + patch + text[at + data.draw(st.integers(0, 2)) :]
    check(path, text)


GOOD = "fio version 2 iolog\n/d add\n/d open\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/d read -1 4096", "an offset in bytes"),
        ("/d read 4096 -1", "a length in bytes"),
        ("/d read 0x10 1", "an offset"),
        ("/d read 0 4294967296", "a length in bytes"),
        ("/d read 9223372036854775807 1", "ends at or before"),
        ("/d read 18446744073709551616 1", "an offset"),
        ("/d read 99999999999999999999999 1", "an offset"),
        ("/d read 1e3 1", "an offset"),
        ("/d read 1.5 1", "an offset"),
        ("/d read 4096", "FILE read|write"),
        ("/d read 0 4096 7", "FILE read|write"),
        ("/d", "FILE read|write"),
        ("/d frob", "FILE add|open|close"),
        ("/d frob 0 1", "FILE read|write"),
        ("/e read 0 1", "a file that an earlier line"),
        ("/e open", "a file that an earlier line"),
        ("/d READ 0 1", "FILE read|write"),
        ("/d sync x y", "an offset"),
        ("12 /d read 0 4096", "FILE read|write"),
        ("fio version 3 iolog", "FILE"),
        ("/d sync_file_rangx 0 0", "FILE"),
    ],
)
def test_what_is_said_of_a_bad_line(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "log"
    path.write_text(f"{GOOD}{line}\n/d read 0 4096\n/d neither this\n")
    with pytest.raises(UserMistake) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:4: found {line!r}, expected ")
    assert expected in str(caught.value)


@pytest.mark.parametrize("header", ["fio version 1 iolog", "fio version 4 iolog", "fio version 33 iolog"])
def test_other_versions_are_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "log"
    path.write_text(f"{header}\n/d add\n")
    with pytest.raises(UserMistake, match=r":1: found 'fio version .*no other"):
        load(path)


def test_waits_and_requests_of_no_length_move_nothing(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(
        "fio version 3 iolog\n0 f add\n1 f read 0 0\n2 f wait 10 0\n3 f syncfs 0 0\n4 f read 0 1\n"
    )
    assert load(tmp_path / "log").skipped == {"wait": 1, "syncfs": 1, "no data": 1}


@pytest.mark.parametrize("head", ["\n\nfio version 2 iolog\n", ""])
def test_a_header_may_come_late_or_not_at_all(tmp_path: Path, head: str) -> None:
    (tmp_path / "log").write_text(head + "f add\nf open\nf read 4096 8192\nf close\n")
    found = load(tmp_path / "log")
    assert found.offset.tolist() == [4096] and found.length.tolist() == [8192]
    assert any("fio itself refuses" in note for note in found.notes) == (not head)


def test_version_3_has_a_stamp(tmp_path: Path) -> None:
    path = tmp_path / "log"
    head = "fio version 3 iolog\n1 /d add\n2 /d open\n"
    path.write_text(head + "x /d read 0 1\n")
    with pytest.raises(UserMistake, match="a timestamp in microseconds"):
        load(path)
    path.write_text(head + "-3 /d close\n")
    with pytest.raises(UserMistake, match="a timestamp in microseconds"):
        load(path)


def test_what_moves_no_data_is_counted_apart(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(
        GOOD + "/d read 5 6\n/d sync 0 0\n/d datasync 0 0\n/d sync 0 0\n/d trim 0 4096\n/d wait 100 0\n"
        "/d sync_file_range 4 0\n/e add\n/e write 7 8\n"
    )
    workload = load(path)
    assert rows(workload) == [(False, 5, 6, 0), (True, 7, 8, 0)]
    assert workload.skipped == {"sync": 2, "datasync": 1, "trim": 1, "wait": 1, "sync_file_range": 1}
    assert workload.notes == ("2 files; offsets count from the start of each",)
    path.write_text(GOOD + "/d trim 0 4096\n")
    with pytest.raises(UserMistake, match=r"no read or write, only \{'trim': 1\}"):
        load(path)


def test_a_cut_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(GOOD + "/d read 0 4096\n/d read 4096 40")
    workload = load(path)
    assert workload.length.tolist() == [4096, 40]
    assert "no end" in workload.notes[0]
    path.write_text(GOOD + "/d read 0 4096\n/d read 40")
    with pytest.raises(UserMistake, match="was the file cut short"):
        load(path)


def test_a_line_without_end_is_refused_early(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(GOOD.encode() + b"/d read 0 1\n" + b"y" * (6 << 20))
    with pytest.raises(UserMistake, match=r":5: found 'yyy.*at most 65536 bytes"):
        load(path)


def test_logs_that_fio_appended(tmp_path: Path) -> None:
    """Two jobs with one write_iolog: fio 3.33 writes both whole logs into the file."""
    path = tmp_path / "log"
    path.write_text(f"{GOOD}/d read 0 1\n/d close\n{GOOD}/d read 0 2\n/d close\n")
    workload = load(path)
    assert workload.length.tolist() == [1, 2]
    assert workload.notes == ("2 logs follow each other in the file and are taken one after the other",)
