"""`--trace FILE`: a timeline as Perfetto's protobuf (ui.perfetto.dev), or, for FILE.json, in Chrome's form.

Fields: protos/perfetto/trace/{trace,trace_packet}.proto and track_event/*.proto of github.com/google/perfetto; Chrome's
form: its "Trace Event Format". Times are ns from the first event on (us in Chrome's).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from pagewarden.report.documents.check import Property
from pagewarden.report.pages.check import LANES, lane_of
from pagewarden.vocab.host import naming
from pagewarden.vocab.timeline import Timeline, TimeSlice

STEP = 1000
"""ns that a step of a counterexample is drawn long: it has an order and no duration."""
_BEGIN, _END, _COUNTER = 1, 2, 4
_SEQUENCE = 1


def write_trace(path: Path, found: Timeline) -> None:
    """OSError names the file."""
    with naming(str(path)):
        path.write_bytes(chrome(found) if path.suffix == ".json" else perfetto(found))


def counterexamples(failed: Iterable[Property]) -> Timeline:
    """Each failure's shortest way, one behind another: a track a lane, a flow through its steps."""
    made, at = Timeline(), 0
    for flow, entry in enumerate((entry for entry in failed if entry.trace), 1):
        begin = at
        for step in entry.trace:
            about = {"actor": step.actor, "effect": step.effect, "rule": step.rule}
            made.slices.append(TimeSlice(lane_of(step), step.action, at, at + STEP, (flow,), about))
            at += STEP
        made.slices.append(TimeSlice("property", f"{entry.name} fails", begin, at, (), {"steps": len(entry.trace)}))
        at += STEP
    made.slices.sort(key=lambda each: ((*LANES, "property").index(each.track), each.begin))
    return made


def _tracks(found: Timeline) -> dict[str, int]:
    """A number a track or counter, in the order of their first mention."""
    names = [each.track for each in found.slices] + [each.counter for each in found.levels]
    return {name: number for number, name in enumerate(dict.fromkeys(names), 1)}


def _start(found: Timeline) -> int:
    return min([*(each.begin for each in found.slices), *(each.at for each in found.levels)], default=0)


def perfetto(found: Timeline) -> bytes:
    """A perfetto.protos.Trace."""
    tracks, zero = _tracks(found), _start(found)
    counters = {each.counter for each in found.levels}
    packets = [
        _bytes(60, _number(1, uuid) + _bytes(2, name.encode()) + (_bytes(8, b"") if name in counters else b""))
        for name, uuid in tracks.items()
    ]
    events = [(each.begin, 1, -each.end, _begin(each, tracks)) for each in found.slices]
    events += [(each.end, 0, -each.begin, _number(9, _END) + _number(11, tracks[each.track])) for each in found.slices]
    events += [
        (each.at, 2, 0, _number(9, _COUNTER) + _number(11, tracks[each.counter]) + _number(30, each.value))
        for each in found.levels
    ]
    packets += [
        _number(8, at - zero) + _number(10, _SEQUENCE) + _bytes(11, event) for at, _, _, event in sorted(events)
    ]
    return b"".join(_bytes(1, packet) for packet in packets)


def _begin(each: TimeSlice, tracks: dict[str, int]) -> bytes:
    event = _number(9, _BEGIN) + _number(11, tracks[each.track]) + _bytes(23, each.name.encode())
    for name, value in each.about.items():
        said = _bytes(6, value.encode()) if isinstance(value, str) else _number(4, value)
        event += _bytes(4, _bytes(10, name.encode()) + said)
    return event + b"".join(_varint(47 << 3 | 1) + flow.to_bytes(8, "little") for flow in each.flows)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def chrome(found: Timeline) -> bytes:
    """A JSON object with traceEvents."""
    return msgspec.json.encode({"displayTimeUnit": "ns", "traceEvents": list(_events(found))})


def _events(found: Timeline) -> Iterator[dict[str, Any]]:
    tracks, zero = _tracks(found), _start(found)
    for name, number in tracks.items():
        yield {"ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": {"name": name}}
    flows = defaultdict[int, list[TimeSlice]](list)
    for each in found.slices:
        yield {
            "ph": "X", "name": each.name, "pid": 1, "tid": tracks[each.track], "ts": (each.begin - zero) / 1000,
            "dur": (each.end - each.begin) / 1000, "args": dict(each.about),
        }  # fmt: skip
        for flow in each.flows:
            flows[flow].append(each)
    for flow, through in flows.items():
        through.sort(key=lambda each: each.begin)
        for place, each in enumerate(through):
            kind = "s" if place == 0 else "f" if place == len(through) - 1 else "t"
            yield {
                "ph": kind, "name": "request", "cat": "flow", "id": flow, "pid": 1, "tid": tracks[each.track],
                "ts": (each.begin - zero) / 1000, "bp": "e",
            }  # fmt: skip
    for level in found.levels:
        yield {
            "ph": "C",
            "name": level.counter,
            "pid": 1,
            "ts": (level.at - zero) / 1000,
            "args": {"value": level.value},
        }
