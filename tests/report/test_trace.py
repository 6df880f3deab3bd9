"""`--trace`: what Perfetto's own bindings read in the file is what the run did; Chrome's form says the same."""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from pagewarden.report.trace import chrome, perfetto
from pagewarden.studies.run.disk import open_disk
from pagewarden.studies.run.one import Run, run
from pagewarden.studies.run.plan import RunPlan, default_mix
from pagewarden.studies.run.traced import Recorder
from verbs import Verb, document

MIX = default_mix(12)


class Read(NamedTuple):
    """slices: (track, name, begin, end, flows, annotations); counters: (track, time, value)."""

    slices: list[tuple[str, str, int, int, tuple[int, ...], dict[str, Any]]]
    counters: list[tuple[str, int, int]]


def read(data: bytes) -> Read:
    """By the bindings alone: every slice ends, in the order of a stack, and time never goes back."""
    trace, names, found = Trace(), dict[int, str](), Read([], [])
    trace.ParseFromString(data)
    trace.DiscardUnknownFields()
    assert trace.ByteSize() == len(data) and len(trace.packet)
    stacks, now = defaultdict[int, list[Any]](list), 0
    for packet in trace.packet:
        if packet.HasField("track_descriptor"):
            names[packet.track_descriptor.uuid] = packet.track_descriptor.name
            continue
        event = packet.track_event
        assert packet.timestamp >= now and packet.trusted_packet_sequence_id
        now = packet.timestamp
        match event.type:
            case TrackEvent.TYPE_SLICE_BEGIN:
                stacks[event.track_uuid].append((now, event))
            case TrackEvent.TYPE_SLICE_END:
                begin, begun = stacks[event.track_uuid].pop()
                about = {each.name: each.string_value or each.int_value for each in begun.debug_annotations}
                flows = tuple(begun.flow_ids)
                found.slices.append((names[event.track_uuid], begun.name, begin, now, flows, about))
            case TrackEvent.TYPE_COUNTER:
                found.counters.append((names[event.track_uuid], now, event.counter_value))
    assert not any(stacks.values())
    return found


def recorded(design: str, cpu: str) -> tuple[Run, Recorder]:
    recorder = Recorder(design)
    with open_disk(MIX, None, False) as disk:
        return run(RunPlan(design, cpu=cpu, backing="memfd-secret" if cpu == "unicorn" else "auto", batch=4), MIX, disk,
                   False, recorder), recorder  # fmt: skip


@pytest.mark.parametrize("design", ["window", "bounce", "iommu"])
def test_a_run_and_the_model_have_one_shape_and_it_is_what_was_counted(design: str) -> None:
    shapes = []
    for cpu in ("unicorn", "interpreted"):
        done, recorder = recorded(design, cpu)
        found = read(perfetto(recorder.timeline))
        on = Counter(slice[0] for slice in found.slices)
        assert on["guest: exits"] == done.counts["exits"] + done.overhead["exits"]
        assert on["host: copies"] == done.requests == sum(on[track] for track in on if track.startswith("request "))
        assert sum(slice[5]["bytes"] for slice in found.slices if slice[0] == "host: copies") == done.bytes
        conversions = [slice for slice in found.slices if slice[0] == "hypervisor: conversions"]
        assert sum(slice[5]["pages"] for slice in conversions if slice[1].startswith("unshare")) == (
            0 if design == "bounce" else done.counts["hyp_pte_clear"]
        )
        levels = [value for track, _, value in found.counters if track == "pages open"]
        assert levels[0] == levels[-1] < max(levels) or design == "bounce"
        pool = [value for track, _, value in found.counters if track == "pool pages used"]
        assert (max(pool) > 0 == pool[-1]) if design == "bounce" else not pool
        nested(found)
        shapes.append([(slice[:2], slice[4], slice[5]) for slice in sorted(found.slices, key=lambda each: each[4])])
    assert shapes[0] == shapes[1]


def nested(found: Read) -> None:
    """A request lies around its copy and the exits of its flow around that; each flow of a request has three stops."""
    flows = defaultdict[int, dict[str, Any]](dict)
    for slice in found.slices:
        for flow in slice[4]:
            flows[flow][slice[0].partition(" ")[0] + slice[0][-6:]] = slice
    requests = [stops for stops in flows.values() if any(name.startswith("request") for name in stops)]
    assert len(requests) == MIX.requests
    for stops in requests:
        (request,) = (slice for name, slice in stops.items() if name.startswith("request"))
        bell, copy = stops["guest: exits"], stops["host:copies"]
        assert request[2] <= bell[2] < copy[2] < copy[3] < bell[3] <= request[3] and bell[1] == "doorbell"


def test_chromes_form_says_the_same() -> None:
    _, recorder = recorded("window", "interpreted")
    found, said = read(perfetto(recorder.timeline)), json.loads(chrome(recorder.timeline))["traceEvents"]
    tracks = {event["tid"]: event["args"]["name"] for event in said if event["ph"] == "M"}
    drawn = [event for event in said if event["ph"] == "X"]
    slices = [(tracks[event["tid"]], event["name"], round(event["ts"] * 1000), event["args"]) for event in drawn]
    assert sorted(map(repr, slices)) == sorted(repr((*slice[:3], slice[5])) for slice in found.slices)
    levels = [event for event in said if event["ph"] == "C"]
    counters = [(event["name"], round(event["ts"] * 1000), event["args"]["value"]) for event in levels]
    assert sorted(counters) == sorted(found.counters)
    stops = Counter(event["id"] for event in said if event["ph"] in "stf")
    assert stops == Counter(flow for slice in found.slices for flow in slice[4])


def test_the_verbs_write_it(verb: Verb, tmp_path: Path) -> None:
    ways = tmp_path / "ways.pftrace"
    small = ("--pages", "1", "--vcpus", "1", "--stranger", "strace", "--property", "host-never-panics")
    said = document(verb, "check", "--policy", "pkvm-2022", *small, "--trace", str(ways), code=1)
    (entry,) = said["properties"]
    found = read(ways.read_bytes())
    steps = sorted((slice for slice in found.slices if slice[0] != "property"), key=lambda each: each[2])
    assert [slice[1] for slice in steps] == [step["action"] for step in entry["trace"]]
    assert all(slice[5]["rule"] == step["rule"] for slice, step in zip(steps, entry["trace"], strict=True))
    assert {slice[0] for slice in steps} <= {"guest", "hypervisor", "host", "device"}
    live = tmp_path / "run.json"
    verb("run", "--requests", "4", "--cpu", "interpreted", "--trace", str(live))
    assert "doorbell" in {event["name"] for event in json.loads(live.read_text())["traceEvents"]}
    refused = verb("run", "--all-designs", "--trace", str(live), code=2)
    assert "--trace has no effect with --all-designs" in refused.stderr
