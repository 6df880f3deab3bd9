"""biosnoop of bcc and libbpf-tools (TIME COMM PID DISK T SECTOR BYTES LAT) and iosnoop of perf-tools (COMM PID TYPE DEV
BLOCK BYTES LAT): a line a completed request, sectors of 512 bytes, bytes as they are, and how many ms it took."""

import re
from pathlib import Path

import numpy as np

from pagewarden.vocab import Advance
from pagewarden.workload.model import Workload
from pagewarden.workload.traces.table import TraceColumns, columns, in_bytes, matches, seconds, whole

FORMAT = "biosnoop or iosnoop"
_TOOK = rb"[ \t]+(?:[\d. \t]*[ \t])?(\d+\.?\d*)[ \t]*"
_BIO = rb"[ \t]*(\d+\.\d+)[ \t]+\S.*?[ \t]+\d+[ \t]+\S+[ \t]+([RWDFN?]\S*)[ \t]+(\d+)[ \t]+(\d+)" + _TOOK
_IO = (
    rb"(?:(\d+\.\d+)[ \t]+)?(?:\d+\.\d+[ \t]+)?\S.*?[ \t]+\d+[ \t]+"
    rb"([RWDFN]\S*)[ \t]+\d+,\d+[ \t]+(\d+)[ \t]+(\d+)" + _TOOK
)
_OTHER = rb"(?:TIME|COMM|STARTs|ENDs|Tracing|Ending|Attaching|[#$] |\[\.\.\.\])[^\n]*|[ \t]*"
"""Headers, a prompt that was copied along, what was cut out."""
LINES = {
    name: re.compile(rb"^(?:" + pattern + rb"|" + _OTHER + rb")$", re.MULTILINE)
    for name, pattern in (("biosnoop", _BIO), ("iosnoop", _IO))
}
EXPECTED = {
    "biosnoop": "TIME(s) COMM PID DISK T SECTOR BYTES LAT(ms)",
    "iosnoop": "COMM PID TYPE DEV BLOCK BYTES LATms",
}


def _which(head: bytes) -> str | None:
    lines = [line.rstrip(b"\r") for line in head.split(b"\n")[:9] if line.strip()]
    for name, data in (("biosnoop", _BIO), ("iosnoop", _IO)):
        if any(re.fullmatch(data, line) for line in lines) and LINES[name].fullmatch(lines[0]):
            return name
    return None


def sniff(head: bytes) -> bool:
    """Do its first lines look so?"""
    return _which(head) is not None


def read(path: Path, progress: Advance | None = None) -> Workload:
    """The requests in the order of their beginning, where times are in it, else of their completion; UserMistake."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    which = _which(head) or "biosnoop"
    began = which == "iosnoop" and b"STARTs" in head  # else a time is that of the completion
    found = TraceColumns()
    for rows in matches(path, LINES[which], EXPECTED[which], progress):
        rows = [row for row in rows if row[1]]
        if not rows:
            continue
        time, kind, sector, size, took = columns(rows)
        timed = bool((time != b"").all())
        order = "beginning" if timed else "completion"
        found.notes[f"completed requests, in the order of their {order}, after merges"] = None
        latency = seconds(took) // 1000 if timed else np.full(len(time), -1)
        start = seconds(time) - latency * (not began) if timed else np.zeros(len(time), np.int64)
        letter = np.array([text.lstrip(b"F")[:1] or b"F" for text in kind.tolist()], np.bytes_)
        data = (letter == b"R") | (letter == b"W")
        if not data.all():
            found.skipped["flush, discard or unknown"] += int((~data).sum())
        found.add(letter[data] == b"W", in_bytes(whole(sector[data])), whole(size[data]), start[data], latency[data])
    return found.workload(path, FORMAT)
