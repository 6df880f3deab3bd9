"""fio's I/O log, versions 2 and 3: what `write_iolog` writes and `read_iolog` replays.

Format: fio's manual, "Trace file format"; checked by running fio 3.33, which showed what the manual leaves out: the
stamps of version 3 are microseconds, several jobs of one run append whole logs with their own header to one file,
`sync_file_range` appears as an action, and reading a file that was never added ends in a crash.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from pagewarden.vocab import Advance, UserMistake
from pagewarden.workload.lines import Bools, Chunk, Int64s, Problem, Uint64s, chunks, mistake
from pagewarden.workload.model import MAX_END, MAX_LENGTH, Workload

VERSIONS = (2, 3)
FILE_ACTIONS = (b"add", b"open", b"close")
SKIPPED = (b"sync", b"datasync", b"sync_file_range", b"syncfs", b"trim", b"wait")
"""I/O actions that move no data."""
MAX_STAMP_US = (2**63 - 1) // 1000


def load_iolog(path: Path, progress: Advance | None = None) -> Workload:
    """Read the log; UserMistake names the first line that is not of the format, and nothing is kept of it then."""
    reader: _Reader | None = None
    for chunk in chunks(path, progress):
        if reader is None:
            reader = _Reader(path, *_version(chunk))
        reader.take(chunk)
    if reader is None:
        raise mistake(path, 1, "", "`fio version 2 iolog` or `fio version 3 iolog`")
    return reader.workload()


def _version(chunk: Chunk) -> tuple[int, bool]:
    """The version that the first line with anything in it names, and whether one does: fio 3.33 wants the line."""
    line = next(iter(np.flatnonzero(chunk.counts).tolist()), 0)
    header = chunk.text(line).split()
    for version in VERSIONS:
        if header == f"fio version {version} iolog".split():
            return version, True
    if len(header) in (2, 4) and header[1] in ("add", "read", "write", "open"):
        return 2, False
    if len(header) in (3, 5) and header[0].isdecimal() and header[2] in ("add", "read", "write", "open"):
        return 3, False
    raise mistake(chunk.path, 1, chunk.text(0), "`fio version 2 iolog` or `fio version 3 iolog`, no other")


class _Reader:
    """What is carried from chunk to chunk."""

    def __init__(self, path: Path, version: int, headed: bool) -> None:
        self.path, self.version, self.headed = path, version, headed
        self.stamped = int(version == 3)  # version 3 puts a time in front
        stamp, skipped = "TIMESTAMP " * self.stamped, "|".join(name.decode() for name in SKIPPED)
        self.expected = f"{stamp}FILE add|open|close or {stamp}FILE read|write|{skipped} OFFSET LENGTH"
        self.added: dict[int, int] = {}  # hash of a file's name -> the line that added it
        self.logs = 0
        self.skipped: Counter[str] = Counter()
        self.parts: list[tuple[Bools, Uint64s, Uint64s, Int64s]] = []
        self.whole = True

    def take(self, chunk: Chunk) -> None:
        """Check every line of the chunk, then keep its requests."""
        self.whole &= chunk.ended
        k, header = self.stamped, self._headers(chunk)
        shape = np.where(header, 0, chunk.counts)
        io, files = np.flatnonzero(shape == 4 + k), np.flatnonzero(shape == 2 + k)
        action = chunk.field(1 + k, io)
        write, data = chunk.equals(action, b"write"), chunk.equals(action, b"write") | chunk.equals(action, b"read")
        offset, length, bad_extents = self._extents(chunk, io, data)
        stamp, bad_stamps = self._stamps(chunk, io, files)
        unshaped = (shape != 0) & (shape != 4 + k) & (shape != 2 + k)
        chunk.refuse(
            (unshaped, self.expected),
            (self._skip(chunk, io[~data]), self.expected),
            (self._add(chunk, files), self.expected),
            (bad_stamps, f"a timestamp in microseconds, 0 to {MAX_STAMP_US}"),
            (self._unadded(chunk, np.concatenate([io, files])), "a file that an earlier line adds (FILE add)"),
            *bad_extents,
        )
        empty = data & (length == 0)
        if empty.any():
            self.skipped["no data"] += int(empty.sum())
        data &= ~empty
        self.parts.append((write[data], offset[data], length[data], stamp[data]))

    def _headers(self, chunk: Chunk) -> Bools:
        """Lines that open a log: the first one, and those of further jobs appended to the same file."""
        found = np.zeros(len(chunk), bool)
        four = np.flatnonzero(chunk.counts == 4)
        want = f"fio version {self.version} iolog".split()
        candidates = four[chunk.equals(chunk.field(0, four), b"fio")].tolist()
        found[[line for line in candidates if chunk.text(line).split() == want]] = True
        self.logs += int(found.sum())
        return found

    def _skip(self, chunk: Chunk, lines: Int64s) -> Int64s:
        """Count the actions that move no data; the lines with an unknown action are returned."""
        action, known = chunk.field(1 + self.stamped, lines), np.zeros(len(lines), bool)
        for name in SKIPPED:
            hit = chunk.equals(action, name)
            known |= hit
            if hit.any():
                self.skipped[name.decode()] += int(hit.sum())
        unknown: Int64s = lines[~known]
        return unknown

    def _stamps(self, chunk: Chunk, io: Int64s, files: Int64s) -> tuple[Int64s, Int64s]:
        """Times of the I/O lines in ns (zeros for version 2), and the lines whose stamp is no time."""
        if not self.stamped:
            return np.zeros(len(io), np.int64), io[:0]
        lines = np.concatenate([io, files])
        stamp, fine = chunk.decimal(chunk.field(0, lines))
        fine &= stamp <= MAX_STAMP_US
        return (stamp[: len(io)] * np.uint64(1000)).astype(np.int64), lines[~fine]

    def _add(self, chunk: Chunk, files: Int64s) -> Int64s:
        """Take up the files added; the lines with an unknown file action are returned."""
        action = chunk.field(1 + self.stamped, files)
        matches = [chunk.equals(action, name) for name in FILE_ACTIONS]
        added = files[matches[0]]
        for name, line in zip(chunk.hash(chunk.field(self.stamped, added)).tolist(), added.tolist(), strict=True):
            self.added.setdefault(name, chunk.first + line)
        unknown: Int64s = files[~np.logical_or.reduce(matches)]
        return unknown

    def _unadded(self, chunk: Chunk, lines: Int64s) -> Int64s:
        """Which of the lines use a file before it was added (fio 3.33 crashes on such a log)."""
        if not self.added:
            return lines
        names = chunk.hash(chunk.field(self.stamped, lines))
        known = np.array(sorted(self.added), np.uint64)
        since = np.array([self.added[name] for name in known.tolist()])
        slot = np.minimum(np.searchsorted(known, names), len(known) - 1)
        unadded: Int64s = lines[(known[slot] != names) | (since[slot] > lines + chunk.first)]
        return unadded

    def _extents(self, chunk: Chunk, io: Int64s, data: Bools) -> tuple[Uint64s, Uint64s, list[Problem]]:
        """Offsets and lengths of all I/O lines, and what is wrong with them."""
        offset, offset_fine = chunk.decimal(chunk.field(2 + self.stamped, io))
        length, length_fine = chunk.decimal(chunk.field(3 + self.stamped, io))
        return (
            offset,
            length,
            [
                (io[~offset_fine | (offset > MAX_END)], f"an offset in bytes, 0 to {MAX_END}"),
                (io[~length_fine | (length > MAX_LENGTH)], f"a length in bytes, 0 to {MAX_LENGTH}"),
                (io[offset + length > MAX_END], f"a request that ends at or before byte {MAX_END}"),
            ],
        )

    def workload(self) -> Workload:
        write, offset, length, stamp = (np.concatenate(column) for column in zip(*self.parts, strict=True))
        if not len(write):
            raise UserMistake(f"{self.path}: the log has no read or write, only {dict(self.skipped) or 'file actions'}")
        return Workload(
            name=self.path.name,
            format=f"fio iolog v{self.version}",
            write=write,
            offset=offset,
            length=length.astype(np.uint32),
            time_ns=stamp if self.stamped else None,
            skipped=dict(self.skipped),
            notes=tuple(self._notes()),
        )

    def _notes(self) -> list[str]:
        notes = [] if self.whole else ["the last line has no end; if the file was cut, its last request may be wrong"]
        if not self.headed:
            notes.append(
                f"no `fio version {self.version} iolog` at its start, without which fio itself refuses the file"
            )
        if self.logs > 1:
            notes.append(f"{self.logs} logs follow each other in the file and are taken one after the other")
        if len(self.added) > 1:
            notes.append(f"{len(self.added)} files; offsets count from the start of each")
        return notes
