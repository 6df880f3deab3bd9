"""The lines of dma:* and swiotlb:* events into numbers, compiled: a trace of a million mappings has three million."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab.compiled import njit
from pagewarden.workload.traces.event_lines import BROKEN, EventNames, event, find, head, number

COLUMNS = ("kind", "cpu", "time", "device", "direction", "address", "size", "origin", "line", "name", "name_end")
"""Of each event. kind: MAP, UNMAP or BOUNCED; time: ns; device: a key of its name, which stands from name to name_end;
direction: as the kernel numbers it; size: bytes; line: where it begins."""
MAP, UNMAP, BOUNCED, LIST = range(4)
_KIND = {
    b"dma_map_page": MAP, b"dma_map_phys": MAP, b"dma_map_resource": MAP, b"dma_unmap_page": UNMAP,
    b"dma_unmap_phys": UNMAP, b"dma_unmap_resource": UNMAP, b"swiotlb_bounced": BOUNCED,
    b"dma_map_sg": LIST, b"dma_unmap_sg": LIST,
}  # fmt: skip
_NAMES, _KINDS = EventNames.of(_KIND), np.array(list(_KIND.values()))
_FIELDS = np.frombuffer(b"dev_name: dir=dma_addr=size=phys_addr=dev_addr=", np.uint8)
_DEV_NAME, _DIR, _DMA, _SIZE, _PHYS, _DEV = (
    _FIELDS[:10], _FIELDS[10:14], _FIELDS[14:23], _FIELDS[23:28], _FIELDS[28:38], _FIELDS[38:],
)  # fmt: skip


def scan(data: bytes) -> tuple[NDArray[np.uint64], int]:
    """The events in whole lines, a row each, of COLUMNS, and where the first line begins that is not of its event's
    form (-1: none); lines of anything else and lists are passed over."""
    rows, wrong = _scan(np.frombuffer(data, np.uint8), *_NAMES, _KINDS, (_DEV_NAME, _DIR, _DMA, _SIZE, _PHYS, _DEV))
    return np.asarray(rows), int(wrong)


@njit(nogil=True)
def _scan(data: Any, names: Any, ends: Any, kinds: Any, words: Any) -> Any:
    rows, found, at = np.zeros((len(data) // 80 + 16, 11), np.uint64), 0, 0
    while at < len(data):
        end = at
        while end < len(data) and data[end] != 10:
            end += 1
        body, which = event(data, at, end, names, ends)
        if body == BROKEN or (body >= 0 and kinds[which] != LIST):
            if found == len(rows):
                rows = np.concatenate((rows, np.zeros_like(rows)))
            row = rows[found]
            row[0], row[8] = kinds[which], at
            if body < 0 or not head(data, at, body, row) or not _body(data, body, end, kinds[which], words, row):
                return rows[:found], at
            found += 1
        at = end + 1
    return rows[:found], -1


@njit(nogil=True)
def _body(data: Any, at: int, end: int, kind: int, words: Any, row: Any) -> bool:
    """Device, direction, addresses and size, whose names stand in front of them."""
    dev_name, direction, dma, size, phys, dev = words
    if kind == BOUNCED:
        at = find(data, at, end, dev_name)
    stop = at if at >= 0 else end
    while stop < end and data[stop] != 32:
        stop += 1
    row[3], row[9], row[10] = name_key(data[at:stop]), at, stop
    if kind == BOUNCED:
        row[7], stop = number(data, find(data, stop, end, dev), end, 16)
        row[6], stop = number(data, find(data, stop, end, size), end, 10)
        return bool(stop >= 0)
    stop = find(data, stop, end, direction)
    first = data[stop] if 0 <= stop < end else 0
    row[4] = 1 if first == 84 else 2 if first == 70 else 0 if first == 66 else 3  # T, F, B
    row[5], stop = number(data, find(data, stop, end, dma), end, 16)
    row[6], stop = number(data, find(data, stop, end, size), end, 10)
    if kind == MAP:
        row[7], stop = number(data, find(data, stop, end, phys), end, 16)
    return bool(stop >= 0)


@njit(nogil=True)
def name_key(name: Any) -> Any:
    """A number for a device's name (FNV-1a)."""
    key = np.uint64(0xCBF29CE484222325)
    for letter in name:
        key = (key ^ np.uint64(letter)) * np.uint64(0x100000001B3)
    return key


@njit(nogil=True)
def pair(kind: Any, cpu: Any, device: Any, address: Any, origin: Any) -> Any:
    """For each row the one that made what it ends (-1 for none), and whether a mapping was bounced: `swiotlb_bounced`
    comes first, on the same CPU. A list's end has no address: it is known by where its buffers lie."""
    maker, bounced = np.full(len(kind), -1, np.int64), np.zeros(len(kind), np.bool_)
    by_address, by_origin, last = {}, {}, {}
    for i in range(len(kind)):
        if kind[i] == BOUNCED:
            last[cpu[i]] = i
        elif kind[i] == MAP:
            before = last[cpu[i]] if cpu[i] in last else -1  # noqa: SIM401 (compiled: get may be None)
            bounced[i] = before >= 0 and device[before] == device[i] and origin[before] == origin[i]
            if bounced[i]:
                last[cpu[i]] = -1
            by_address[(device[i], address[i])] = i
            by_origin[(device[i], origin[i])] = i
        else:
            key = (device[i], address[i] if address[i] else origin[i])
            there = by_address if address[i] else by_origin
            if key in there:
                maker[i] = there.pop(key)
    return maker, bounced
