"""The one way in: a file, recognised by what it holds, or fio's own command line."""

import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from pagewarden.vocab import Advance, UserMistake
from pagewarden.workload.blkparse import load_blkparse
from pagewarden.workload.dma_mappings import DmaMappings
from pagewarden.workload.fio.sections import read_sections, sections_of_arguments, sections_of_json
from pagewarden.workload.fio.workload import jobs_workload
from pagewarden.workload.iolog import load_iolog
from pagewarden.workload.lines import MAX_LINE, mistake
from pagewarden.workload.model import Workload
from pagewarden.workload.traces import binary, csv, dma, events, qemu, snoop

FORMATS = "a fio job file, a fio iolog (v2 or v3), blkparse text or another form of docs/workloads.md"
BINARY = {
    b"\x1f\x8b": "it is packed with gzip: unpack it first",
    b"\x28\xb5\x2f\xfd": "it is packed with zstd: unpack it first",
    b"\xef\xbb\xbf": "it begins with a UTF-8 byte order mark: save it without",
    b"PERFILE2": "it is perf's own file: print it with `perf script -i FILE`",
    b"\xff" * 8: "it is of QEMU's `simple` back end: print it with QEMU's own scripts/simpletrace.py",
}
TRACES: tuple[ModuleType, ...] = (binary, csv, qemu, events, snoop)
"""Readers that look at the beginning of the file, in this order."""
_BLKPARSE = re.compile(rb"\s*\d+,\d+\s+\d+\s+\d+\s|Input file \S+ added")
_IOLOG = re.compile(rb"fio version |(\d+ )?\S+ add\s*$", re.MULTILINE)
"""Its first line, or where that is missing the file that it adds first."""
_IOLOG_V1 = re.compile(rb"[01], *\d+, *\d+")


@dataclass(frozen=True)
class Reading:
    """How to read what leaves a choice."""

    nominal: int | None = None  # requests of a fio job whose size only its device would tell
    only: Sequence[str] = ()  # the sections of a job file to take
    columns: Sequence[str] = ()  # of a CSV trace that is none of the known


def load(path: str | Path, progress: Advance | None = None, reading: Reading | None = None) -> Workload:
    """The workload in a file of one of the forms of docs/workloads.md; its name does not matter. `-` and pipes too.

    progress is called with (bytes done, bytes in all) after every chunk. UserMistake says file, line, what was found
    and what was expected, or why the file cannot be read; nothing is half loaded.
    """
    found = load_any(path, progress, reading)
    if isinstance(found, DmaMappings):
        raise UserMistake(f"{path} holds DMA mappings, not requests: use `pagewarden pool` or `pagewarden compare`")
    return found


def load_any(
    path: str | Path, progress: Advance | None = None, reading: Reading | None = None
) -> Workload | DmaMappings:
    """The same, or the DMA mappings of a guest where the file is a trace of those."""
    path, reading = Path(path), reading or Reading()
    try:
        if str(path) == "-" or (path.exists() and stat.S_ISFIFO(path.stat().st_mode)):
            return _piped(path, lambda copy: _load(copy, progress, reading))
        return _load(path, progress, reading)
    except OSError as error:
        raise UserMistake(f"{path} cannot be read: {error.strerror}; expected {FORMATS}") from error


def of_fio(arguments: Sequence[str], reading: Reading | None = None) -> Workload:
    """The workload of fio's command line, with or without the word fio in front; UserMistake."""
    reading = reading or Reading()
    if reading.columns:
        raise UserMistake("--columns is for a CSV trace: fio's command line is none; leave it out")
    given = arguments[1:] if arguments and Path(arguments[0]).name == "fio" else arguments
    return jobs_workload("fio's command line", "fio job", sections_of_arguments(given), reading.nominal, reading.only)


def _piped(path: Path, read: Callable[[Path], Workload | DmaMappings]) -> Workload | DmaMappings:
    """What comes through a pipe, copied to a file without a name first: readers go back to the beginning."""
    with tempfile.TemporaryFile() as copy:
        if str(path) == "-":
            shutil.copyfileobj(sys.stdin.buffer, copy)
        else:
            with path.open("rb") as pipe:
                shutil.copyfileobj(pipe, copy)
        copy.flush()
        return read(Path(f"/proc/self/fd/{copy.fileno()}"))


def _load(path: Path, progress: Advance | None, reading: Reading) -> Workload | DmaMappings:
    head = _head(path)
    first = next((line for line in head.split(b"\n") if line.strip() and line.lstrip()[:1] not in (b"#", b";")), b"")
    if first.lstrip().startswith(b"[") and not reading.columns:
        return jobs_workload(path.name, "fio job", read_sections(path), reading.nominal, reading.only)
    if b'"fio version"' in head and not reading.columns:
        sections = sections_of_json(path, path.read_text("utf-8", "replace"))
        return jobs_workload(path.name, "fio's JSON", sections, reading.nominal, reading.only)
    if reading.only or reading.nominal is not None:
        raise UserMistake(f"--section and --requests are for fio's jobs, and {path} holds none; leave them out")
    if reading.columns:
        return csv.read(path, progress, reading.columns)
    if _IOLOG.match(head.lstrip()):
        return load_iolog(path, progress)
    if _BLKPARSE.match(first):
        return load_blkparse(path, progress)
    if dma.sniff(head):
        return dma.read(path, progress)
    for reader in TRACES:
        if reader.sniff(head):
            found: Workload = reader.read(path, progress)
            return found
    raise _stranger(path, head, first)


def _head(path: Path) -> bytes:
    """The file's beginning; UserMistake if it is no regular file or is empty."""
    if "\0" in str(path) or not stat.S_ISREG(path.stat().st_mode):
        raise UserMistake(f"{path} is not a regular file; expected {FORMATS}")
    with path.open("rb") as file:
        head = file.read(MAX_LINE)
    if not head.strip():
        raise UserMistake(f"{path} is empty; expected {FORMATS}")
    return head


def _stranger(path: Path, head: bytes, first: bytes) -> UserMistake:
    """What to say of a file that is none of the formats."""
    for magic, advice in BINARY.items():
        if head.startswith(magic):
            return UserMistake(f"{path} is none of what can be read here ({FORMATS}): {advice}")
    line = head[: head.find(first)].count(b"\n") + 1
    hint = " (fio's iolog v1 is not supported)" if _IOLOG_V1.match(first) else ""
    hint = " (a CSV trace: name its columns with --columns)" if first.count(b",") > 2 else hint
    return mistake(path, line, first.decode("utf-8", "backslashreplace").strip(), FORMATS + hint)
