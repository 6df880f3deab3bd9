"""Where text goes: a console that neither wraps nor colours what is piped."""

import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import Any, NoReturn

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from pagewarden.report.documents.base import Document
from pagewarden.vocab.host import OUTPUT, naming

PIPED_WIDTH = 200
TEXT_WIDTH = 80
MOST_TEXT = 20
"""Columns that a text on the left keeps, where numbers need the rest."""
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


class _Console(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        """An error says that it is of standard output. A table that is too wide is printed in parts."""
        with naming(OUTPUT):
            whole = _parts(objects[0], self.width) if objects and isinstance(objects[0], Table) else [objects]
            for number, part in enumerate(whole):
                if number:
                    super().print()
                super().print(*part, **options)

    def on_broken_pipe(self) -> NoReturn:
        """Not rich's status 1, which would be an answer: an error as of any other writer."""
        raise BrokenPipeError(errno.EPIPE, "nobody reads standard output")


def console() -> Console:
    """Standard output, as wide as its terminal, or as COLUMNS says."""
    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return _Console(width=None if known else PIPED_WIDTH, highlight=False, markup=False)


def _parts(whole: Table, width: int) -> Sequence[tuple[Any, ...]]:
    """The table, or where that is wider than the console several: numbers are never cut. Its left columns are wrapped,
    and stand in each part."""
    widths = [max(cell_len(str(cell)) for cell in [column.header, *column.cells]) + 2 for column in whole.columns]
    if sum(widths) - 2 <= width:
        return [(whole,)]
    left = [n for n, column in enumerate(whole.columns) if column.justify == "left"]
    room = width - sum(min(widths[n], MOST_TEXT) for n in left)
    groups: list[list[int]] = [[]]
    for n in range(len(left), len(widths)):
        if groups[-1] and sum(widths[m] for m in [*groups[-1], n]) - 2 > room:
            groups.append([])
        groups[-1].append(n)
    parts = []
    for group in groups:
        part = Table(box=None, title=whole.title, title_justify="left", title_style="bold", header_style="bold")
        part.pad_edge = False
        for n in [*left, *group]:
            like = replace(whole.columns[n], _index=len(part.columns), no_wrap=n not in left, overflow="fold")
            part.columns.append(like)
            part.columns[-1].min_width = None if n in left else widths[n] - 2
        part.rows = whole.rows
        parts.append((part,))
    return parts


def prose(out: Console, text: str) -> None:
    """Text for people, each line folded once, at the console's width or that of a page."""
    width = min(out.width, TEXT_WIDTH)
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()))
        folded = fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        out.print(folded, soft_wrap=True)


def table(*headers: str, title: str | None = None, left: int = 1) -> Table:
    """A plain table that can be pasted into a mail: the first `left` columns to the left, numbers to the right."""
    made = Table(box=None, title=title, title_justify="left", title_style="bold", header_style="bold", pad_edge=False)
    for number, header in enumerate(headers):
        made.add_column(header, justify="left" if number < left else "right", no_wrap=True)
    return made


def in_bytes(number: float) -> str:
    """Bytes with a unit, as people write it: 512 B, 24.3 KiB, 1 GiB."""
    unit = 0
    while number >= 1024 and unit < len(UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.3g} {UNITS[unit]}" if number < 1000 else f"{number:,.0f} {UNITS[unit]}"


def write(path: Path, text: str) -> None:
    """A file that the user named; OSError says which."""
    with naming(str(path)):
        path.write_text(text)


def print_document(document: Document) -> None:
    """One JSON document on standard output, what it is first."""
    head = {name: getattr(document, name) for name in ("schema", "verb")}
    with naming(OUTPUT):
        print(msgspec.json.encode(head | msgspec.structs.asdict(document)).decode())
