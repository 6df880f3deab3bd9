"""The lines of trace events, as ftrace and `perf script` print them, compiled: what all kinds of events share."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab import Advance
from pagewarden.vocab.compiled import njit
from pagewarden.workload.lines import mistake
from pagewarden.workload.traces.table import line_chunks

EventRows: TypeAlias = NDArray[np.uint64]

BROKEN = -2
"""Instead of a place: the line breaks off there."""
_LOST = re.compile(rb"LOST (\d+) EVENTS|LOST (\d+) events|Lost (\d+) events")


class EventNames(NamedTuple):
    """The names that are looked for, as letters one after the other, and where each ends."""

    letters: NDArray[np.uint8]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, names: Iterable[bytes]) -> "EventNames":
        """Each as it is printed, `NAME: `."""
        printed = [name + b": " for name in names]
        return cls(np.frombuffer(b"".join(printed), np.uint8), np.cumsum([len(name) for name in printed]))


def scanned(
    path: Path, scan: Callable[[bytes], tuple[EventRows, int]], expected: str, progress: Advance | None = None
) -> Iterator[tuple[bytes, EventRows, int]]:
    """Whole lines, some megabytes at once, the rows that `scan` finds in them, and how many events they say were lost
    when they were recorded. UserMistake for the line that scan says is wrong, by the byte at which it begins."""
    first = 1
    for data in line_chunks(path, progress):
        rows, at = scan(data)
        if at >= 0:
            text = data[at : data.index(b"\n", at)].decode("utf-8", "backslashreplace").strip()
            raise mistake(path, first + data.count(b"\n", 0, at), text, expected)
        first += data.count(b"\n")
        yield data, rows, sum(int(next(filter(None, numbers))) for numbers in _LOST.findall(data))


@njit(nogil=True)
def event(data: Any, at: int, end: int, names: Any, ends: Any) -> Any:
    """Where the event's own text begins, behind its name, and which name it is; -1: it is none of them. Names stand
    behind the colon of the time, or of a group."""
    behind = False
    for i in range(at, end):
        if behind and data[i] != 32:
            start = 0
            for which in range(len(ends)):
                stop, k = ends[which], i
                while start < stop and k < end and data[k] == names[start]:
                    start, k = start + 1, k + 1
                if start == stop:
                    return k, which
                if k - i >= 5 and (k == end or data[k] == 13):
                    return BROKEN, which
                start = stop
        behind = data[i] == 58 or (behind and data[i] == 32)
    return -1, 0


@njit(nogil=True)
def head(data: Any, at: int, body: int, row: Any) -> bool:
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
def same(data: Any, at: int, end: int, word: Any) -> bool:
    """Does the word stand there?"""
    if at + len(word) > end:
        return False
    for i in range(len(word)):  # noqa: SIM110 (compiled: no generators)
        if data[at + i] != word[i]:
            return False
    return True


@njit(nogil=True)
def find(data: Any, at: int, end: int, word: Any) -> Any:
    """Behind the first such word; -1, also from there on."""
    for i in range(at if at >= 0 else end, end - len(word) + 1):
        if data[i] == word[0] and same(data, i, end, word):
            return i + len(word)
    return -1


@njit(nogil=True)
def number(data: Any, at: int, end: int, base: int, behind: int = 32) -> Any:
    """The number that begins there and is followed by a blank, or the letter `behind`, and the place of that; BROKEN,
    also from there on, and for what may not fit 64 bits."""
    found, i = np.uint64(0), at if at >= 0 else end
    most = at + (16 if base == 16 else 19)
    while i < end:
        digit = data[i] - 48 if 48 <= data[i] <= 57 else data[i] - 87 if 97 <= data[i] <= 102 else 99
        if digit >= base:
            break
        found = found * np.uint64(base) + np.uint64(digit)
        i += 1
    return (found, i) if at < i < end and i <= most and data[i] == behind else (found, BROKEN)
