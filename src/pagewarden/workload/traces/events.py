"""Block events of the kernel's tracepoints, as ftrace's `trace` and `trace_pipe` and `perf script` print them.

Of `block_rq_issue` (a request goes to the driver), or where there is none `block_bio_queue` (what was asked for, before
merges) or `block_rq_insert`, each line is a request: include/trace/events/block.h prints device, RWBS, for requests the
bytes and the command, then SECTOR + SECTORS. A requeued request is issued again and is counted once.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab import Advance
from pagewarden.workload.model import Workload
from pagewarden.workload.traces.table import SECTOR, Texts, TraceColumns, columns, matches, seconds, whole

FORMAT = "block events (ftrace, perf script)"
_WANTED = ("block_rq_issue", "block_bio_queue", "block_rq_insert")
_EVENT = rb"block_(?:rq_issue|bio_queue|rq_insert|rq_requeue)"
LINE = re.compile(
    rb"^(?:.*?[ \t](\d+\.\d+): +(?:block:)?(" + _EVENT + rb"): +"
    rb"(\d+,\d+) ([A-Z]+) (?:\d+ )?(?:\([^)]*\) )?(\d+) \+ (\d+)[^\n]*"
    rb"|.*?LOST (\d+) EVENTS.*|(?!.*?: +(?:block:)?" + _EVENT + rb":).*)$",
    re.MULTILINE,
)  # fmt: skip
EXPECTED = "TASK-PID [CPU] SECONDS: block_rq_issue: MAJOR,MINOR RWBS BYTES () SECTOR + SECTORS [COMMAND]"


def sniff(head: bytes) -> bool:
    """Does one of the events stand in it?"""
    return re.search(rb"\d: +(?:block:)?" + _EVENT + rb": +\d+,\d+ ", head) is not None


def read(path: Path, progress: Advance | None = None) -> Workload:
    """The requests; UserMistake."""
    kinds = {name: TraceColumns() for name in _WANTED}
    devices: set[bytes] = set()
    lost = 0
    requeued: set[tuple[bytes, bytes]] = set()
    for rows in matches(path, LINE, EXPECTED, progress):
        lost += sum(int(row[6]) for row in rows if row[6])
        rows = [row for row in rows if row[1]]
        if not rows:
            continue
        time, event, device, rwbs, sector, count, _ = columns(rows)
        keep = _first_times(event, device, sector, requeued)
        for name, found in kinds.items():
            mine = (event == name.encode()) & keep
            letter = np.array([text.lstrip(b"F")[:1] or b"F" for text in rwbs[mine].tolist()], np.bytes_)
            data = (letter == b"R") | (letter == b"W")
            for other, what in ((b"D", "discard"), (b"F", "flush"), (b"N", "no data or passed through")):
                if times := int((letter == other).sum()):
                    found.skipped[what] += times
            devices |= set(device[mine][data].tolist())
            found.add(
                letter[data] == b"W", whole(sector[mine][data]) * np.uint64(SECTOR),
                whole(count[mine][data]) * np.uint64(SECTOR), seconds(time[mine][data]),
            )  # fmt: skip
    chosen = next((name for name, found in kinds.items() if found.parts), _WANTED[0])
    found = kinds[chosen]
    found.notes[f"the requests are its {chosen} events"] = None
    if lost:
        found.notes[f"{lost:,} events were lost when it was recorded: counts are too low"] = None
    if len(devices) > 1:
        found.notes[f"{len(devices)} devices; if one lies on another, the same request is counted for each"] = None
    return found.workload(path, FORMAT)


def _first_times(event: Texts, device: Texts, sector: Texts, requeued: set[tuple[bytes, bytes]]) -> NDArray[np.bool_]:
    """Which events are not a request that comes again after it was requeued."""
    keep = np.ones(len(event), bool)
    if not requeued and not (event == b"block_rq_requeue").any():
        return keep
    places = zip(device.tolist(), sector.tolist(), strict=True)
    for i, (kind, key) in enumerate(zip(event.tolist(), places, strict=True)):
        if kind == b"block_rq_requeue":
            requeued.add(key)
        elif kind == b"block_rq_issue" and key in requeued:
            requeued.remove(key)
            keep[i] = False
    return keep
