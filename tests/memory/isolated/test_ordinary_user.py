"""The same without privileges: a userfaultfd for user-mode faults is enough for the guard."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from live import require
from pagewarden.kernel.confine import NOBODY
from pagewarden.probe.capabilities import capabilities
from waits import SOON

ROOT = Path(__file__).parents[3]
KITS = ROOT / "tests" / "kits"
INTERPRETERS = (sys.executable, "/usr/bin/python3")


def as_nobody(*command: str) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([*map(str, (KITS, ROOT / "src")), *filter(None, sys.path)])
    return subprocess.run(
        command,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        text=True,
        capture_output=True,
        cwd="/",
        timeout=SOON,
        env={"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def usable(interpreter: str) -> bool:
    """Can nobody run it, is it new enough, and can it see this project?"""
    try:
        return (
            as_nobody(interpreter, "-c", "import sys, pagewarden.memory; assert sys.version_info >= (3, 11)").returncode
            == 0
        )
    except OSError:
        return False


def test_private_memory_needs_no_privilege() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else; the other tests run unprivileged already")
    available = {found.name: found.available for found in capabilities()}
    require(available["uffd-window"], "no userfaultfd window here")
    interpreter = next(filter(usable, INTERPRETERS), None)
    if interpreter is None:
        pytest.skip("no Python interpreter here that an ordinary user may run with this source tree")
    backings = ["uffd-window", *(["memfd-secret"] if available["memfd_secret"] else [])]
    done = as_nobody(interpreter, str(KITS / "ordinary_user.py"), *backings)
    assert done.returncode == 0 and done.stdout == "all done\n", done.stderr
