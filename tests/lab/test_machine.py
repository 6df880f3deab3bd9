"""A machine is watched by its console, and nothing of it outlives its watcher, however that ends."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pagewarden.lab import fetch, machine, pkvm
from pagewarden.vocab import Unavailable
from waits import in_time

SLOW = "sleep 600 & echo $! >child; echo pagewarden: 3 of 9 >console; wait"
"""Says how far it is, and has a child that stays."""


def shell(place: Path, script: str) -> list[str]:
    return ["sh", "-c", f"cd {place}; {script}"]


def is_gone(place: Path) -> bool:
    """Whether the machine's own child is gone: as a process that nobody has collected yet, too."""
    child = Path("/proc", (place / "child").read_text().strip(), "stat")
    try:
        return "Z" in child.read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_machine_that_ends_by_itself_has_been_heard(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    script = "echo 'pagewarden: 1 of 9' >console; echo 'pagewarden: 2 of 9' >>console; read x <gate; echo no >>console"
    os.mkfifo(tmp_path / "gate")

    def progress(done: int, total: int) -> None:
        if (done, total) == (2, 9):
            (tmp_path / "gate").write_text("go\n")
        heard.append((done, total))

    machine.watch(shell(tmp_path, script), tmp_path, "it", 60, progress)
    assert heard[-1] == (2, 9) and "no" in machine.tail(tmp_path / machine.CONSOLE).splitlines()


def test_a_machine_that_takes_too_long_is_told_by_its_last_words(tmp_path: Path) -> None:
    lines = "".join(f"echo line {k} >>console;" for k in range(40))
    with pytest.raises(
        Unavailable, match=r"it: not done in 0\.3 s:\nline 26\n(line \d\d\n)+pagewarden: 3 of 9"
    ) as told:
        machine.watch(shell(tmp_path, lines + SLOW.replace(">con", ">>con")), tmp_path, "it", 0.3)
    assert "line 25" not in str(told.value)


def test_a_machine_that_was_killed_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="SIGKILL"):
        machine.watch(shell(tmp_path, "kill -9 $$"), tmp_path, "it", 60)


def test_nothing_of_a_machine_outlives_a_watcher_that_is_struck(tmp_path: Path) -> None:
    def struck(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        machine.watch(shell(tmp_path, SLOW), tmp_path, "it", 600, struck)
    assert in_time(lambda: is_gone(tmp_path))


def test_what_a_console_says_cannot_draw_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "console").write_bytes(b"\x1b[2Jbad\x00\x07\xff\n\n" + b"x" * (machine.ENOUGH + 5))
    said = machine.tail(tmp_path / "console")
    assert said.isprintable() and len(said) <= machine.ENOUGH


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], fetch.Kernel]:
    """A QEMU that is a program of Python's: it is given the console's file and the disk that takes the answer."""

    def by(program: str) -> fetch.Kernel:
        (tmp_path / "qemu.py").write_text(
            "import sys, pathlib\n"
            "words = sys.argv[1:]\n"
            "console = pathlib.Path(next(w for w in words if w.startswith('file:'))[5:])\n"
            "answer = pathlib.Path(next(w for w in words if 'id=answer' in w).split(',')[0][5:])\n" + program
        )
        monkeypatch.setattr(pkvm, "emulator", lambda say: [sys.executable, str(tmp_path / "qemu.py")])
        monkeypatch.setattr(pkvm, "userland", lambda say: ("3.13", tmp_path))
        monkeypatch.setattr(pkvm, "build", lambda *_: b"")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        return fetch.Kernel("it", Path("/vmlinuz"), None, "arm64")

    return by


def test_a_guest_that_dies_among_its_answers_is_told_by_its_last_words(
    emulated: Callable[[str], fetch.Kernel], tmp_path: Path
) -> None:
    kernel = emulated(
        'answer.write_bytes(b\'{"kernel": "9.9", "cells": 7}\\n{}\\n{}\\n\' + bytes(100))\n'
        "console.write_text('Unable to handle kernel paging request\\nKernel panic - not syncing\\n')\n"
    )
    with pytest.raises(Unavailable, match=r"it died after 2 answers:\nUnable to.*\nKernel panic") as told:
        pkvm.ask(kernel, ["memfd"], ["*"], 60)
    assert "arm64" in told.value.advice and list(tmp_path.glob("pagewarden-lab-*")) == []


def test_an_answer_that_is_whole_is_brought_back(emulated: Callable[[str], fetch.Kernel]) -> None:
    kernel = emulated('answer.write_bytes(b\'{"kernel": "9.9", "cells": 0}\\n{"end": ""}\\n\' + bytes(9))\n')
    assert pkvm.ask(kernel, ["memfd"], ["*"], 60) == [b'{"kernel": "9.9", "cells": 0}', b'{"end": ""}']


def test_an_interrupt_while_a_process_starts_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C once it runs, but nobody has it yet."""
    start, started = subprocess.Popen, list[subprocess.Popen[bytes]]()

    def interrupted(*given: Any, **named: Any) -> subprocess.Popen[bytes]:
        started.append(start(*given, **named))
        signal.raise_signal(signal.SIGINT)
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with (tmp_path / "log").open("wb") as log, pytest.raises(KeyboardInterrupt), machine.process(["sleep", "600"], log):
        pytest.fail("it was not interrupted")
    assert started[0].returncode == -signal.SIGKILL
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
