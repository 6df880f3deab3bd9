"""Where text goes: a console that neither wraps nor colours what is piped."""

import errno
import sys
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from rich.console import Console
from rich.table import Table

from pagewarden.report.documents.base import Document
from pagewarden.vocab.host import OUTPUT, naming

PIPED_WIDTH = 200
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


class _Console(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        """An error says that it is of standard output."""
        with naming(OUTPUT):
            super().print(*objects, **options)

    def on_broken_pipe(self) -> NoReturn:
        """Not rich's status 1, which would be an answer: an error as of any other writer."""
        raise BrokenPipeError(errno.EPIPE, "nobody reads standard output")


def console() -> Console:
    """Standard output."""
    return _Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False, markup=False)


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
