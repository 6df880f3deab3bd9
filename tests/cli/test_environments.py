"""Every verb where the host is short of something: a status that is true, one line that helps, nothing left behind.

The environments and the verbs are in tests/kits: each meets those that it is about here, all others by
`make environments`.
"""

import os
import pty
import random
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cells import Cells, Ended, lacking
from commands import FAILS, VERBS, faults
from environments import ENVIRONMENTS
from groups import lacking_groups
from live import require

QUICK = [name for name, found in ENVIRONMENTS.items() if found.verbs]


@pytest.fixture(scope="module")
def cells() -> Iterator[Cells]:
    why = lacking()
    require(not why, why)
    with Cells() as made:
        yield made


def judged(name: str, environment: str, ended: Ended) -> list[str]:
    wrong = faults(VERBS[name], ENVIRONMENTS[environment], ended.status, ended.out, ended.err, ended.left)
    return [f"{name}: {'; '.join(wrong)}: {ended.err[-600:]}"] if wrong else []


def tried(cells: Cells, environment: str, verbs: tuple[str, ...], fresh: bool = False) -> list[str]:
    require(os.geteuid() == 0 or environment not in ("no home", "ordinary user"), "only root becomes another user")
    if ENVIRONMENTS[environment].group is not None:
        require(not (why := lacking_groups()), why)
    return [
        fault
        for name in verbs
        for fault in judged(name, environment, cells.run(environment, VERBS[name].arguments, fresh))
    ]


@pytest.mark.parametrize("environment", QUICK)
def test_a_verb_answers_or_says_what_is_missing(cells: Cells, environment: str) -> None:
    assert not tried(cells, environment, ENVIRONMENTS[environment].verbs)


@pytest.mark.parametrize("environment", ["no home", "no /proc", "300 MiB of addresses", "8 files", "ASCII"])
def test_a_new_interpreter_there(cells: Cells, environment: str) -> None:
    """What is only met while modules are loaded."""
    assert not tried(cells, environment, ("law", "check fails"), fresh=True)


@pytest.mark.environments
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_verb_everywhere(cells: Cells, environment: str) -> None:
    here = ENVIRONMENTS[environment]
    todo = tuple(name for name, verb in VERBS.items() if name not in here.verbs and (here.slow or not verb.slow))
    assert not tried(cells, environment, todo)


POINTS = {"compare": 10, "check holds": 10, "run interpreted": 3, "calibrate": 3}


def interrupted(cells: Cells, verb: str, points: int, number: int, after: str = "") -> list[Ended]:
    """At points of progress that a seed has drawn, behind the first call of that name."""
    arguments = VERBS[verb].arguments
    calls = min(cells.run("ordinary", arguments, at=0, after=after).calls for _ in range(2))  # the first fills caches
    assert calls > points
    draw = random.Random(verb)
    return [
        cells.run("ordinary", arguments, at=draw.randrange(1, calls * 9 // 10), number=number, after=after)
        for _ in range(points)
    ]


def stopped_well(cells: Cells, verb: str, points: int) -> None:
    for ended in interrupted(cells, verb, points, signal.SIGINT):
        assert ended.status == 130 and not ended.left, ended
        assert "Traceback" not in ended.err and "pagewarden:" not in ended.err, ended.err


@pytest.mark.parametrize("verb", POINTS)
def test_ctrl_c(cells: Cells, verb: str) -> None:
    stopped_well(cells, verb, POINTS[verb])


@pytest.mark.environments
@pytest.mark.parametrize("verb", VERBS)
def test_ctrl_c_at_ten_points_of_every_verb(cells: Cells, verb: str) -> None:
    stopped_well(cells, verb, 10)


def test_a_check_that_is_killed_leaves_nothing(cells: Cells) -> None:
    """With all of its session, while it has workers: no process, and no semaphore by name."""
    for ended in interrupted(cells, "check --minimal", 2, signal.SIGKILL, after="_start"):
        assert ended.status == -signal.SIGKILL and not ended.left, ended


@pytest.mark.parametrize("target", ["/nonexistent/trace", "/", "/dev/full"])
def test_a_trace_that_cannot_be_written(cells: Cells, target: str) -> None:
    ended = cells.run("ordinary", (*FAILS, "--trace", target))
    assert ended.status == 2 and ended.err.splitlines()[-1].startswith(f"pagewarden: {target}: "), ended


@pytest.mark.parametrize("target", ["PLACE/disk/x.toml", "/", "", "/dev/full"])
def test_a_profile_that_cannot_be_written_is_not_measured(cells: Cells, target: str) -> None:
    ended = cells.run("ordinary", ("calibrate", "--seconds", "3600", "--cpu", "none", "--out", target))
    assert ended.status == 2 and len(ended.err.splitlines()) == 1 and "pagewarden: " in ended.err, ended


def test_an_emulator_without_memory_is_no_leak(cells: Cells) -> None:
    """Unicorn ends the process with exit(1) when it gets no room for its translations."""
    ended = cells.run("700 MiB of addresses", VERBS["run"].arguments)
    assert not judged("run", "700 MiB of addresses", ended) and "not installed" not in ended.err


def test_a_terminal_of_60_columns() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "pagewarden", "compare"], stdout=theirs, stderr=theirs,
        env={**os.environ, "COLUMNS": "60"}, text=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        said = b""
        while part := read(ours):
            said += part
    os.close(ours)
    assert process.returncode == 0 and b"Traceback" not in said and b"window" in said


def read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except OSError:  # EIO: the other end is closed
        return b""
