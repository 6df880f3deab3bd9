"""biosnoop of bcc and libbpf-tools (TIME COMM PID DISK T SECTOR BYTES LAT) and iosnoop of perf-tools (COMM PID TYPE DEV
BLOCK BYTES LAT): a line a completed request, sectors of 512 bytes, bytes as they are."""

import re
from pathlib import Path

import numpy as np

from pagewarden.vocab import Advance
from pagewarden.workload.model import Workload
from pagewarden.workload.traces.table import SECTOR, TraceColumns, columns, matches, seconds, whole

FORMAT = "biosnoop or iosnoop"
_BIO = rb"[ \t]*(\d+\.\d+)[ \t]+\S.*?[ \t]+\d+[ \t]+\S+[ \t]+([RWDFN?]\S*)[ \t]+(\d+)[ \t]+(\d+)[ \t]+[\d. \t]+"
_IO = (
    rb"(?:(\d+\.\d+)[ \t]+)?(?:\d+\.\d+[ \t]+)?\S.*?[ \t]+\d+[ \t]+"
    rb"([RWDFN]\S*)[ \t]+\d+,\d+[ \t]+(\d+)[ \t]+(\d+)[ \t]+\d[\d. \t]*"
)
_OTHER = rb"(?:TIME|COMM|STARTs|Tracing|Ending|Attaching|[#$] |\[\.\.\.\])[^\n]*|[ \t]*"
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
    """The requests in the order of their completion; UserMistake."""
    with path.open("rb") as file:
        which = _which(file.read(1 << 16)) or "biosnoop"
    found = TraceColumns(notes={"completed requests, in the order of their completion, after merges": None})
    for rows in matches(path, LINES[which], EXPECTED[which], progress):
        rows = [row for row in rows if row[1]]
        if not rows:
            continue
        time, kind, sector, size = columns(rows)
        time[time == b""] = b"0"
        letter = np.array([text.lstrip(b"F")[:1] or b"F" for text in kind.tolist()], np.bytes_)
        data = (letter == b"R") | (letter == b"W")
        if not data.all():
            found.skipped["flush, discard or unknown"] += int((~data).sum())
        found.add(letter[data] == b"W", whole(sector[data]) * np.uint64(SECTOR), whole(size[data]), seconds(time[data]))
    return found.workload(path, FORMAT)
