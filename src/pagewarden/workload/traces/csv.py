"""Comma-separated traces: those with known columns (MSR Cambridge, SNIA's SYSTOR, vscsiStats), any with `--columns`.

Known: MSR Cambridge (Timestamp in 100 ns, Hostname, DiskNumber, Type, Offset, Size, ResponseTime; no header), SYSTOR
'17 (Timestamp, Response, IOType, LUN, Offset, Size; with header), vscsiStats -e vscsitrace (serial number, bytes,
segments, type, block of 512 bytes, microseconds; header lines with #). Columns of one's own are named in the file's
order: time, op, offset, size, sector (of 512 bytes), sectors, device, and - for what is not looked at.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab import Advance, UserMistake
from pagewarden.workload.model import Workload
from pagewarden.workload.traces.table import SECTOR, Texts, TraceColumns, columns, matches, seconds, ticks, whole

FORMAT = "CSV trace"
NAMES = ("time", "op", "offset", "size", "sector", "sectors", "device", "-")
WRITES = {b"w", b"write", b"1", b"ws", b"wr", b"writ"}
READS = {b"r", b"read", b"0", b"rs", b"rd"}
_UNIX = 116_444_736_000_000_000
"""1970 in the 100 ns ticks since 1601 that Windows counts."""
_KNOWN = (  # its first line, its columns, ns of a tick and the tick that time starts at; (0, 0): seconds
    (re.compile(rb"\d{15,},[^,]*,\d+,(?i:read|write),\d+,\d+,\d+\s*$"), "time,-,device,op,offset,size,-", (100, _UNIX)),
    (re.compile(rb"Timestamp,Response,IOType,LUN,Offset,Size\s*$"), "time,-,op,device,offset,size", (0, 0)),
    (re.compile(rb"#Vscsi Cmd Trace|\d+,\d+,\d+,(?i:read|write),\d+,\d+\s*$"), "-,size,-,op,sector,time", (1000, 0)),
)


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
    clock = known[1] if known else (0, 0)
    field = rb'[ \t]*"?([^,"\n]*?)"?[ \t]*'
    number = rb'[ \t]*"?(\d+(?:\.\d*)?)"?[ \t]*'
    parts = [rb"[^,\n]*" if name == "-" else field if name in ("op", "device") else number for name in wanted]
    line = re.compile(rb"^(?:" + rb",".join(parts) + rb"(?:,[^\n]*)?|#[^\n]*|[ \t]*)$", re.MULTILINE)
    found = TraceColumns()
    header = 0 if line.fullmatch(head.split(b"\n", 1)[0].rstrip(b"\r")) else 1
    taken = [name for name in wanted if name != "-"]
    for rows in matches(path, line, ",".join(wanted), progress, skip=header):
        rows = [row for row in rows if row[taken.index("op")]]
        if rows:
            _add(found, dict(zip(taken, columns(rows), strict=True)), clock)
    if header:
        found.notes["the first line is taken as the names of the columns"] = None
    return found.workload(path, FORMAT)


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
    for other in set(op[~data].tolist()):
        found.skipped[other.decode("utf-8", "backslashreplace") or "no operation"] += int((op == other).sum())
    offset, size = (_bytes(column, name, unit_) for name, unit_ in (("offset", "sector"), ("size", "sectors")))
    time = np.zeros(len(op), np.int64)
    if "time" in column:
        time = ticks(column["time"], *clock) if clock[0] else seconds(column["time"])
    found.add(write[data], offset[data], size[data], time[data])


def _bytes(column: dict[str, Texts], name: str, in_sectors: str) -> NDArray[np.uint64]:
    if name in column:
        return whole(column[name])
    return whole(column[in_sectors]) * np.uint64(SECTOR)
