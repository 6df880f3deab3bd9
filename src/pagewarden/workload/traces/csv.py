"""Comma-separated traces: those with known columns, and any with `--columns`, which blanks may separate as well.

Known: MSR Cambridge (Timestamp in 100 ns, Hostname, DiskNumber, Type, Offset, Size, ResponseTime; no header), SYSTOR
'17 (Timestamp, Response, IOType, LUN, Offset, Size; with header), vscsiStats -e vscsitrace (serial number, bytes,
segments, type, block of 512 bytes, microseconds; header lines with #), SPC as UMass has them (unit, block of 512
bytes, bytes, r or w, seconds), Alibaba (device, R or W, offset, bytes, microseconds), Tencent (seconds, block, blocks,
0 or 1, volume). Columns of one's own are named in the file's order: time, op, offset, size, sector (of 512 bytes),
sectors, device, latency (in the unit of time), and - for what is not looked at.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab import Advance, UserMistake
from pagewarden.workload.model import Workload
from pagewarden.workload.traces.table import Texts, TraceColumns, columns, in_bytes, matches, seconds, ticks, whole

FORMAT = "CSV trace"
NAMES = ("time", "op", "offset", "size", "sector", "sectors", "device", "latency", "-")
WRITES = {b"w", b"write", b"1", b"ws", b"wr", b"writ"}
READS = {b"r", b"read", b"0", b"rs", b"rd"}
_UNIX = 116_444_736_000_000_000
"""1970 in the 100 ns ticks since 1601 that Windows counts."""
_KNOWN = (  # its first line, its columns, ns of a tick and the tick that time starts at; (0, 0): seconds
    (
        re.compile(rb"\d{15,},[^,]*,\d+,(?i:read|write),\d+,\d+,\d+\s*$"),
        "time,-,device,op,offset,size,latency",
        (100, _UNIX),
    ),
    (re.compile(rb"Timestamp,Response,IOType,LUN,Offset,Size\s*$"), "time,latency,op,device,offset,size", (0, 0)),
    (re.compile(rb"#Vscsi Cmd Trace|\d+,\d+,\d+,(?i:read|write),\d+,\d+\s*$"), "-,size,-,op,sector,time", (1000, 0)),
    (re.compile(rb"\d+,\d+,\d+,[rRwW],\d+\.\d+(?:,|\s*$)"), "-,sector,size,op,time", (0, 0)),
    (re.compile(rb"\d+,[RW],\d+,\d+,\d{15,}\s*$"), "device,op,offset,size,time", (1000, 0)),
    (
        re.compile(rb"(?:Timestamp,Offset,Size,IOType,VolumeID|\d{10},\d+,\d+,[01],\d+)\s*$"),
        "time,sector,sectors,op,device",
        (0, 0),
    ),
)
_NUMBER = re.compile(rb"(?:^|[,; \t])\d+(?:\.\d*)?(?:[,; \t]|$)")
"""What no line of names has."""
_CLOCKS = ((1e17, 1), (1e14, 1000), (1e11, 1_000_000))
"""From which time since 1970 on it can only be in ticks of so many ns; smaller ones are seconds."""


def _known(head: bytes) -> tuple[str, tuple[int, int]] | None:
    first = next((line for line in head.split(b"\n") if line.strip()), b"")
    return next(((names, unit) for pattern, names, unit in _KNOWN if pattern.match(first)), None)


def sniff(head: bytes) -> bool:
    """Is it one of those with known columns?"""
    return _known(head) is not None


def read(path: Path, progress: Advance | None = None, names: Sequence[str] = ()) -> Workload:
    """The requests. names: what the columns are, where the file is none of the known; UserMistake."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    known = None if names else _known(head)
    wanted = known[0].split(",") if known else list(names)
    _check(wanted)
    shown = next((text for text in head.split(b"\n") if text.strip() and text[:1] != b"#"), b"")
    line = _line(wanted, rb"," if b"," in shown else rb"[ \t]+")
    found = TraceColumns()
    top = head.split(b"\n", 1)[0].rstrip(b"\r")
    header = 0 if line.fullmatch(top) or _NUMBER.search(top) else 1
    taken = [name for name in wanted if name != "-"]
    clock = known[1] if known else _clock(head, line, taken, found)
    for rows in matches(path, line, ",".join(wanted), progress, skip=header):
        rows = [row for row in rows if row[taken.index("op")]]
        if rows:
            _add(found, dict(zip(taken, columns(rows), strict=True)), clock)
    if header:
        found.notes["the first line is taken as the names of the columns"] = None
    return found.workload(path, FORMAT)


def _line(wanted: Sequence[str], between: bytes) -> re.Pattern[bytes]:
    """A line with these columns; after the last one others may follow."""
    blank = rb"[ \t]*" if between == b"," else b""
    other = rb"[^,\n]*" if between == b"," else rb"[^ \t\n]+"
    field = blank + (rb'"?([^,"\n]*?)"?' if between == b"," else rb"([^ \t\n]+)") + blank
    number, time = (blank + rb'"?(\d{1,18}' + rest + rb')"?' + blank for rest in (rb"\d?", rb"(?:\.\d*)?"))
    took = time if between != b"," else blank + rb'"?(\d{0,18}(?:\.\d*)?)"?' + blank
    own = {"-": other, "op": field, "device": field, "time": time, "latency": took}
    parts = [own.get(name, number) for name in wanted]
    ends = rb"(?:" + between + rb"[^\n]*)?" if between == b"," else rb"(?:[ \t][^\n]*)?"
    return re.compile(rb"^(?:[ \t]*" + between.join(parts) + ends + rb"|#[^\n]*|[ \t]*)$", re.MULTILINE)


def _clock(head: bytes, line: re.Pattern[bytes], taken: Sequence[str], found: TraceColumns) -> tuple[int, int]:
    """ns of a tick, and the tick to count from, by the first time; (0, 0) for seconds."""
    times = (match[1 + taken.index("time")] for match in line.finditer(head) if "time" in taken)
    first = float(next((time for time in times if time), b"0"))
    tick = next((ns for least, ns in _CLOCKS if first >= least), 0)
    if tick:
        found.notes[f"times are taken as ticks of {tick:,} ns"] = None
    return (tick, int(first)) if tick else (0, 0)


def _check(names: Sequence[str]) -> None:
    for name in names:
        if name not in NAMES:
            raise UserMistake(
                f"--columns {','.join(names)}: no column is called {name!r}; there are {', '.join(NAMES)}"
            )
    for one in (("op",), ("offset", "sector"), ("size", "sectors")):
        if sum(names.count(name) for name in one) != 1:
            raise UserMistake(f"--columns {','.join(names)}: expected {' or '.join(one)} once")


def _add(found: TraceColumns, column: dict[str, Texts], clock: tuple[int, int]) -> None:
    op = np.char.lower(column["op"])
    write, read = np.isin(op, list(WRITES)), np.isin(op, list(READS))
    data = write | read
    if np.isin(op, [b"0", b"1"]).any():
        found.notes["operation 0 is taken as a read, 1 as a write"] = None
    for other in set(op[~data].tolist()):
        found.skipped[other.decode("utf-8", "backslashreplace") or "no operation"] += int((op == other).sum())
    offset, size = (_bytes(column, name, unit_) for name, unit_ in (("offset", "sector"), ("size", "sectors")))
    time, latency = np.zeros(len(op), np.int64), np.full(len(op), -1)
    if "time" in column:
        time = ticks(column["time"], *clock) if clock[0] else seconds(column["time"])
        took = column.get("latency", np.full(len(op), b""))
        took = np.where(took == b"", b"-1", took)
        latency = ticks(took, clock[0]) if clock[0] else seconds(took)
    found.add(write[data], offset[data], size[data], time[data], latency[data])


def _bytes(column: dict[str, Texts], name: str, in_sectors: str) -> NDArray[np.uint64]:
    if name in column:
        return whole(column[name])
    return in_bytes(whole(column[in_sectors]))
