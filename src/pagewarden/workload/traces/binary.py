"""Binary block traces, as blktrace writes them for each CPU: records of include/uapi/linux/blktrace_api.h, version 7.

Q (queued) is what was asked for; D (issued) is taken where there is no Q; C (completed) says how many are in flight.
blktrace's files of several CPUs are several workloads: merge them with `blkparse -i NAME -d FILE` first.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab import Advance, UserMistake
from pagewarden.workload.in_flight import SectorRuns, until_completed
from pagewarden.workload.model import Workload
from pagewarden.workload.traces.table import SECTOR, TraceColumns, in_bytes

FORMAT = "binary block trace"
RECORD = np.dtype(
    [("magic", "<u4"), ("sequence", "<u4"), ("time", "<u8"), ("sector", "<u8"), ("bytes", "<u4"), ("action", "<u4"),
     ("pid", "<u4"), ("device", "<u4"), ("cpu", "<u4"), ("error", "<u2"), ("pdu_len", "<u2")]
)  # fmt: skip
MAGIC = 0x65617407
"""BLK_IO_TRACE_MAGIC | BLK_IO_TRACE_VERSION."""
QUEUE, ISSUE, COMPLETE = 1, 7, 8  # enum blktrace_act
READ, WRITE, DISCARD, NOTIFY, PASSED = (1 << 16 << bit for bit in (0, 1, 13, 10, 9))  # enum blktrace_cat: TC_READ, ...


def sniff(head: bytes) -> bool:
    """Does a record of version 7 stand at its start?"""
    return head[:4] == MAGIC.to_bytes(4, "little")


def read(path: Path, progress: Advance | None = None) -> Workload:
    """The requests; UserMistake for a file that breaks off or has another byte order or version."""
    data = path.read_bytes()
    records = np.frombuffer(b"".join(_records(path, data)), RECORD)
    if progress:
        progress(len(data), len(data))
    kind = records["action"] & 0xFFFF
    moves = (records["action"] & (READ | WRITE) > 0) & (records["action"] & (NOTIFY | DISCARD | PASSED) == 0)
    act = QUEUE if (moves & (kind == QUEUE)).any() else ISSUE
    mine = records[kind == act]
    data_ = moves[kind == act]
    found = TraceColumns()
    if not data_.all():
        found.skipped["flush, discard or passed through"] += int((~data_).sum())
    if act == ISSUE:
        found.notes["no queued requests (Q) in the trace: those issued to the driver (D) are taken, after merges"] = (
            None
        )
    if (devices := len(np.unique(mine["device"][data_]))) > 1:
        found.notes[f"{devices} devices; if one lies on another, the same request is counted for each"] = None
    chosen = mine[data_]
    found.add(
        chosen["action"] & WRITE > 0, in_bytes(chosen["sector"]), chosen["bytes"].astype(np.uint64),
        chosen["time"].astype(np.int64),
    )  # fmt: skip
    ended, begun = (np.flatnonzero(moves & (kind == each) & (records["bytes"] > 0)) for each in (COMPLETE, act))
    return found.workload(path, FORMAT, *until_completed(_extents(records, begun), _extents(records, ended)))


def _extents(records: NDArray[np.void], rows: NDArray[np.int64]) -> SectorRuns:
    chosen = records[rows]
    first, size = chosen["sector"].astype(np.int64), chosen["bytes"].astype(np.int64)
    return SectorRuns(rows, chosen["device"].astype(np.int64), first, first + size // SECTOR)


def _records(path: Path, data: bytes) -> list[bytes]:
    """The records without what hangs on to some of them."""
    at, found, size = 0, [], RECORD.itemsize
    magic = MAGIC.to_bytes(4, "little")
    while at < len(data):
        if data[at : at + 4] != magic or at + size > len(data):
            raise UserMistake(
                f"{path}: byte {at:,} is no record of a block trace of version 7; `blkparse -i FILE` may read it"
            )
        found.append(data[at : at + size])
        at += size + int.from_bytes(data[at + size - 2 : at + size], "little")
    return found
