"""Lines into columns, by one regular expression a form: fast enough for millions, and exact about what is wrong."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab import Advance, UserMistake
from pagewarden.workload.in_flight import most_in_flight, until_latency
from pagewarden.workload.lines import mistake
from pagewarden.workload.model import MAX_END, MAX_LENGTH, Workload

CHUNK = 16 << 20
"""Bytes that are matched at once."""
SECTOR = 512
"""Bytes: the unit of sectors in a block trace, whatever the device's own."""
LATEST = 2**62
"""ns: what is said to be later is taken as this late."""
Texts = NDArray[np.bytes_]


@dataclass
class TraceColumns:
    """What a trace's requests are made of, chunk by chunk: write, offset, length, and the ns at which each begins and
    that it takes (below 0: nobody says), equally long."""

    parts: list[tuple[NDArray[Any], ...]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    notes: dict[str, None] = field(default_factory=dict)

    def add(
        self, write: NDArray[np.bool_], offset: NDArray[np.uint64], length: NDArray[np.uint64],
        time_ns: NDArray[np.int64], latency_ns: NDArray[np.int64] | None = None,
    ) -> None:  # fmt: skip
        """Requests; those of no length move nothing and are counted apart."""
        moves = length > 0
        if not moves.all():
            self.skipped["no data"] += int((~moves).sum())
        if moves.any():
            latency_ns = np.full(len(moves), -1) if latency_ns is None else latency_ns
            self.parts.append(tuple(column[moves] for column in (write, offset, length, time_ns, latency_ns)))

    def workload(
        self, path: Path, form: str, until: NDArray[np.int32] | None = None, notes: Sequence[str] = ()
    ) -> Workload:
        """All of it; UserMistake where nothing moves, or a request is beyond what a device can have."""
        if not self.parts:
            raise UserMistake(f"{path}: no read or write in it ({form}); only {dict(self.skipped) or 'other lines'}")
        write, offset, length, time, latency = (np.concatenate(column) for column in zip(*self.parts, strict=True))
        if (wrong := (length > MAX_LENGTH) | (offset > MAX_END - length)).any():
            at = int(np.flatnonzero(wrong)[0])
            raise UserMistake(
                f"{path}: request {at + 1} of {length[at]:,} bytes at {offset[at]:,} is beyond any device"
            )
        if (latency >= 0).any():
            order = np.argsort(time, kind="stable")
            write, offset, length, time, latency = (each[order] for each in (write, offset, length, time, latency))
            until, notes = until_latency(time, latency)
        return Workload(
            path.name, form, write, offset, length.astype(np.uint32), time - time.min(), skipped=dict(self.skipped),
            notes=(*self.notes, *notes), until=until, depth=1 if until is None else most_in_flight(until),
        )  # fmt: skip


def matches(
    path: Path, line: re.Pattern[bytes], expected: str, progress: Advance | None = None, skip: int = 0
) -> Iterator[list[tuple[bytes, ...]]]:
    """The groups of each line, chunk by chunk. The pattern is of a whole line, MULTILINE, and matches every line that
    may stand there, with empty groups where there is nothing to take; UserMistake names the first that it does not.

    skip: lines at the beginning that are not looked at.
    """
    first = 1 + skip
    for data in line_chunks(path, progress, skip):
        yield _of_chunk(path, line, expected, first, data)
        first += data.count(b"\n")


def line_chunks(path: Path, progress: Advance | None = None, skip: int = 0) -> Iterator[bytes]:
    """Whole lines, some megabytes at once; a last one without an end is given one, unless it is blank."""
    done, size, rest = 0, path.stat().st_size, b""
    with path.open("rb") as file:
        for _ in range(skip):
            done += len(file.readline())
        while data := file.read(CHUNK):
            done += len(data)
            data = rest + data
            cut = data.rfind(b"\n") + 1
            data, rest = data[:cut], data[cut:]
            if data:  # else a line is longer than that
                yield data
            if progress:
                progress(done, size)
    if rest.strip():
        yield rest + b"\n"


def _of_chunk(path: Path, line: re.Pattern[bytes], expected: str, first: int, data: bytes) -> list[tuple[bytes, ...]]:
    data = data.replace(b"\r\n", b"\n")[:-1]  # an empty line behind the last one would match
    found = line.findall(data)
    if len(found) != data.count(b"\n") + 1:
        for number, text in enumerate(data.split(b"\n"), first):
            if not line.fullmatch(text):
                raise mistake(path, number, text.decode("utf-8", "backslashreplace").strip(), expected)
    return found


def columns(rows: Iterable[tuple[bytes, ...]]) -> list[Texts]:
    """The groups as arrays of bytes, one each."""
    return [np.array(column, np.bytes_) for column in zip(*rows, strict=True)]


def whole(texts: Texts) -> NDArray[np.uint64]:
    """Numbers, decimal or with 0x in front; those of more than 64 bits are as large as can be."""
    if texts.itemsize > 18 or np.strings.startswith(texts, b"0x").any():
        numbers = (int(text, 16 if text.startswith(b"0x") else 10) for text in texts.tolist())
        return np.array([min(number, 2**64 - 1) for number in numbers], np.uint64)
    return texts.astype(np.uint64)


def in_bytes(sectors: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Of whole sectors; what is beyond any device stays so."""
    return np.minimum(sectors, np.uint64(MAX_END // SECTOR + 1)) * np.uint64(SECTOR)


def seconds(texts: Texts) -> NDArray[np.int64]:
    """Times in ns of seconds with a fraction."""
    return np.rint(np.minimum(texts.astype(np.float64) * 1e9, LATEST)).astype(np.int64)


def ticks(texts: Texts, ns: int, since: int = 0) -> NDArray[np.int64]:
    """Times in ns of ticks of so many ns each, counted from tick `since` on; a fraction of a tick is dropped."""
    texts = np.strings.partition(texts, b".")[0]
    long = texts.itemsize > 18
    count: NDArray[np.int64] = (
        np.array([min(int(text), LATEST) for text in texts.tolist()]) if long else texts.astype(np.int64)
    )
    late: NDArray[np.int64] = np.minimum(count - since, LATEST // ns)
    return late * np.int64(ns)
