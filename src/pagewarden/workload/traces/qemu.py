"""QEMU's trace events, as its `log` and `simple` back ends print them: what the block layer is asked for
(block/trace-events: blk_co_preadv, blk_co_pwritev), or what a virtio-blk device is (hw/block/trace-events), whose
requests end at their virtio_blk_req_complete. What simpletrace.py prints of the latter has no time of its own, and its
numbers are hexadecimal."""

import re
from pathlib import Path

import numpy as np

from pagewarden.vocab import Advance
from pagewarden.workload.in_flight import SectorRuns, until_completed
from pagewarden.workload.model import Workload
from pagewarden.workload.traces.table import TraceColumns, columns, in_bytes, matches, seconds, whole

FORMAT = "QEMU trace events"
_NUMBER = rb"[ =](0x[0-9a-f]{1,16}|\d+)"
_BLOCK = rb"blk_(?:co|aio)_p(read|write)v\b.*?\boffset" + _NUMBER + rb" bytes" + _NUMBER
_REQUEST = rb"\breq[ =]0x([0-9a-f]{1,15})"
_VIRTIO = rb"virtio_blk_handle_(read|write)\b.*?" + _REQUEST + rb" sector" + _NUMBER + rb" nsectors" + _NUMBER
_DONE = rb"virtio_blk_req_complete\b.*?" + _REQUEST + rb"\b"
LINE = re.compile(
    rb"^(?:(?:.*?@)?(\d+\.\d+)?[: ]*(?:\S+ )??(?:" + _BLOCK + rb"|" + _VIRTIO + rb"|" + _DONE + rb")[^\n]*|[^\n]*)$",
    re.MULTILINE,
)
EXPECTED = "PID@SECONDS:blk_co_preadv blk ADDRESS bs ADDRESS offset BYTES bytes BYTES flags FLAGS"


def sniff(head: bytes) -> bool:
    """Does one of the events stand in it?"""
    return re.search(_BLOCK, head) is not None or re.search(_VIRTIO, head) is not None


def read(path: Path, progress: Advance | None = None) -> Workload:
    """The requests: the device's where it was traced, else the block layer's; UserMistake."""
    block, virtio, first = TraceColumns(), TraceColumns(), 0
    begun: list[tuple[int, ...]] = []
    ended: list[tuple[int, ...]] = []
    for rows in matches(path, LINE, EXPECTED, progress):
        for found, at, where in ((block, 1, 2), (virtio, 4, 6)):
            mine = [(row[0] or b"0", row[at], *row[where : where + 2]) for row in rows if row[at]]
            if mine:
                time, way, place, size = columns(mine)
                offset, length = whole(place), whole(size)
                if found is virtio:
                    offset, length = in_bytes(offset), in_bytes(length)
                found.add(way == b"write", offset, length, seconds(time))
        for kept, at in ((begun, 5), (ended, 8)):  # requests by their address, which none shares while it lasts
            kept += [(first + i, 0, int(row[at], 16), int(row[at], 16) + 1) for i, row in enumerate(rows) if row[at]]
        first += len(rows)
    chosen, what = (virtio, "virtio-blk device") if virtio.parts else (block, "block layer")
    chosen.notes[f"the requests are those of the {what}"] = None
    runs = [SectorRuns(*np.array(kept, np.int64).reshape(-1, 4).T) for kept in (begun, ended)]
    return chosen.workload(path, FORMAT, *(until_completed(*runs) if chosen is virtio else ()))
