"""QEMU's trace events, as its `log` and `simple` back ends print them: what the block layer is asked for
(block/trace-events: blk_co_preadv, blk_co_pwritev), or what a virtio-blk device is (hw/block/trace-events)."""

import re
from pathlib import Path

import numpy as np

from pagewarden.vocab import Advance
from pagewarden.workload.model import Workload
from pagewarden.workload.traces.table import SECTOR, TraceColumns, columns, matches, seconds, whole

FORMAT = "QEMU trace events"
_BLOCK = rb"blk_(?:co|aio)_p(read|write)v\b.*?\boffset (\d+) bytes (\d+)"
_VIRTIO = rb"virtio_blk_handle_(read|write)\b.*?\bsector (\d+) nsectors (\d+)"
LINE = re.compile(
    rb"^(?:(?:.*?@)?(\d+\.\d+)?[: ]*(?:\S+ )??(?:" + _BLOCK + rb"|" + _VIRTIO + rb")[^\n]*|[^\n]*)$", re.MULTILINE
)
EXPECTED = "PID@SECONDS:blk_co_preadv blk ADDRESS bs ADDRESS offset BYTES bytes BYTES flags FLAGS"


def sniff(head: bytes) -> bool:
    """Does one of the events stand in it?"""
    return re.search(_BLOCK, head) is not None or re.search(_VIRTIO, head) is not None


def read(path: Path, progress: Advance | None = None) -> Workload:
    """The requests: the device's where it was traced, else the block layer's; UserMistake."""
    block, virtio = TraceColumns(), TraceColumns()
    for rows in matches(path, LINE, EXPECTED, progress):
        for found, at, unit in ((block, 1, 1), (virtio, 4, SECTOR)):
            mine = [(row[0] or b"0", *row[at : at + 3]) for row in rows if row[at]]
            if mine:
                time, way, where, size = columns(mine)
                each = np.uint64(unit)
                found.add(way == b"write", whole(where) * each, whole(size) * each, seconds(time))
    chosen, what = (virtio, "virtio-blk device") if virtio.parts else (block, "block layer")
    chosen.notes[f"the requests are those of the {what}"] = None
    return chosen.workload(path, FORMAT)
