"""fio's jobs cut into sections: their options, the globals above them, and where each value stands. No meaning yet.

Format: fio's manual, "Job file format"; checked with fio 3.33: a `;` or `#` ends a line wherever it stands, several
`[global]` sections add up, the last value of a key wins, only `filename` collects. `include` reads a file beside the
job file; `${NAME}` is the environment's.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from pagewarden.vocab import UserMistake
from pagewarden.workload.fio.options import known
from pagewarden.workload.lines import mistake

MAX_SIZE = 1 << 20
"""Bytes a job file may have; it is written by hand."""
MAX_DEPTH = 16
"""Files that include each other."""
SECTION = re.compile(r"\[([^\[\]]+)\]")
KEY = re.compile(r"[a-z_][a-z0-9_-]*")
VARIABLE = re.compile(r"\$\{(\w+)\}")
COLLECTING = ("filename",)
PLACES = ("filename", "ioengine", "directory", "name")
"""Options whose value says where, not what: a variable that is not set may stay."""


@dataclass(frozen=True, slots=True)
class Option:
    """A value and where it was given."""

    path: Path
    line: int  # from 1; of a command line the number of the argument
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
    path: Path
    line: int
    options: dict[str, Option]  # by key, globals included, in the order last given


class _Collector:
    """Sections as their lines come."""

    def __init__(self) -> None:
        self.jobs: list[Section] = []
        self.common: dict[str, Option] = {}
        self.current: dict[str, Option] | None = None

    def open(self, name: str, path: Path, line: int) -> None:
        if name == "global":
            self.current = self.common
            return
        self.jobs.append(Section(name, path, line, dict(self.common)))
        self.current = self.jobs[-1].options

    def add(self, option: Option) -> None:
        if self.current is None:
            raise mistake(option.path, option.line, option.text, "a [section] before the first option")
        before = self.current.pop(option.key, None)  # of options that exclude each other, the last one given counts
        if before is not None and option.key in COLLECTING:
            option = replace(option, value=f"{before.value}:{option.value}")
        self.current[option.key] = option


def read_sections(path: Path) -> list[Section]:
    """The jobs of the file in their order. UserMistake for what is no job file; OSError."""
    found = _Collector()
    _read(path, found, 0)
    if not found.jobs:
        raise mistake(path, 1, "", "a job section beside [global]")
    return found.jobs


def _read(path: Path, found: _Collector, depth: int) -> None:
    data = path.read_bytes()
    if len(data) > MAX_SIZE:
        raise mistake(path, 1, f"{len(data)} bytes", f"a job file of at most {MAX_SIZE} bytes")
    for number, raw in enumerate(data.decode("utf-8", "backslashreplace").split("\n"), 1):
        line = re.split("[;#]", raw, maxsplit=1)[0].strip()
        if not line:
            continue
        if line.startswith("["):
            match = SECTION.fullmatch(line)
            if match is None:
                raise mistake(path, number, line, "[NAME]")
            found.open(match[1], path, number)
        elif line.split(maxsplit=1)[0] == "include":
            _include(path, number, line, found, depth)
        else:
            found.add(_option(path, number, line))


def _include(path: Path, number: int, line: str, found: _Collector, depth: int) -> None:
    other = path.parent / line[len("include") :].strip()
    if depth >= MAX_DEPTH:
        raise mistake(path, number, line, f"files that include each other no deeper than {MAX_DEPTH}")
    try:
        _read(other, found, depth + 1)
    except OSError as error:
        raise mistake(path, number, line, f"a file that can be read ({other}: {error.strerror})") from error


def _option(path: Path, number: int, line: str) -> Option:
    key, equals, value = line.partition("=")
    key = key.rstrip()
    if not KEY.fullmatch(key):
        raise mistake(path, number, line, "KEY=VALUE or KEY, as fio spells its options")
    key = known().aliases.get(key, key)
    if value[:1].isspace():  # fio 3.33 reads `bs= 4k` as 4 bytes, and knows no ` randread`
        value = value.strip()
        if key in known().used and key not in PLACES and not value.isdecimal():
            raise mistake(path, number, line, "a value right behind the `=`, without a blank")
    return Option(path, number, line, key, _expanded(path, number, line, key, value) if equals else None)


def _expanded(path: Path, number: int, line: str, key: str, value: str) -> str:
    """The value with ${NAME} put in; variables in options that change nothing stay as they are."""
    if "$" not in value or key not in known().used:
        return value

    def environment(match: re.Match[str]) -> str:
        if match[1] not in os.environ and key in PLACES:
            return match[0]
        if match[1] not in os.environ:
            raise mistake(path, number, line, f"{match[1]} in the environment, as fio would take it from there")
        return os.environ[match[1]]

    return VARIABLE.sub(environment, value).replace("$pagesize", "4096")  # of x86-64 guests


def sections_of_arguments(arguments: Sequence[str]) -> list[Section]:
    """The jobs of fio's command line (without the word fio): `--name` begins one, what stands before is global.

    UserMistake names the argument. Job files among the arguments are not mixed with options: give the file itself.
    """
    path, found = Path("fio's command line"), _Collector()
    found.current = found.common
    for number, argument in enumerate(_joined(arguments), 1):
        if not argument.startswith("-"):
            raise mistake(path, number, argument, "options alone; a job file is compared by its own name")
        option = _option(path, number, argument.lstrip("-"))
        if option.key == "name":
            found.open(option.value or f"job{len(found.jobs) + 1}", path, number)
        elif option.key not in OUTPUT:
            found.add(option)
    if not found.jobs:
        raise mistake(path, 1, " ".join(arguments[:4]), "--name=JOB, which begins a job")
    return found.jobs


_SWITCHES = """
output output-format terse-version minimal append-terse bandwidth-log eta eta-newline eta-interval
status-interval warnings-fatal max-jobs debug parse-only merge-blktrace-only daemonize client server section
alloc-size aux-path idle-prof inflate-log trigger-file trigger-timeout trigger trigger-remote latency-log
readonly showcmd
"""
OUTPUT = frozenset(_SWITCHES.split())
"""fio's own switches, which say how it runs and prints."""


def _joined(arguments: Sequence[str]) -> Iterator[str]:
    """`--key value` as `--key=value`; a key alone stays alone."""
    waiting: str | None = None
    for argument in arguments:
        if waiting is not None:
            yield waiting if argument.startswith("-") else f"{waiting}={argument}"
            waiting = None
            if not argument.startswith("-"):
                continue
        if argument.startswith("--") and "=" not in argument:
            waiting = argument
        else:
            yield argument
    if waiting is not None:
        yield waiting


def sections_of_json(path: Path, text: str) -> list[Section]:
    """The jobs of fio's own report (`--output-format=json`), which repeats the options that it ran. UserMistake."""
    try:
        report = json.loads(text[text.index("{") :])
        common: Mapping[str, Any] = report.get("global options", {})
        jobs: list[tuple[str, Mapping[str, Any]]] = [(job["jobname"], job["job options"]) for job in report["jobs"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserMistake(f'{path}: not fio\'s JSON with "job options" in each job ({error!r})') from error
    found = _Collector()
    for name, options in jobs:
        found.open(name, path, 1)
        found.jobs[-1].options.clear()
        for key, value in [*common.items(), *options.items()]:
            if key != "name":
                option = _option(path, 1, f"{key}={value}" if value else key)
                found.jobs[-1].options[option.key] = option
    if not found.jobs:
        raise UserMistake(f"{path}: fio's report has no job in it")
    return found.jobs
