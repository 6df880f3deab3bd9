"""QEMU's trace events, as its `log` and `simple` back ends print them: what the block layer is asked for
(block/trace-events: blk_co_preadv, blk_co_pwritev), or what a virtio-blk device is (hw/block/trace-events), whose
requests end at their virtio_blk_req_complete."""

import re
from pathlib import Path

import numpy as np

from pagewarden.vocab import Advance
from pagewarden.workload.in_flight import SectorRuns, until_completed
from pagewarden.workload.model import Workload
from pagewarden.workload.traces.table import SECTOR, TraceColumns, columns, matches, seconds, whole

FORMAT = "QEMU trace events"
_BLOCK = rb"blk_(?:co|aio)_p(read|write)v\b.*?\boffset (\d+) bytes (\d+)"
_VIRTIO = rb"virtio_blk_handle_(read|write)\b.*?\breq 0x([0-9a-f]{1,15}) sector (\d+) nsectors (\d+)"
_DONE = rb"virtio_blk_req_complete\b.*?\breq 0x([0-9a-f]{1,15})\b"
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
        for found, at, where, unit in ((block, 1, 2, 1), (virtio, 4, 6, SECTOR)):
            mine = [(row[0] or b"0", row[at], *row[where : where + 2]) for row in rows if row[at]]
            if mine:
                time, way, place, size = columns(mine)
                each = np.uint64(unit)
                found.add(way == b"write", whole(place) * each, whole(size) * each, seconds(time))
        for kept, at in ((begun, 5), (ended, 8)):  # requests by their address, which none shares while it lasts
            kept += [(first + i, 0, int(row[at], 16), int(row[at], 16) + 1) for i, row in enumerate(rows) if row[at]]
        first += len(rows)
    chosen, what = (virtio, "virtio-blk device") if virtio.parts else (block, "block layer")
    chosen.notes[f"the requests are those of the {what}"] = None
    runs = [SectorRuns(*np.array(kept, np.int64).reshape(-1, 4).T) for kept in (begun, ended)]
    return chosen.workload(path, FORMAT, *(until_completed(*runs) if chosen is virtio else ()))
