"""What the documents say that the program knows better: whole files, and blocks that are the output of a command.

    python -m pagewarden.report.docs          # in a clone: writes what has changed
    python -m pagewarden.report.docs --all    # also the blocks that take minutes

A block stands between `<!-- run: pagewarden compare -->` and `<!-- end -->`. `run 12` keeps the first 12 lines; `run
slow` is for what takes more than some seconds; `run like` for times and what else is a machine's own: such a block is
current while each line begins with the same word. Behind `<!-- generated: prices -->` stands a text that the library
has.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

from pagewarden.cost import shipped_profiles, table
from pagewarden.memory.choose import what_each_stops
from pagewarden.report import apidoc, lawdoc, traces
from pagewarden.report.console import PIPED_WIDTH
from pagewarden.report.documents import schemas
from pagewarden.vocab import InternalError

WHOLE: dict[str, Callable[[], str]] = {
    "docs/law.md": lawdoc.document,
    "docs/sources.md": lawdoc.sources_page,
    "docs/api.md": apidoc.document,
    "docs/json.md": schemas.page,
    **{f"docs/schema/{name}.json": partial(schemas.schema_text, name) for name in schemas.DOCUMENTS},
}
SLOW: dict[str, Callable[[], str]] = {"docs/traces.md": traces.page}
"""Whole files that take minutes."""
PARTS: dict[str, Callable[[], str]] = {
    "matrix": traces.matrix_table,
    "threat model": traces.threat_model,
    "what each backing stops": what_each_stops,
    "prices": lambda: table(shipped_profiles()),
}
BLOCK = re.compile(
    r"(<!-- (?:run|generated)( slow)?( like)?( \d+)?: (?:(pagewarden [^\n]*)|([^\n]*)) -->\n)(.*?)(<!-- end -->)",
    re.DOTALL,
)
HELP_WIDTH = 118


def documents(root: Path) -> list[Path]:
    """Every document that people read, the generated ones among them."""
    return [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]


def current(root: Path, slow: bool) -> Iterator[tuple[Path, str]]:
    """Each document that is generated, or has blocks, as it should be. slow: minutes are granted."""
    for name, document in (WHOLE | SLOW if slow else WHOLE).items():
        yield root / name, document()
    for path in documents(root):
        text = path.read_text()
        if BLOCK.search(text):
            yield path, BLOCK.sub(lambda block: _block(block, root, slow), text)


def _block(block: re.Match[str], root: Path, slow: bool) -> str:
    head, is_slow, like, lines, command, part, before, end = block.groups()
    if is_slow and not slow:
        return block[0]
    if part:
        return f"{head}{PARTS[part]()}\n{end}"
    said = output(command, root).splitlines()[: int(lines) if lines else None]
    text = "\n".join(["```text", *(line.rstrip() for line in said), "```\n"])
    return block[0] if like and _heads(text) == _heads(before) else f"{head}{text}{end}"


def _heads(text: str) -> list[list[str]]:
    return [line.split()[:1] for line in text.splitlines()]


@cache
def output(command: str, root: Path) -> str:
    """What a `pagewarden` command prints, run in the clone, with no profiles of this user's. InternalError where it is
    not a yes or a no."""
    width = HELP_WIDTH if "--help" in command else PIPED_WIDTH
    found = subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=root,
        env={**os.environ, "COLUMNS": str(width), "NO_COLOR": "1", "XDG_CONFIG_HOME": str(root)},
        capture_output=True,
        text=True,
    )
    if found.returncode not in (0, 1):
        raise InternalError(f"{command}: status {found.returncode}: {found.stderr}")
    return found.stdout


def main(arguments: list[str]) -> None:
    """Write what is not current, and say so."""
    for path, text in current(Path.cwd(), slow="--all" in arguments):
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
