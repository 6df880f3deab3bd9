"""blkparse's text in its default format: `DEV CPU SEQ SECONDS.NANOSECONDS PID ACTION RWBS SECTOR + BLOCKS [COMMAND]`.

Format: blkparse(1), "Output description and formatting"; checked with blkparse 1.2.0. Q (queued) is what was asked for;
D (issued to the driver) is taken when a trace has no Q; C (completed) says how many are in flight. Other actions repeat
the same requests and are left out.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab import Advance, UserMistake
from pagewarden.workload.in_flight import SectorRuns, most_in_flight, until_completed
from pagewarden.workload.lines import Bools, Chunk, Fields, Int64s, Problem, Uint64s, chunks
from pagewarden.workload.model import MAX_END, MAX_LENGTH, Workload

SECTOR = 512
"""Bytes: the unit of sectors and blocks in a block trace, whatever the device's own."""
LINE = "DEV CPU SEQ SECONDS.NANOSECONDS PID ACTION RWBS [SECTOR + BLOCKS] [COMMAND]"
REASONS = {b"D": "discard", b"F": "flush", b"N": "no data or passed through"}
MAX_SECONDS = 2**63 // 10**9 - 1
MAX_BLOCKS = MAX_LENGTH // SECTOR


_SUMMARY = re.compile(r"(CPU|Total)|.+ \(\d+\)$")
"""Lines that begin the summary: of a CPU, of all, of a program (blkparse -s)."""
_NOISE = re.compile(r"Input file |\[\.\.\.\]|\.\.\.$")
"""Lines that may stand anywhere: what blkparse reads, and where a person cut."""


def load_blkparse(path: Path, progress: Advance | None = None) -> Workload:
    """Read the text; UserMistake names the first line that is not of the format, and nothing is kept of it then."""
    readers = [_Reader("Q"), _Reader("D"), _Reader("C")]
    whole, summary, remaps = True, False, _Remaps()
    for chunk in chunks(path, progress):
        whole &= chunk.ended
        events, summary = _events(chunk, summary)
        remaps.take(chunk, events)
        for reader in readers:
            reader.take(chunk, events)
    chosen = next((reader for reader in readers if reader.requests), readers[0])
    return chosen.workload(path, whole, remaps, readers[2] if chosen is not readers[2] else None)


def _events(chunk: Chunk, summary: bool) -> tuple[Int64s, bool]:
    """Lines with an event, and whether the summary (which is no event) has begun."""
    lines = np.flatnonzero(chunk.counts)
    first = chunk.word(chunk.field(0, lines)) & np.uint64(0xFF)
    digit = (first >= ord("0")) & (first <= ord("9"))
    others = lines[~digit]
    if not summary:
        others = np.array([line for line in others.tolist() if not _NOISE.match(chunk.text(line))], np.int64)
    begun = [line for line in others.tolist() if _SUMMARY.match(chunk.text(line))] if not summary else []
    limit = 0 if summary else (begun[0] if begun else len(chunk))
    chunk.refuse((others[others < limit], LINE), (lines[digit & (chunk.counts[lines] < 6)], LINE))
    return lines[digit], summary or bool(begun)


class _Remaps:
    """Which devices lie on which: A (remap) names the device below and, behind `<-`, the one above."""

    def __init__(self) -> None:
        self.below: dict[str, str] = {}

    def take(self, chunk: Chunk, events: Int64s) -> None:
        """Look at a remap of each pair once."""
        lines = events[chunk.equals(chunk.field(5, events), b"A")]
        lines = lines[chunk.counts[lines] >= 12]
        pairs = chunk.word(chunk.field(0, lines)) * np.uint64(31) + chunk.hash(chunk.field(11, lines))
        for at in np.unique(pairs, return_index=True)[1].tolist():
            words = chunk.text(int(lines[at])).split()
            self.below.setdefault(words[0], words[11].strip("()"))


class _Reader:
    """The requests of one action, carried from chunk to chunk."""

    def __init__(self, action: str) -> None:
        self.action, self.requests = action, 0
        self.skipped: Counter[str] = Counter()
        self.devices: set[int] = set()
        self.requeued: Counter[tuple[int, int]] = Counter()
        self.parts: list[tuple[NDArray[Any], ...]] = []  # write, offset, length, time, device, line

    def take(self, chunk: Chunk, events: Int64s) -> None:
        """Check the lines with this action, then keep their requests."""
        lines = events[chunk.equals(chunk.field(5, events), self.action.encode())]
        chunk.refuse((lines[chunk.counts[lines] < 8], LINE))  # a flush still has its command
        kind = _kind(chunk, lines)
        data = ((kind == ord("R")) | (kind == ord("W"))) & _has_extent(chunk, lines)
        stamp, bad_stamps = _stamps(chunk, lines)
        sector, blocks, bad_extents = _extents(chunk, lines[data])
        chunk.refuse((lines[(kind == 0) | bad_stamps], LINE), *bad_extents)
        self._skip(kind[~data])
        moved = blocks > 0
        self.skipped.update({"flush": int((~moved).sum())} if not moved.all() else {})
        device = chunk.word(chunk.field(0, lines[data]))
        self.devices |= set(device.tolist())
        if self.action == "D":
            moved &= ~self._again(chunk, events, lines[data], device, sector)
        self.requests += int(moved.sum())
        offset, length = sector * np.uint64(SECTOR), blocks * np.uint64(SECTOR)
        columns = (kind[data] == ord("W"), offset, length, stamp[data], device, chunk.first + lines[data])
        self.parts.append(tuple(column[moved] for column in columns))

    def _again(self, chunk: Chunk, events: Int64s, lines: Int64s, device: Uint64s, sector: Uint64s) -> Bools:
        """Which of the lines issue a request again that was requeued (R) before."""
        found = np.zeros(len(lines), bool)
        back = events[chunk.equals(chunk.field(5, events), b"R")]
        back = back[chunk.counts[back] >= 10]
        if not len(back) and not self.requeued:
            return found
        where, _ = chunk.decimal(chunk.field(7, back))
        of = chunk.word(chunk.field(0, back))
        rows = [*zip(back.tolist(), of.tolist(), where.tolist(), [-1] * len(back), strict=True)]
        rows += zip(lines.tolist(), device.tolist(), sector.tolist(), range(len(lines)), strict=True)
        for _, disk, at, index in sorted(rows):
            if index < 0:
                self.requeued[disk, at] += 1
            elif self.requeued[disk, at]:
                self.requeued[disk, at] -= 1
                found[index] = True
        return found

    def _skip(self, kind: Int64s) -> None:
        """Count what moves no data; a write without an extent is the flush that its F announces."""
        for letter, reason in REASONS.items():
            named = kind == letter[0]
            if letter == b"F":
                named |= kind == ord("W")
            if letter == b"N":
                named |= kind == ord("R")
            if named.any():
                self.skipped[reason] += int(named.sum())

    def extents(self) -> SectorRuns:
        """Where its requests begin and end, on which device, and on which line each is."""
        _, offset, length, _, device, line = (np.concatenate(column) for column in zip(*self.parts, strict=True))
        sector, device = (offset // np.uint64(SECTOR)).astype(np.int64), device.astype(np.int64)
        return SectorRuns(line, device, sector, sector + (length // np.uint64(SECTOR)).astype(np.int64))

    def workload(self, path: Path, whole: bool, remaps: _Remaps, completed: "_Reader | None") -> Workload:
        if not self.requests:
            raise UserMistake(f"{path}: the trace has no queued (Q), issued (D) or completed (C) read or write")
        write, offset, length, stamp, device, _ = (np.concatenate(column) for column in zip(*self.parts, strict=True))
        issued = self.extents()
        notes = [] if whole else ["the last line has no end; if the file was cut, its last request may be wrong"]
        if self.action == "D":
            notes.append("no queued requests (Q) in the trace: those issued to the driver (D) are taken, after merges")
        if self.action == "C":
            notes.append("only completions (C) in the trace: the requests are in the order of their end, after merges")
        names = {name: int.from_bytes(name.encode()[:8], "little") for pair in remaps.below.items() for name in pair}
        lower = [name for name, above in remaps.below.items() if names[above] in self.devices]
        if lower and not (below := np.isin(device, np.array([names[name] for name in lower], np.uint64))).all():
            write, offset, length, stamp = (column[~below] for column in (write, offset, length, stamp))
            issued = issued[~below]
            above = sorted({remaps.below[name] for name in lower})
            notes.append(f"the requests of {', '.join(above)}: {', '.join(lower)} lies below it and sees them again")
        elif len(self.devices) > 1:
            notes.append(f"{len(self.devices)} devices; if one lies on another, the same request is counted for each")
        until, lacking = (None, ()) if completed is None else until_completed(issued, completed.extents())
        return Workload(
            name=path.name,
            format="blkparse",
            write=write,
            offset=offset,
            length=length.astype(np.uint32),
            time_ns=stamp,
            skipped=dict(self.skipped),
            notes=(*notes, *lacking),
            until=until,
            depth=1 if until is None else most_in_flight(until),
        )


def _kind(chunk: Chunk, lines: Int64s) -> Int64s:
    """The operation's letter in RWBS (R, W, D discard, N none, F flush alone); 0 for anything else.

    A leading F asks for a flush before the operation (kernel/trace/blktrace.c, blk_fill_rwbs).
    """
    word = chunk.word(chunk.field(6, lines))
    first, second = word & np.uint64(0xFF), (word >> np.uint64(8)) & np.uint64(0xFF)
    letter = np.where((first == ord("F")) & (second != 0), second, first).astype(np.int64)
    letter = np.where((first == ord("F")) & ~np.isin(letter, list(b"RWDN")), ord("F"), letter)
    return np.where(np.isin(letter, list(b"RWDNF")), letter, 0)


def _has_extent(chunk: Chunk, lines: Int64s) -> Bools:
    """Which lines go on with SECTOR + BLOCKS; a flush has none, and its command follows at once; a request that is
    passed through has its length and, in brackets, its bytes; a completed flush a sector and the error."""
    found: Bools = (chunk.word(chunk.field(7, lines)) & np.uint64(0xFF)) != ord("[")
    longer = np.flatnonzero(chunk.counts[lines] > 8)
    found[longer] &= ~np.isin(chunk.word(chunk.field(8, lines[longer])) & np.uint64(0xFF), list(b"(["))
    return found


def _stamps(chunk: Chunk, lines: Int64s) -> tuple[Int64s, Bools]:
    """Times in ns, and which are not SECONDS.NANOSECONDS with nine digits behind the point."""
    field = chunk.field(3, lines)
    point = Fields(field.end - 10, field.end - 9)
    seconds, fine = chunk.decimal(Fields(field.start, np.maximum(field.end - 10, field.start)))
    nanoseconds, also = chunk.decimal(Fields(np.maximum(field.end - 9, field.start), field.end))
    fine &= also & (field.size > 10) & (chunk.word(point) == ord(".")) & (seconds <= MAX_SECONDS)
    return (seconds * np.uint64(10**9) + nanoseconds).astype(np.int64), ~fine


def _extents(chunk: Chunk, lines: Int64s) -> tuple[Uint64s, Uint64s, list[Problem]]:
    """First sectors and block counts of the lines that should have them, and what is wrong with them."""
    short = chunk.counts[lines] < 10
    if short.any():
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64), [(lines[short], "SECTOR + BLOCKS after RWBS")]
    sector, sector_fine = chunk.decimal(chunk.field(7, lines))
    blocks, blocks_fine = chunk.decimal(chunk.field(9, lines))
    plus = chunk.equals(chunk.field(8, lines), b"+")
    return (
        sector,
        blocks,
        [
            (lines[~(sector_fine & blocks_fine & plus)], "SECTOR + BLOCKS after RWBS, whole numbers"),
            (lines[blocks > MAX_BLOCKS], f"at most {MAX_BLOCKS} blocks of {SECTOR} bytes in a request"),
            (lines[sector > MAX_END // SECTOR - MAX_BLOCKS], f"a sector of at most {MAX_END // SECTOR - MAX_BLOCKS}"),
        ],
    )
