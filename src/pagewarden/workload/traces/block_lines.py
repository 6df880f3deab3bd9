"""The lines of block events into numbers, compiled: a trace of a million requests has three million."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab.compiled import njit
from pagewarden.workload.traces.event_lines import BROKEN, EventNames, event, head, number

COLUMNS = ("kind", "cpu", "time", "device", "letter", "sector", "count")
"""Of each event. kind: which of the names; time: ns; device: major number in the upper half, minor in the lower;
letter: of RWBS the first but a leading F, which asks for a flush before (kernel/trace/blktrace.c, blk_fill_rwbs)."""


def scan(data: bytes, names: tuple[str, ...]) -> tuple[NDArray[np.uint64], int]:
    """The events of these names in whole lines, a row each, of COLUMNS, and where the first line begins that is not of
    its event's form (-1: none); lines of anything else are passed over."""
    rows, wrong = _scan(np.frombuffer(data, np.uint8), *EventNames.of(name.encode() for name in names))
    return np.asarray(rows), int(wrong)


@njit(nogil=True)
def _scan(data: Any, names: Any, ends: Any) -> Any:
    rows, found, at = np.zeros((len(data) // 80 + 16, 7), np.uint64), 0, 0
    while at < len(data):
        end = at
        while end < len(data) and data[end] != 10:
            end += 1
        body, kind = event(data, at, end, names, ends)
        if body != -1:
            if found == len(rows):
                rows = np.concatenate((rows, np.zeros_like(rows)))
            row = rows[found]
            row[0] = kind
            if body < 0 or not head(data, at, body, row) or not _body(data, body, end, row):
                return rows[:found], at
            found += 1
        at = end + 1
    return rows[:found], -1


@njit(nogil=True)
def _body(data: Any, at: int, end: int, row: Any) -> bool:
    """MAJOR,MINOR RWBS [BYTES] [(COMMAND)] SECTOR + SECTORS, and something behind it."""
    while at < end and data[at] == 32:
        at += 1
    major, at = number(data, at, end, 10, 44)
    minor, at = number(data, at + 1 if at >= 0 else at, end, 10)
    if at < 0:
        return False
    row[3], at = major << np.uint64(32) | minor, at + 1
    first = at
    while at < end and 65 <= data[at] <= 90:
        if row[4] == 0 and (data[at] != 70 or data[at + 1] == 32):  # F, alone or last
            row[4] = data[at]
        at += 1
    if at == first or at + 1 >= end or data[at] != 32:
        return False
    at += 1
    if data[at] != 40:
        row[5], at = number(data, at, end, 10)
        if at < 0:
            return False
        at += 1
    if at < end and data[at] == 40:
        while at < end and data[at] != 41:
            at += 1
        row[5], at = number(data, at + 2, end, 10)
        at = at + 1 if at >= 0 else end
    if at + 2 >= end or data[at] != 43 or data[at + 1] != 32:
        return False
    row[6], at = number(data, at + 2, end, 10)
    return bool(at != BROKEN)
