"""`pagewarden probe --isolated`: the room and the table of system calls."""

import json

from typer.testing import CliRunner

from live import require
from pagewarden.cli import app
from pagewarden.memory.isolated.allowed import ALLOWED
from pagewarden.memory.isolated.room import PARTS


def test_it_says_what_is_there_and_every_call_with_its_reason() -> None:
    done = CliRunner().invoke(app, ["probe", "--isolated", "--json"])
    require(done.exit_code in (0, 1), done.output)
    said = json.loads(done.output)
    assert [part["name"] for part in said["parts"]] == [part.title for part in PARTS]
    assert [call["name"] for call in said["calls"]] == [entry.name for entry in ALLOWED]
    assert said["holds"] == (done.exit_code == 0) == (not said["broken"])
    words = CliRunner().invoke(app, ["probe", "--isolated"]).output
    assert words.startswith("YES" if said["holds"] else "NO") and all(entry.reason in words for entry in ALLOWED[:3])
