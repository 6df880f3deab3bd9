"""blkparse's text: the fast reader against a slow plain one, and what the kernel's flags mean."""

import functools
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagewarden.vocab import UserMistake
from pagewarden.workload import Workload, blkparse, load
from pagewarden.workload.lines import chunks

Request = tuple[bool, int, int, int]


def rows(workload: Workload) -> list[Request]:
    assert workload.time_ns is not None
    return list(
        zip(
            workload.write.tolist(),
            workload.offset.tolist(),
            workload.length.tolist(),
            workload.time_ns.tolist(),
            strict=True,
        )
    )


def line(action: str, rwbs: str, rest: str, time: str = "0.000000123", device: str = "8,0") -> str:
    """As blkparse prints: %D %2c %8s %5T.%9t %5p %2a %3d."""
    return f"{device:>7} {1:2} {7:8} {time:>15} {697:5} {action:>2} {rwbs:>3} {rest}\n"


@st.composite
def traces(draw: st.DrawFn) -> tuple[str, list[Request]]:
    text, expected = "", []
    command = draw(st.sampled_from(["[fio]", "[(null)]", "[Web Content]", "[kworker/0:1 + 8]"]))
    for _ in range(draw(st.integers(1, 12))):
        seconds, ns = draw(st.integers(0, 99999)), draw(st.integers(0, 10**9 - 1))
        stamp, sector, blocks = f"{seconds}.{ns:09}", draw(st.integers(0, 2**45)), draw(st.integers(1, 8388607))
        rwbs = draw(st.sampled_from(["R", "W", "RA", "WS", "FWFSM", "WFS", "RM", "WSM", "FWS"]))
        text += line("Q", rwbs, f"{sector} + {blocks} {command}", stamp)
        expected.append(("W" in rwbs, sector * 512, blocks * 512, seconds * 10**9 + ns))
        other = draw(st.sampled_from(["G", "I", "M", "F", "D", "C", "P", "U", "A", "X", "m", ""]))
        rest = {"P": command, "U": f"{command} 1", "C": f"{sector} + {blocks} [0]", "m": "cfq said so"}
        if other:
            text += line(other, "N" if other in "PUm" else rwbs, rest.get(other, f"{sector} + {blocks} {command}"))
    return text, expected


@pytest.fixture(params=[1 << 22, 90], ids=lambda size: f"chunks of {size}")
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(blkparse, "chunks", functools.partial(chunks, size=request.param))
    return tmp_path / "trace"


SUMMARY = "CPU0 (8,0):\n Reads Queued:          61,     5740KiB\t Writes Queued: 85, 6454KiB\n\nTotal (8,0):\n Reads\n"
EXAMPLES = 4000 if os.environ.get("PAGEWARDEN_LONG") == "1" else 60
relaxed = settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@relaxed
@given(trace=traces(), summary=st.sampled_from(["", SUMMARY]))
def test_queued_requests_are_read_back(path: Path, trace: tuple[str, list[Request]], summary: str) -> None:
    path.write_text(trace[0] + summary)
    assert rows(load(path)) == trace[1]


@relaxed
@given(trace=traces(), data=st.data())
def test_a_mutated_request_is_read_as_it_stands_or_refused(
    path: Path,
    trace: tuple[str, list[Request]],
    data: st.DataObject,
) -> None:
    """Whatever one changed byte does, what is loaded is what a plain pattern finds in the queued lines."""
    at = data.draw(st.integers(8, len(trace[0]) - 1))
    text = trace[0][:at] + data.draw(st.sampled_from("0 9-+QRWDF.,x\n\x00")) + trace[0][at + 1 :]
    path.write_text(text)
    try:
        loaded = rows(load(path))
    except UserMistake as error:
        assert re.match(rf"{re.escape(str(path))}(:\d+: found|: the trace has no)", str(error))
        return
    pattern = re.compile(r"[ \t]*\d\S*\s+\S+\s+\S+\s+(\d+)\.(\d{9})\s+\S+\s+Q\s+(F?)([RW])\S*\s+(\d+) +\+ +(\d+)(\s|$)")
    plain = [
        (m[4] == "W", int(m[5]) * 512, int(m[6]) * 512, int(m[1]) * 10**9 + int(m[2]))
        for m in map(pattern.match, text.split("\n"))
        if m and int(m[6])
    ]
    if re.search(r"(?m)^\s*\d\S*(\s+\S+){4}\s+Q\s", text):  # else the issued ones are taken
        assert loaded == plain


@pytest.mark.parametrize(
    ("rwbs", "rest", "reason"),
    [
        ("D", "8 + 8 [x]", "discard"),
        ("DS", "8 + 8 [x]", "discard"),
        ("FWS", "[x]", "flush"),
        ("F", "[x]", "flush"),
        ("FN", "[x]", "no data or passed through"),
        ("N", "36 (12 00 00 00 24 00 ..) [x]", "no data or passed through"),
        ("WS", "[x]", "flush"),
        ("W", "0 + 0 [x]", "flush"),
        ("R", "[x]", "no data or passed through"),
    ],
)
def test_what_moves_no_data_is_counted_apart(tmp_path: Path, rwbs: str, rest: str, reason: str) -> None:
    path = tmp_path / "trace"
    path.write_text(line("Q", rwbs, rest) + line("Q", "R", "8 + 8 [x]"))
    workload = load(path)
    assert workload.skipped == {reason: 1}
    assert workload.requests == 1
    path.write_text(line("Q", rwbs, rest))
    with pytest.raises(UserMistake, match="no queued"):
        load(path)


def test_issued_requests_are_taken_when_none_was_queued(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text(line("D", "R", "8 + 8 [x]") + line("D", "WS", "16 + 32 [x]") + line("C", "R", "8 + 8 [0]"))
    workload = load(path)
    assert rows(workload) == [(False, 4096, 4096, 123), (True, 8192, 16384, 123)]
    assert "issued to the driver" in workload.notes[0]


def test_several_devices_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text(line("Q", "R", "8 + 8 [x]") + line("Q", "R", "8 + 8 [x]", device="259,12"))
    assert load(path).notes[0].startswith("2 devices")


GOOD = line("Q", "R", "8 + 8 [x]")


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (line("Q", "R", "8 + [x]"), "SECTOR \\+ BLOCKS"),
        (line("Q", "R", "8 + -8 [x]"), "SECTOR \\+ BLOCKS"),
        (line("Q", "R", "x + 8 [x]"), "SECTOR \\+ BLOCKS"),
        (line("Q", "R", "8 - 8 [x]"), "SECTOR \\+ BLOCKS"),
        (line("Q", "R", "8 + 8388608 [x]"), "at most 8388607 blocks"),
        (line("Q", "R", "36028797018963967 + 1 [x]"), "a sector"),
        (line("Q", "R", "8 + 8 [x]", time="0.123"), "NANOSECONDS"),
        (line("Q", "R", "8 + 8 [x]", time="123"), "NANOSECONDS"),
        (line("Q", "R", "8 + 8 [x]", time="x.123456789"), "NANOSECONDS"),
        (line("Q", "ZZ", "8 + 8 [x]"), "RWBS"),
        ("  8,0 1 2\n", "DEV CPU"),
        ("nonsense\n", "DEV CPU"),
        ("  8,0 1 7 0.000000123 697 Q\n", "DEV CPU"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: str, expected: str) -> None:
    path = tmp_path / "trace"
    path.write_text(GOOD + bad + GOOD)
    with pytest.raises(UserMistake, match=f":2: found .*{expected}"):
        load(path)


def test_a_cut_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    for cut in range(4, len(GOOD) - GOOD.index("[")):
        path.write_text(GOOD + GOOD[:-cut])
        with pytest.raises(UserMistake, match=r":2: .*cut short"):
            load(path)
    path.write_text(GOOD + GOOD[:-1])
    assert load(path).requests == 2 and "no end" in load(path).notes[0]


def test_a_requeued_request_is_one(tmp_path: Path) -> None:
    path, place = tmp_path / "trace", "2048 + 8 [x]"
    path.write_text(line("D", "WS", place) + line("R", "WS", place) + line("D", "WS", place) + line("D", "WS", place))
    assert load(path).requests == 2, "the third was issued for itself"


def test_a_device_below_another_is_left_out(tmp_path: Path) -> None:
    text = line("Q", "W", "0 + 8 [x]", device="253,0") + line("A", "W", "2048 + 8 <- (253,0) 0")
    (tmp_path / "trace").write_text(text + line("Q", "W", "2048 + 8 [x]"))
    found = load(tmp_path / "trace")
    assert found.offset.tolist() == [0] and found.notes == (
        "the requests of 253,0: 8,0 lies below it and sees them again",
    )


def test_what_may_stand_around_the_events(tmp_path: Path) -> None:
    text = "Input file sda.blktrace.0 added\n" + GOOD + "[...]\n" + GOOD
    (tmp_path / "trace").write_text(text + "fio (1001)\n Reads Queued:  0, 0KiB\nCPU0 (sda):\n")
    assert load(tmp_path / "trace").requests == 2


def test_completions_alone(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text(line("C", "R", "8 + 8 [0]") + line("C", "WS", "2 [0]"))
    found = load(tmp_path / "trace")
    assert rows(found) == [(False, 4096, 4096, 123)] and found.notes[0].startswith("only completions")
