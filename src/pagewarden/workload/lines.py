"""Text cut into lines and blank-separated fields, all lines of a chunk at once: numpy, no loop over lines."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab import Advance, UserMistake

Int64s: TypeAlias = NDArray[np.int64]
Uint64s: TypeAlias = NDArray[np.uint64]
Bools: TypeAlias = NDArray[np.bool_]
Problem: TypeAlias = "tuple[Int64s | Bools, str]"
"""Lines of a chunk (indices or a mask) and what was expected there."""

CHUNK = 4 << 20
"""Bytes read at once."""
MAX_LINE = 64 << 10
"""Bytes a line may have; fio's own limit for a file name is 4096."""
FRONT, BACK = 24, 8
"""Blank bytes around a chunk, so that eight-byte loads before and after a field stay inside."""
MAX_DIGITS = 19
"""More digits than that may not fit 64 bits."""
_ALL = np.uint64(2**64 - 1)


@dataclass(frozen=True, slots=True)
class Fields:
    """One field of several lines: bytes start <= b < end of the chunk's buffer."""

    start: Int64s
    end: Int64s

    @property
    def size(self) -> Int64s:
        return self.end - self.start

    def __getitem__(self, which: "Bools | Int64s | slice") -> "Fields":
        return Fields(self.start[which], self.end[which])


def mistake(path: Path, line: int, found: str, expected: str) -> UserMistake:
    """The one form of a complaint about a line; `line` counts from 1."""
    shown = found if len(found) <= 80 else found[:77] + "..."
    return UserMistake(f"{path}:{line}: found {shown!r}, expected {expected}")


class Chunk:
    """Whole lines of a file. Blanks are space, tab and carriage return; every other byte belongs to a field."""

    def __init__(self, path: Path, first: int, text: bytes, ended: bool = True) -> None:
        self.path, self.first, self.ended = path, first, ended
        padded = b" " * FRONT + text + b"\n" + b" " * BACK
        buffer = np.frombuffer(padded, np.uint8)
        newline = buffer == 10
        blank = newline | (buffer == 32) | (buffer == 9) | (buffer == 13)
        turns = np.flatnonzero(blank[1:] != blank[:-1]) + 1  # FRONT and BACK are blank: starts and ends alternate
        self._fields = Fields(turns[0::2], turns[1::2])
        self._ends = np.flatnonzero(newline)[: text.count(b"\n") + (not text.endswith(b"\n"))]
        after = np.searchsorted(self._fields.start, self._ends)
        self.counts: Int64s = np.diff(after, prepend=0)  # fields in each line
        self._begin = after - self.counts
        self._padded = padded
        self._words = np.ndarray((len(buffer) - 7,), "<u8", padded, strides=(1,))

    def __len__(self) -> int:
        return len(self.counts)

    def field(self, k: int, lines: "Int64s | slice" = slice(None)) -> Fields:
        """Field k (from 0) of the lines with these indices, which must have that many."""
        return self._fields[self._begin[lines] + k]

    def text(self, line: int) -> str:
        """The line with this index, as a person may read it."""
        start = FRONT if line == 0 else int(self._ends[line - 1]) + 1
        return self._padded[start : int(self._ends[line])].decode("utf-8", "backslashreplace").strip("\r")

    def word(self, fields: Fields) -> Uint64s:
        """Each field's first eight bytes, little-endian, short ones filled up with zero bytes."""
        return self._words[fields.start] & _low_bytes(fields.size)

    def equals(self, fields: Fields, name: bytes) -> Bools:
        """Which fields are this name."""
        live = np.flatnonzero(fields.size == len(name))
        for skip in range(0, len(name), 8):
            part = name[skip : skip + 8]
            words = self._words[fields.start[live] + skip] & np.uint64(2 ** (8 * len(part)) - 1)
            live = live[words == int.from_bytes(part, "little")]
        same = np.zeros(len(fields.start), bool)
        same[live] = True
        return same

    def hash(self, fields: Fields) -> Uint64s:
        """A 64-bit hash of each whole field, the same in every chunk."""
        result = fields.size.astype(np.uint64)
        live: Int64s = np.arange(len(fields.start))
        for skip in range(0, int(fields.size.max(initial=0)), 8):
            live = live[fields.size[live] > skip]
            rest = Fields(fields.start[live] + skip, fields.end[live])
            result[live] = (result[live] ^ self.word(rest)) * np.uint64(0x9E3779B97F4A7C15)
            result[live] ^= result[live] >> np.uint64(29)
        return result

    def decimal(self, fields: Fields) -> tuple[Uint64s, Bools]:
        """The fields as whole numbers, and which of them are (1 to MAX_DIGITS decimal digits)."""
        size = fields.size
        value, fine = _eight_digits(self._words[fields.end - 8], size)
        fine &= (size >= 1) & (size <= MAX_DIGITS)
        for skip, scale in ((8, 10**8), (16, 10**16)):
            longer = np.flatnonzero(fine & (size > skip))
            if len(longer):
                high, good = _eight_digits(self._words[fields.end[longer] - 8 - skip], size[longer] - skip)
                value[longer] += high * np.uint64(scale)
                fine[longer] &= good
        return value, fine

    def refuse(self, *problems: Problem) -> None:
        """Raise UserMistake for the first line that one of the problems (lines, what was expected) names."""
        firsts = [(_first(lines), expected) for lines, expected in problems]
        worst = min((pair for pair in firsts if pair[0] >= 0), default=None, key=lambda pair: pair[0])
        if worst is None:
            return
        line, expected = worst
        cut = "" if self.ended or line < len(self) - 1 else " (this last line has no end: was the file cut short?)"
        raise mistake(self.path, self.first + line, self.text(line), expected + cut)


def _first(lines: "Int64s | Bools") -> int:
    """The lowest index named, -1 for none."""
    indices = np.flatnonzero(lines) if lines.dtype == np.bool_ else lines
    return int(indices.min()) if len(indices) else -1


def _low_bytes(size: Int64s) -> Uint64s:
    """Masks of the lowest `size` (0..8, more counts as 8) bytes."""
    drop = np.clip(8 - size, 0, 8).astype(np.uint64) * np.uint64(8)
    return np.where(drop == 64, np.uint64(0), _ALL >> np.minimum(drop, np.uint64(63)))


def _eight_digits(word: Uint64s, size: Int64s) -> tuple[Uint64s, Bools]:
    """Numbers made of the last `size` (8 at most count) characters of each word, and which are digits alone.

    A word's lowest byte is the first character. Pairs, then fours, then eights are joined within the word.
    """
    junk = _low_bytes(8 - np.minimum(size, 8))
    digits = ((word & ~junk) | (np.uint64(0x3030303030303030) & junk)) ^ np.uint64(0x3030303030303030)
    fine = ((digits | (digits + np.uint64(0x0606060606060606))) & np.uint64(0xF0F0F0F0F0F0F0F0)) == 0
    pairs = (digits * np.uint64(10) + (digits >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    fours = (pairs * np.uint64(100) + (pairs >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    return (fours * np.uint64(10000) + (fours >> np.uint64(32))) & np.uint64(0xFFFFFFFF), fine


def chunks(path: Path, progress: Advance | None = None, size: int = CHUNK) -> Iterator[Chunk]:
    """The file, cut at line ends into chunks of about `size` bytes. UserMistake for a line longer than MAX_LINE."""
    total, done, first, rest = path.stat().st_size, 0, 1, b""
    with path.open("rb") as file:
        while block := file.read(size):
            done += len(block)
            text, end, rest = (rest + block).rpartition(b"\n")
            if len(rest) > MAX_LINE:
                line = first + text.count(b"\n") + bool(end)
                shown = rest[:100].decode("utf-8", "backslashreplace")
                raise mistake(path, line, shown, f"a line of at most {MAX_LINE} bytes")
            if end:
                yield Chunk(path, first, text + end)
                first += text.count(b"\n") + 1
            if progress is not None:
                progress(done, max(total, done))
    if rest:
        yield Chunk(path, first, rest, ended=False)
