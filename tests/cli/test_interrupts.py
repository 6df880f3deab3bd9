"""Ctrl-C wherever it strikes."""

import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from pagewarden.cli import limited, status
from verbs import Verb


class Lost:
    """An interrupt strikes in its finalizer, where Python tells of it and goes on."""

    def __del__(self) -> None:
        raise KeyboardInterrupt


def test_what_strikes_in_a_finalizer_comes_again(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        Lost()
        time.sleep(60)

    with status._interrupts_kept(), pytest.raises(KeyboardInterrupt):
        work()
    assert not capfd.readouterr().err


def test_what_strikes_before_a_verb_begins_is_one_too(verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    def struck() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(limited, "available", struck)
    ended = verb("list", code=130)
    assert not ended.stdout and not ended.stderr


@pytest.mark.parametrize("module", ["typer", "pagewarden.cli.status", "numpy"])
@pytest.mark.parametrize("way", [["-m", "pagewarden"], ["-c", "from pagewarden.__main__ import main; main()"]])
def test_what_strikes_while_modules_are_imported_says_nothing(module: str, way: list[str], tmp_path: Path) -> None:
    """The command of an installed package is the second way; numpy is imported by the verb itself."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    ended = subprocess.run(
        [sys.executable, *way, "pool", "-"], env={"PYTHONPATH": str(tmp_path)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_the_command_is_the_module_s_own_way_in() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"pagewarden": "pagewarden.__main__:main"}


def test_an_interrupt_that_is_ignored_stays_so() -> None:
    """As a shell has it of a program behind `&`."""
    text = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); import atexit;"
        "atexit.register(lambda: print(signal.getsignal(signal.SIGINT).name));"
        "from pagewarden.__main__ import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", text, "--version"], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == signal.SIG_IGN.name
