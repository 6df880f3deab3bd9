"""The one way in: a file, recognised by what it holds."""

import re
import stat
from collections.abc import Sequence
from pathlib import Path

from pagewarden.vocab import UserMistake
from pagewarden.workload.blkparse import load_blkparse
from pagewarden.workload.fio.job import NOMINAL
from pagewarden.workload.fio.sections import read_sections
from pagewarden.workload.fio.workload import jobs_workload
from pagewarden.workload.iolog import load_iolog
from pagewarden.workload.lines import MAX_LINE, Progress, mistake
from pagewarden.workload.model import Workload

FORMATS = "a fio job file, a fio iolog (v2 or v3) or blkparse text"
BINARY = {
    b"\x1f\x8b": "it is packed with gzip: unpack it first",
    b"\x28\xb5\x2f\xfd": "it is packed with zstd: unpack it first",
    b"\x07\x74\x61\x65": "it is a binary block trace: turn it into text with `blkparse -i FILE`",
    b"\xef\xbb\xbf": "it begins with a UTF-8 byte order mark: save it without",
}
_BLKPARSE = re.compile(rb"\s*\d+,\d+\s+\d+\s+\d+\s")
_IOLOG_V1 = re.compile(rb"[01], *\d+, *\d+")


def load(
    path: str | Path, progress: Progress | None = None, nominal: int = NOMINAL, only: Sequence[str] = ()
) -> Workload:
    """The workload in a fio job file, a fio iolog (v2, v3) or blkparse's text; the name of the file does not matter.

    nominal, only: of a job file, the requests of a job whose size only its device would tell, and the sections to take.
    progress is called with (bytes done, bytes in all) after every chunk. UserMistake says file, line, what was found
    and what was expected, or why the file cannot be read; nothing is half loaded.
    """
    path = Path(path)
    try:
        return _load(path, progress, nominal, only)
    except OSError as error:
        raise UserMistake(f"{path} cannot be read: {error.strerror}; expected {FORMATS}") from error


def _load(path: Path, progress: Progress | None, nominal: int, only: Sequence[str]) -> Workload:
    head = _head(path)
    if head.startswith(b"fio version "):
        return load_iolog(path, progress)
    first = next((line for line in head.split(b"\n") if line.strip() and line.lstrip()[:1] not in (b"#", b";")), b"")
    if first.lstrip().startswith(b"["):
        return jobs_workload(path.name, "fio job", read_sections(path), nominal, only)
    if _BLKPARSE.match(first):
        return load_blkparse(path, progress)
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
    return mistake(path, line, first.decode("utf-8", "backslashreplace").strip(), FORMATS + hint)
