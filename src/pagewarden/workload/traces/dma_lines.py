"""The lines of dma:* and swiotlb:* events into numbers, compiled: a trace of a million mappings has three million."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab.compiled import njit

COLUMNS = ("kind", "cpu", "time", "device", "direction", "address", "size", "origin", "line", "name", "name_end")
"""Of each event. kind: MAP, UNMAP or BOUNCED; time: ns; device: a key of its name, which stands from name to name_end;
direction: as the kernel numbers it; size: bytes; line: where it begins."""
MAP, UNMAP, BOUNCED = range(3)
_KIND = {
    b"dma_map_page: ": MAP, b"dma_map_phys: ": MAP, b"dma_map_resource: ": MAP, b"dma_unmap_page: ": UNMAP,
    b"dma_unmap_phys: ": UNMAP, b"dma_unmap_resource: ": UNMAP, b"swiotlb_bounced: ": BOUNCED,
}  # fmt: skip
_NAMES = np.frombuffer(b"".join(_KIND), np.uint8)
_ENDS = np.cumsum([len(name) for name in _KIND])
_KINDS = np.array(list(_KIND.values()))
_FIELDS = np.frombuffer(b"dev_name: dir=dma_addr=size=phys_addr=dev_addr=", np.uint8)
_DEV_NAME, _DIR, _DMA, _SIZE, _PHYS, _DEV = (
    _FIELDS[:10], _FIELDS[10:14], _FIELDS[14:23], _FIELDS[23:28], _FIELDS[28:38], _FIELDS[38:],
)  # fmt: skip


def scan(data: Any) -> NDArray[np.uint64]:
    """The events in whole lines, a row each, of COLUMNS; lines of anything else are passed over."""
    return np.asarray(_scan(data, _NAMES, _ENDS, _KINDS, (_DEV_NAME, _DIR, _DMA, _SIZE, _PHYS, _DEV)))


@njit(nogil=True)
def _scan(data: Any, names: Any, ends: Any, kinds: Any, words: Any) -> Any:
    rows, found, at = np.zeros((len(data) // 80 + 16, 11), np.uint64), 0, 0
    while at < len(data):
        end = at
        while end < len(data) and data[end] != 10:
            end += 1
        body, kind = _event(data, at, end, names, ends, kinds)
        if body >= 0:
            if found == len(rows):
                rows = np.concatenate((rows, np.zeros_like(rows)))
            row = rows[found]
            row[0], row[8] = kind, at
            found += _head(data, at, body, row) and _body(data, body, end, kind, words, row)
        at = end + 1
    return rows[:found]


@njit(nogil=True)
def _event(data: Any, at: int, end: int, names: Any, ends: Any, kinds: Any) -> Any:
    """Where the event's own text begins, behind its name; -1: it is none of them."""
    for i in range(at + 1, end):
        if (data[i] == 100 or data[i] == 115) and (data[i - 1] == 32 or data[i - 1] == 58):  # d or s, behind a word
            start = 0
            for which in range(len(ends)):
                if _is(data, i, end, names[start : ends[which]]):
                    return i + ends[which] - start, kinds[which]
                start = ends[which]
    return -1, 0


@njit(nogil=True)
def _head(data: Any, at: int, body: int, row: Any) -> bool:
    """CPU and time in front of the event: `[CPU] ... SECONDS.FRACTION: [group:]NAME: `."""
    i, cpu = body - 3, -1
    while i > at and data[i] != 32:
        i -= 1
    while i > at and (data[i] == 32 or data[i] == 58):
        i -= 1
    stop = i + 1
    while i > at and data[i] != 32:
        i -= 1
    whole, fraction, digits = np.uint64(0), np.uint64(0), -1
    for k in range(i + 1, stop):
        if data[k] == 46:
            digits = 0
        elif not 48 <= data[k] <= 57:
            return False
        elif digits < 0:
            whole = whole * np.uint64(10) + np.uint64(data[k] - 48)
        elif digits < 9:
            fraction, digits = fraction * np.uint64(10) + np.uint64(data[k] - 48), digits + 1
    if digits < 0:
        return False
    for _ in range(9 - digits):
        fraction *= np.uint64(10)
    row[2] = whole * np.uint64(10**9) + fraction
    for k in range(i, at, -1):
        if data[k] == 93:  # ]
            cpu = 0
            start = k - 1
            while start > at and 48 <= data[start] <= 57:
                start -= 1
            for digit in range(start + 1, k):
                cpu = cpu * 10 + data[digit] - 48
            break
    row[1] = max(cpu, 0)
    return True


@njit(nogil=True)
def _body(data: Any, at: int, end: int, kind: int, words: Any, row: Any) -> Any:
    """Device, direction, addresses and size, whose names stand in front of them."""
    dev_name, direction, dma, size, phys, dev = words
    if kind == BOUNCED:
        at = _find(data, at, end, dev_name)
    stop = at
    while stop < end and data[stop] != 32:
        stop += 1
    row[3], row[9], row[10] = name_key(data[at:stop]), at, stop
    if kind == BOUNCED:
        stop = _find(data, stop, end, dev)
        row[7] = _number(data, stop, end, 16)
        stop = _find(data, stop, end, size)
        row[6] = _number(data, stop, end, 10)
        return stop >= 0
    stop = _find(data, stop, end, direction)
    first = data[stop]
    row[4] = 1 if first == 84 else 2 if first == 70 else 0 if first == 66 else 3  # T, F, B
    stop = _find(data, stop, end, dma)
    row[5] = _number(data, stop, end, 16)
    stop = _find(data, stop, end, size)
    row[6] = _number(data, stop, end, 10)
    if kind == MAP:
        row[7] = _number(data, _find(data, stop, end, phys), end, 16)
    return stop >= 0


@njit(nogil=True)
def name_key(name: Any) -> Any:
    """A number for a device's name (FNV-1a)."""
    key = np.uint64(0xCBF29CE484222325)
    for letter in name:
        key = (key ^ np.uint64(letter)) * np.uint64(0x100000001B3)
    return key


@njit(nogil=True)
def _is(data: Any, at: int, end: int, word: Any) -> bool:
    if at + len(word) > end:
        return False
    for i in range(len(word)):  # noqa: SIM110 (compiled: no generators)
        if data[at + i] != word[i]:
            return False
    return True


@njit(nogil=True)
def _find(data: Any, at: int, end: int, word: Any) -> Any:
    """Behind the first such word; -1, also from there on."""
    for i in range(at if at >= 0 else end, end - len(word) + 1):
        if data[i] == word[0] and _is(data, i, end, word):
            return i + len(word)
    return -1


@njit(nogil=True)
def _number(data: Any, at: int, end: int, base: int) -> Any:
    found = np.uint64(0)
    for i in range(at if at >= 0 else end, end):
        digit = data[i] - 48 if 48 <= data[i] <= 57 else data[i] - 87 if 97 <= data[i] <= 102 else 99
        if digit >= base:
            break
        found = found * np.uint64(base) + np.uint64(digit)
    return found


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
