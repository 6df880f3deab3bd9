"""What each verb says of itself, and that it says nothing else where nobody watches."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from verbs import COMMAND, Verb, document

ROOT = Path(__file__).parents[2]


def verbs() -> dict[str, str]:
    """Every verb, `serve blk` too, and its help."""
    found = dict[str, str]()
    todo: list[tuple[str, Any]] = [("", COMMAND)]
    while todo:
        name, command = todo.pop()
        inner = getattr(command, "commands", {})
        todo += [(f"{name} {word}".strip(), each) for word, each in inner.items()]
        if not inner:
            found[name] = command.help or ""
    return found


VERBS = verbs()


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_shows_how_it_is_called(name: str) -> None:
    assert len(re.findall(rf"^ *pagewarden {name}\b", VERBS[name], re.MULTILINE)) >= 2


@pytest.mark.parametrize(
    ("words", "at", "expected"), [("pagewarden compa", 1, "compare"), ("pagewarden run --ver", 2, "--verify")]
)
def test_a_shell_completes_verbs_and_options(words: str, at: int, expected: str) -> None:
    asked = {"_PAGEWARDEN_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(at)}
    command = Path(sys.executable).with_name("pagewarden")
    said = subprocess.run([command], env={**os.environ, **asked}, capture_output=True, text=True)
    assert (said.returncode, said.stdout.split(), said.stderr) == (0, [expected], "")


TINY = ("--pages", "1", "--vcpus", "1", "--stranger", "strace")


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (0, ("compare", "--sizes", "4k,64k")),
        (0, ("compare", "examples/randrw.iolog")),
        (0, ("pool", "examples/randrw.iolog", "--depth", "4")),
        (0, ("check", *TINY, "--property", "host-never-panics")),
        (1, ("check", *TINY, "--policy", "memfd", "--property", "host-never-reads-private")),
        (0, ("check", "--minimal", *TINY, "--policy", "memfd", "--property", "host-never-panics")),
        (0, ("law", "--op", "gup_pin")),
    ],
)
def test_nothing_is_said_beside_the_answer_where_nobody_watches(
    verb: Verb, code: int, arguments: tuple[str, ...]
) -> None:
    words = [word.replace("examples/", f"{ROOT}/examples/") for word in arguments]
    said = verb(*words, code=code)
    assert said.stdout and not said.stderr and "\x1b" not in said.stdout
    assert document(verb, *words, code=code)["schema"] == 1
