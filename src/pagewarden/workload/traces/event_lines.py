"""The lines of trace events, as ftrace and `perf script` print them, compiled: what all kinds of events share."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab import UserMistake
from pagewarden.vocab.compiled import njit
from pagewarden.workload.lines import mistake

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


def lost_events(data: bytes) -> int:
    """How many events these lines say were lost when they were recorded."""
    return sum(int(next(filter(None, numbers))) for numbers in _LOST.findall(data))


def wrong_line(path: Path, data: bytes, at: int, first: int, expected: str) -> UserMistake:
    """What to say of a line that begins at byte `at` of the text, whose first line has the number `first`."""
    text = data[at : data.index(b"\n", at)].decode("utf-8", "backslashreplace").strip()
    return mistake(path, first + data.count(b"\n", 0, at), text, expected)


@njit(nogil=True)
def event(data: Any, at: int, end: int, names: Any, ends: Any) -> Any:
    """Where the event's own text begins, behind its name, and which name it is; -1: it is none of them."""
    for i in range(at + 1, end):
        if data[i - 1] == 32 or data[i - 1] == 58:  # a word begins, behind a blank or a colon
            start = 0
            for which in range(len(ends)):
                if same(data, i, end, names[start : ends[which]]):
                    return i + ends[which] - start, which
                if _cut(data, at, i, end, names[start : ends[which]]):
                    return BROKEN, which
                start = ends[which]
    return -1, 0


@njit(nogil=True)
def _cut(data: Any, at: int, i: int, end: int, name: Any) -> bool:
    """Does the line end within the name, behind the colon of a time?"""
    if end - i < 5 or end - i >= len(name) or not same(data, i, end, name[: end - i]):
        return False
    while i > at + 1 and data[i - 1] == 32:
        i -= 1
    return bool(data[i - 1] == 58)


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
def number(data: Any, at: int, end: int, base: int) -> Any:
    """The number that begins there and is followed by a blank, and the place behind it; BROKEN, also from there on."""
    found, i = np.uint64(0), at if at >= 0 else end
    while i < end:
        digit = data[i] - 48 if 48 <= data[i] <= 57 else data[i] - 87 if 97 <= data[i] <= 102 else 99
        if digit >= base:
            break
        found = found * np.uint64(base) + np.uint64(digit)
        i += 1
    return (found, i) if at < i < end and data[i] == 32 else (found, BROKEN)
