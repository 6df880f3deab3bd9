"""Programs as root and as an ordinary user, whom the test makes."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from live import require
from pagewarden.kernel.confine import NOBODY

ROOT = Path(__file__).parents[2]
KITS = ROOT / "tests" / "kits"
INTERPRETERS = (sys.executable, "/usr/bin/python3")
WHO = ["root", "ordinary"]


def started(
    who: str,
    interpreter: str,
    *arguments: str,
    closed: tuple[int, ...] = (),
    pass_fds: tuple[int, ...] = (),
    more: Mapping[str, str] = MappingProxyType({}),
) -> "subprocess.Popen[str]":
    """A program as root or as an ordinary user, which may be the one who runs the tests, with those of its standard
    files closed; more: of its environment."""
    path = os.pathsep.join([*map(str, (KITS, ROOT / "src")), *filter(None, sys.path)])
    shell = f'exec {interpreter} "$@" {" ".join(f"{fd}>&-" for fd in closed)}'
    nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    identity: dict[str, Any] = nobody if who == "ordinary" and os.geteuid() == 0 else {}
    return subprocess.Popen(
        ["sh", "-c", shell, "sh", *arguments],
        text=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE if not closed else subprocess.DEVNULL,
        cwd="/",
        env={"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"} | dict(more),
        pass_fds=pass_fds,
        **identity,
    )


@cache
def _interpreter_for(who: str) -> str | None:
    if who == "root" or os.geteuid():
        return sys.executable
    for interpreter in INTERPRETERS:
        words = "import sys, pagewarden.memory; assert sys.version_info >= (3, 11)"
        with started(who, interpreter, "-c", words) as tried:
            tried.communicate()
        if tried.returncode == 0:
            return interpreter
    return None


def interpreter_for(who: str) -> str:
    """An interpreter that this user may run with this source tree; the test is skipped where there is none."""
    if os.geteuid() != 0 and who == "root":
        pytest.skip("needs root; the ordinary user's part runs")
    interpreter = _interpreter_for(who)
    require(interpreter is not None, "no Python interpreter here that an ordinary user may run with this source tree")
    assert interpreter is not None
    return interpreter


@contextmanager
def own_directory(who: str) -> Iterator[Path]:
    """A directory of this user's that others may look into, on a way that this user may go."""
    with tempfile.TemporaryDirectory(prefix="pagewarden-", dir="/tmp") as name:
        os.chmod(name, 0o755)
        if who == "ordinary" and os.geteuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)
