"""The JSON Schemas that are published are those of what is printed."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from pagewarden.report.documents import DOCUMENTS, schema_of

SCHEMAS = Path(__file__).parents[2] / "docs" / "schema"
PRINTED: dict[str, list[tuple[str, ...]]] = {
    "list": [("list",), ("list", "policies")],
    "explain": [("compare", "--explain", name, "--policy", "guest-memfd") for name in ("window", "splice", "swap-in")],
}


def test_there_is_a_schema_for_each_and_it_is_current() -> None:
    assert {path.stem for path in SCHEMAS.glob("*.json")} == set(DOCUMENTS) == set(PRINTED)
    for name in DOCUMENTS:
        assert json.loads((SCHEMAS / f"{name}.json").read_text()) == schema_of(name), (
            "python -m pagewarden.report.documents docs/schema"
        )


@pytest.mark.parametrize(("name", "arguments"), [(name, each) for name, calls in PRINTED.items() for each in calls])
def test_what_is_printed_is_as_the_schema_says(name: str, arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "pagewarden", *arguments, "--json"]
    document = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
    jsonschema.validate(document, schema_of(name))
    for key in document:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({other: document[other] for other in document if other != key}, schema_of(name))
