"""What is in flight in a trace with completions, against sets that are filled and emptied as its lines say."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pagewarden.cli import app
from pagewarden.workload import in_flight, load
from pagewarden.workload.in_flight import SectorRuns, most_in_flight, until_completed, until_latency
from pagewarden.workload.load import Reading

Event = tuple[str, int, int]
"""Q or C, first sector, sectors."""
DEEP = [("Q", 8 * at, 8) for at in range(24)] + [
    one for at in range(24, 200) for one in (("C", 8 * (at - 24), 8), ("Q", 8 * at, 8))
]
"""24 in flight of 200, as a trace shows that was stopped there."""


def extents(events: list[Event], kind: str) -> SectorRuns:
    rows = [(at, 0, first, first + count) for at, (name, first, count) in enumerate(events) if name == kind]
    return SectorRuns(*np.array(rows, np.int64).reshape(-1, 4).T)


def until(events: list[Event]) -> list[int]:
    found = until_completed(extents(events, "Q"), extents(events, "C"))[0]
    assert found is not None
    return list(found.tolist())


@given(data=st.data())
def test_each_request_ends_before_the_first_that_is_issued_after_its_completion(data: st.DataObject) -> None:
    events: list[Event] = []
    flying: list[int] = []
    expected: dict[int, int] = {}
    for at in range(data.draw(st.integers(1, 20))):
        for _ in range(data.draw(st.integers(0, len(flying)))):
            done = flying.pop(data.draw(st.integers(0, len(flying) - 1)))
            events.append(("C", 8 * done, 8))
            expected[done] = at
        flying.append(at)
        events.append(("Q", 8 * at, 8))
    if not expected:
        return
    longest = max(end - at for at, end in expected.items())
    found = until(events)
    assert found == [expected.get(at, min(at + longest, len(found))) for at in range(len(found))]
    assert most_in_flight(np.array(found)) == max(sum(end > at for end in found[: at + 1]) for at in range(len(found)))


def test_what_was_merged_ends_together_and_what_was_split_with_its_last_part() -> None:
    merged = [("Q", 0, 8), ("Q", 8, 8), ("Q", 16, 8), ("Q", 64, 8), ("C", 0, 24), ("Q", 72, 8), ("C", 64, 16)]
    assert until(merged) == [4, 4, 4, 5, 5]
    split = [("Q", 0, 32), ("C", 0, 16), ("Q", 64, 8), ("C", 16, 16), ("Q", 72, 8)]
    assert until(split) == [2, 3, 3]
    twice = [("Q", 0, 8), ("Q", 0, 8), ("C", 0, 8), ("Q", 8, 8), ("C", 0, 8), ("Q", 16, 8)]
    assert sorted(until(twice)[:2]) == [2, 3]


def test_the_same_sectors_of_another_device_are_another_request() -> None:
    issued = SectorRuns(np.array([0, 1, 3]), np.array([7, 9, 7]), np.array([0, 0, 8]), np.array([8, 8, 16]))
    completed = SectorRuns(np.array([2]), np.array([9]), np.array([0]), np.array([8]))
    found, notes = until_completed(issued, completed)
    assert found is not None and found.tolist() == [1, 2, 3] and "1 requests have no completion" in notes[0]


def test_the_compiled_loop_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = until(DEEP)
    monkeypatch.setattr(in_flight, "MANY", 1)
    assert until(DEEP) == plain


def test_latencies() -> None:
    start, latency = np.array([0, 10, 20, 30]), np.array([25, 5, -1, 0])
    found = until_latency(start, latency)[0]
    assert found is not None and found.tolist() == [3, 2, 4, 4] and most_in_flight(found) == 2
    assert until_latency(start, np.full(4, -1)) == (None, ())


def blkparse(begins: str) -> bytes:
    lines = [
        f"  8,0  1 {at} 0.{at:09} 697 {begins if kind == 'Q' else kind} R {first} + {count} [0]\n"
        for at, (kind, first, count) in enumerate(DEEP)
    ]
    return "".join(lines).encode()


def binary(begins: int) -> bytes:
    acts = {"Q": begins | 1 << 16, "C": 8 | 1 << 16}
    return b"".join(
        struct.pack("<IIQQIIIIIHH", 0x65617407, at, at, first, count * 512, acts[kind], 1, 8 << 20, 0, 0, 0)
        for at, (kind, first, count) in enumerate(DEEP)
    )


def events(begins: str, ends: str) -> bytes:
    names = {"Q": begins, "C": ends}
    lines = [
        f" fio-1 [000] d..1. 7.{at:06}: {names[kind]}: 8,0 R {first} + {count} [0]\n"
        for at, (kind, first, count) in enumerate(DEEP)
    ]
    return "".join(lines).encode()


def qemu() -> bytes:
    """A request's address is free for another one when it is over."""
    texts = {
        "Q": "handle_read vdev 0x1 req 0x{:x} sector {} nsectors {}",
        "C": "req_complete vdev 0x1 req 0x{:x} status 0",
    }
    lines = [
        f"9@7.{at:06}:virtio_blk_" + texts[kind].format(4096 + first // 8 % 24, first, count) + "\n"
        for at, (kind, first, count) in enumerate(DEEP)
    ]
    return "".join(lines).encode()


def timed(form: str, since: int = 0) -> bytes:
    """A line a request, of which each takes 23.5 times as long as until the next begins. since: ns of the first."""
    took = 23_500
    lines = [
        form.format(
            ticks=116_444_736_000_000_000 + at * 10, ms=took / 1e6, s=took / 1e9, end=(at * 1000 + took) / 1e9,
            start=at / 1e6, sector=8 * at, byte=4096 * at, took=took // 100,
        )
        for at in range(200)
    ]  # fmt: skip
    return "".join(lines).encode()


TRACES = {
    "qemu": qemu(),
    "biosnoop": timed("{end:.9f} fio 1201 vda R {sector} 4096 {ms:.4f}\n"),
    "iosnoop -s": b"STARTs COMM PID TYPE DEV BLOCK BYTES LATms\n"
    + timed("{start:.6f} fio 12 R 8,0 {sector} 4096 {ms:.4f}\n"),
    "iosnoop -t": b"ENDs COMM PID TYPE DEV BLOCK BYTES LATms\n"
    + timed("{end:.9f} fio 12 R 8,0 {sector} 4096 {ms:.4f}\n"),
    "msr": timed("{ticks},host,0,Read,{byte},4096,{took}\n"),
    "systor": b"Timestamp,Response,IOType,LUN,Offset,Size\n" + timed("{start:.6f},{s:.7f},R,0,{byte},4096\n"),
    "Q text": blkparse("Q"),
    "D text": blkparse("D"),
    "Q binary": binary(1),
    "D binary": binary(7),
    "issued": events("block_rq_issue", "block_rq_complete"),
    "queued": events("block_bio_queue", "block_bio_complete"),
}


@pytest.mark.parametrize("text", TRACES.values(), ids=TRACES)
def test_a_trace_s_own_depth_is_the_pool_s(tmp_path: Path, text: bytes) -> None:
    """24 reads of 4 KiB of 5 slots each at once; without a look at completions: 5."""
    path = tmp_path / "trace"
    path.write_bytes(text)
    assert load(path).depth == 24
    found = json.loads(CliRunner().invoke(app, ["pool", str(path), "--json"]).stdout)
    assert found["peak_slots"] == 24 * 5 and "in flight at once: at most 24" in found["notes"]
    found = json.loads(CliRunner().invoke(app, ["pool", str(path), "--json", "--depth", "2"]).stdout)
    assert found["peak_slots"] == 10
    first = load(path).part(slice(10, 30))
    assert first.until is not None and first.until.tolist() == [20] * 20


def test_a_column_of_latencies_has_the_unit_of_time(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text("0.0,r,0,4096,2.5\n1.0,r,4096,4096,0.5\n2.0,r,8192,4096,\n3.0,r,8192,4096,0\n")
    found = load(path, reading=Reading(columns=["time", "op", "offset", "size", "latency"]))
    assert found.until is not None and found.until.tolist() == [3, 2, 4, 4] and found.depth == 2
