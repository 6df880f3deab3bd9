"""A fio job file cut into jobs: sections, the globals above them, and where each value stands. No meaning yet.

Format: fio's manual, "Job file format"; checked with fio 3.33: a `;` or `#` ends a line wherever it stands, several
`[global]` sections add up, the last value of a key wins.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pagewarden.workload.lines import mistake
from pagewarden.workload.options import ALIASES

MAX_SIZE = 1 << 20
"""Bytes a job file may have; it is written by hand."""
SECTION = re.compile(r"\[([^\[\]]+)\]")
KEY = re.compile(r"[a-z_][a-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Option:
    """A value and where it was given."""

    path: Path
    line: int  # from 1
    text: str  # the line as it stands, without a comment
    key: str  # aliases resolved
    value: str | None  # None: the key stands alone, which switches it on

    def refuse(self, expected: str) -> NoReturn:
        """UserMistake: this is not what was expected."""
        raise mistake(self.path, self.line, self.text, expected)


@dataclass(frozen=True, slots=True)
class Section:
    """A job as it stands in the file."""

    name: str
    line: int
    options: dict[str, Option]  # by key, globals included, in the order last given


def read_sections(path: Path) -> list[Section]:
    """The jobs of the file in their order. UserMistake for what is no job file."""
    text = path.read_bytes()
    if len(text) > MAX_SIZE:
        raise mistake(path, 1, f"{len(text)} bytes", f"a job file of at most {MAX_SIZE} bytes")
    common: dict[str, Option] = {}
    jobs: list[Section] = []
    current: dict[str, Option] | None = None
    for number, raw in enumerate(text.decode("utf-8", "backslashreplace").split("\n"), 1):
        line = re.split("[;#]", raw, maxsplit=1)[0].strip()
        if not line:
            continue
        if line.startswith("["):
            current = _open(path, number, line, common, jobs)
        elif current is None:
            raise mistake(path, number, line, "a [section] before the first option")
        else:
            option = _option(path, number, line)
            current.pop(option.key, None)  # of options that exclude each other, the one given last counts
            current[option.key] = option
    if not jobs:
        raise mistake(path, number, line, "a job section beside [global]")
    return jobs


def _open(path: Path, number: int, line: str, common: dict[str, Option], jobs: list[Section]) -> dict[str, Option]:
    """The options that a new section collects."""
    match = SECTION.fullmatch(line)
    if match is None:
        raise mistake(path, number, line, "[NAME]")
    if match[1] == "global":
        return common
    jobs.append(Section(match[1], number, dict(common)))
    return jobs[-1].options


def _option(path: Path, number: int, line: str) -> Option:
    key, equals, value = line.partition("=")
    key = key.rstrip()
    if key.split(maxsplit=1)[0:1] == ["include"]:
        raise mistake(path, number, line, "the options themselves (include is not followed)")
    if not KEY.fullmatch(key):
        raise mistake(path, number, line, "KEY=VALUE or KEY, as fio spells its options")
    if equals and (not value or value[0].isspace()):  # fio 3.33 reads `bs= 4k` as 4 bytes
        raise mistake(path, number, line, "a value right behind the `=`, without a blank")
    if "$" in value:
        raise mistake(path, number, line, "the value itself ($ is not expanded)")
    return Option(path, number, line, ALIASES.get(key, key), value if equals else None)
