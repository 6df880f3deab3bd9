"""Block events of the kernel's tracepoints, as ftrace's `trace` and `trace_pipe` and `perf script` print them.

Of `block_rq_issue` (a request goes to the driver), or where there is none `block_bio_queue` (what was asked for, before
merges) or `block_rq_insert`, each line is a request, which ends at its `block_rq_complete` or `block_bio_complete`:
include/trace/events/block.h prints device, RWBS, for requests the bytes and the command, then SECTOR + SECTORS. A
requeued request is issued again and is counted once.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab import Advance
from pagewarden.workload.in_flight import SectorRuns, until_completed
from pagewarden.workload.model import Workload
from pagewarden.workload.traces.table import TraceColumns, in_bytes

FORMAT = "block events (ftrace, perf script)"
EVENTS = (
    "block_rq_issue", "block_bio_queue", "block_rq_insert", "block_rq_requeue", "block_rq_complete",
    "block_bio_complete",
)  # fmt: skip
ISSUE, QUEUE, INSERT, REQUEUE, COMPLETE, BIO_COMPLETE = range(6)
_OTHERS = {"D": "discard", "F": "flush"}
_SNIFF = re.compile(rb"\d: +(?:block:)?block_(?:rq_issue|bio_queue|rq_insert|rq_requeue): +\d+,\d+ ")
EXPECTED = "TASK-PID [CPU] SECONDS: block_rq_issue: MAJOR,MINOR RWBS BYTES () SECTOR + SECTORS [COMMAND]"


def sniff(head: bytes) -> bool:
    """Does one of the events stand in it?"""
    return _SNIFF.search(head) is not None


def read(path: Path, progress: Advance | None = None) -> Workload:
    """The requests; UserMistake."""
    from pagewarden.workload.traces.block_lines import scan
    from pagewarden.workload.traces.event_lines import scanned

    parts, lost = [np.zeros((0, 7), np.uint64)], 0
    for _, rows, times in scanned(path, lambda data: scan(data, EVENTS), EXPECTED, progress):
        parts.append(rows.copy())  # without the room behind them
        lost += times
    events = np.concatenate(parts)
    parts.clear()
    if (events[:, 0] == REQUEUE).any():
        events = events[_first_times(events)]
    moves = np.isin(events[:, 4], [ord("R"), ord("W")]) & (events[:, 6] > 0)
    kinds = events[:, 0]
    chosen = next((kind for kind in (ISSUE, QUEUE, INSERT) if (moves & (kinds == kind)).any()), ISSUE)
    found = TraceColumns(notes={f"the requests are its {EVENTS[chosen]} events": None})
    for other, times in zip(*np.unique(events[kinds == chosen, 4], return_counts=True), strict=True):
        if chr(other) not in "RW":
            found.skipped[_OTHERS.get(chr(other), "no data or passed through")] += int(times)
    if lost:
        found.notes[f"{lost:,} events were lost when it was recorded: counts are too low"] = None
    rows = events[(kinds == chosen) & np.isin(events[:, 4], [ord("R"), ord("W")])]
    if (devices := len(np.unique(rows[:, 3]))) > 1:
        found.notes[f"{devices} devices; if one lies on another, the same request is counted for each"] = None
    offset, length = in_bytes(rows[:, [5, 6]]).T
    found.add(rows[:, 4] == ord("W"), offset, length, rows[:, 2].astype(np.int64))
    begun, ended = (_runs(events, moves & which) for which in (kinds == chosen, kinds >= COMPLETE))
    return found.workload(path, FORMAT, *until_completed(begun, ended))


def _runs(events: NDArray[np.uint64], which: NDArray[np.bool_]) -> SectorRuns:
    device, sector, count = (events[which, column].astype(np.int64) for column in (3, 5, 6))
    return SectorRuns(np.flatnonzero(which), device, sector, sector + count)


def _first_times(events: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which events are not a request that comes again after it was requeued."""
    keep = np.ones(len(events), bool)
    again = np.flatnonzero((events[:, 0] == REQUEUE) | (events[:, 0] == ISSUE))
    requeued: set[tuple[int, int]] = set()
    for at, kind, device, sector in zip(again, *events[again][:, [0, 3, 5]].T.tolist(), strict=True):
        if kind == REQUEUE:
            requeued.add((device, sector))
        elif (device, sector) in requeued:
            requeued.remove((device, sector))
            keep[at] = False
    return keep
