"""A verb in the process of the tests: everything is imported, and compiled loops are loaded once."""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jsonschema
import pytest
import typer

from pagewarden import cli

SCHEMAS = Path(__file__).parents[2] / "docs" / "schema"
COMMAND = typer.main.get_command(cli.app)
"""What `main` makes anew for each process."""


class Ended(NamedTuple):
    """How it ended, and what it said."""

    status: int
    stdout: str
    stderr: str


class Verb(Protocol):
    """`pagewarden ARGUMENTS`, which must end with this status; None: with any."""

    def __call__(self, *arguments: str, code: int | None = 0) -> Ended: ...


def verb_of(capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> Verb:
    """As `main` runs it, whose words are captured."""

    patch.setattr(cli, "app", COMMAND)

    def call(*arguments: str, code: int | None = 0) -> Ended:
        capture.readouterr()
        patch.setattr(sys, "argv", ["pagewarden", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = Ended(int(ended.value.code or 0), *capture.readouterr())
        assert code in (None, said.status) and "Traceback" not in said.stderr, said
        return said

    return call


def document(verb: Verb, *arguments: str, code: int | None = 0) -> dict[str, Any]:
    """What it prints with --json."""
    text = verb(*arguments, "--json", code=code).stdout
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert isinstance(found, dict)
    return found


def validate(name: str, document: dict[str, Any]) -> None:
    """As the schema says, and not without any of its keys."""
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    jsonschema.validate(document, schema)
    for key in document:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({other: document[other] for other in document if other != key}, schema)
