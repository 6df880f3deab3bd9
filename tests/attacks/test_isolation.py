"""Hostile host sides, of root and of an ordinary user: none gets a byte of a private page, none hangs its warden.

Each scenario is a program of its own (tests/kits/attacked.py) with fresh random secrets; what came out of the host
side, by whatever way, is searched for them.
"""

import json
import os
import subprocess
import sys
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from live import require
from pagewarden.abi.memory_syscalls import SYSCALLS
from pagewarden.kernel.confine import NOBODY
from pagewarden.memory.isolated.allowed import ALLOWED, NAMES
from waits import SOON

ROOT = Path(__file__).parents[2]
KITS = ROOT / "tests" / "kits"
INTERPRETERS = (sys.executable, "/usr/bin/python3")
WHO = ["root", "ordinary"]
ROUNDS = 4
"""Programs of 25 kills each, for each of root and an ordinary user: 200 points in all."""


def started(who: str, interpreter: str, *arguments: str, closed: tuple[int, ...] = ()) -> "subprocess.Popen[str]":
    """A program as root or as an ordinary user, with those of its standard files closed."""
    path = os.pathsep.join([*map(str, (KITS, ROOT / "src")), *filter(None, sys.path)])
    shell = f'exec {interpreter} "$@" {" ".join(f"{fd}>&-" for fd in closed)}'
    identity: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if who == "ordinary" else {}
    return subprocess.Popen(
        ["sh", "-c", shell, "sh", *arguments],
        text=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd="/",
        env={"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"},
        pass_fds=[int(arguments[1])] if len(arguments) > 1 and arguments[1].isdigit() else [],
        **identity,
    )


@cache
def interpreter_for(who: str) -> str | None:
    """An interpreter that this user may run with this source tree."""
    if who == "root":
        return sys.executable
    for interpreter in INTERPRETERS:
        words = "import sys, pagewarden.memory; assert sys.version_info >= (3, 11)"
        with started(who, interpreter, "-c", words) as tried:
            tried.communicate()
        if tried.returncode == 0:
            return interpreter
    return None


def attacked(who: str, *scenario: str, closed: tuple[int, ...] = ()) -> dict[str, Any]:
    """The verdict of a scenario; it must come in time."""
    if os.geteuid() != 0 and who == "root":
        pytest.skip("needs root; the ordinary user's part runs")
    interpreter = interpreter_for(who)
    if interpreter is None:
        require(False, "no Python interpreter here that an ordinary user may run with this source tree")
        raise AssertionError
    receive, transmit = os.pipe()
    with started(who, interpreter, str(KITS / "attacked.py"), str(transmit), *scenario, closed=closed) as program:
        os.close(transmit)
        try:
            _, words = program.communicate(timeout=SOON)
        except subprocess.TimeoutExpired:
            program.kill()
            raise
    with open(receive) as answer:
        text = answer.read()
    assert text, words
    verdict: dict[str, Any] = json.loads(text)
    assert verdict["leaked"] == 0 and verdict["intact"] and not verdict["left"] and verdict["undead"] == 0, verdict
    return verdict


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("scenario", ["outlive", "take-file", "lurk", "kill-others", "offsets", "numbers", "terminal"])
def test_nothing_goes_through(who: str, scenario: str) -> None:
    verdict = attacked(who, scenario)
    assert verdict["went"] == 0, verdict
    assert verdict.get("other", True)


@pytest.mark.parametrize("who", WHO)
def test_the_guard_in_its_own_table_can_be_neither_used_nor_closed(who: str) -> None:
    verdict = attacked(who, "break-guard")
    assert verdict["went"] == 0, verdict


@pytest.mark.parametrize("who", WHO)
def test_a_deaf_host_side_does_not_hold_its_warden(who: str) -> None:
    assert attacked(who, "deaf")["refused"] == 110  # ETIMEDOUT


@pytest.mark.parametrize("who", WHO)
def test_words_are_bounded_and_escaped_and_do_not_hold_its_warden(who: str) -> None:
    verdict = attacked(who, "flood")
    assert verdict["went"] == 0 and verdict["refused"] == 110
    assert 1000 < verdict["words"] <= 64 << 10


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("which", [c for n in range(4) for c in combinations((0, 1, 2), n)], ids=str)
def test_standard_files_that_are_closed_are_never_the_memory(who: str, which: tuple[int, ...]) -> None:
    verdict = attacked(who, "closed", closed=which)
    assert verdict["went"] == 0 and verdict["own"] == [], verdict


@pytest.mark.parametrize("who", WHO)
def test_every_call_outside_the_table_is_refused(who: str) -> None:
    verdict = attacked(who, "denied")
    assert verdict["went"] == 0, verdict


@pytest.mark.parametrize("who", WHO)
def test_every_call_of_the_table_with_hostile_arguments_opens_nothing(who: str) -> None:
    assert attacked(who, "allowed")["tried"] == len(ALLOWED)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_kills_in_every_order_lose_nothing_and_open_nothing(who: str, seed: int) -> None:
    assert attacked(who, "kills", str(seed))["rounds"] == 25


@pytest.mark.parametrize("who", WHO)
def test_neither_key_nor_capability_is_inherited(who: str) -> None:
    verdict = attacked(who, "inherited")
    assert (verdict["went"], verdict["keyring"]) == (0, 0), verdict


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("seed", range(ROUNDS // 2))
def test_nothing_outlives_a_warden_that_is_killed(who: str, seed: int) -> None:
    verdict = attacked(who, "wardens", str(seed))
    assert (verdict["rounds"], verdict["went"]) == (12, 0), verdict


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("number", [335, 336], ids=["uretprobe", "uprobe"])
def test_the_two_calls_that_no_filter_sees_gain_nothing(who: str, number: int) -> None:
    """Linux 6.18 ends the caller of uretprobe by SIGILL, and tells that of uprobe ENXIO: neither comes from a probe
    (arch/x86/kernel/uprobes.c). An older kernel refuses them as it does any other call."""
    verdict = attacked(who, "probes", str(number))
    assert (verdict["code"], verdict["status"]) in [(-1, -4), (6, 0), (1, 0), (38, 0)], verdict


@pytest.mark.parametrize("who", WHO)
def test_without_namespaces_landlock_is_enough(who: str) -> None:
    verdict = attacked(who, "walled", "unshare")
    assert verdict["went"] == 0 and not verdict["refusal"]
    assert {"PID namespace", "empty read-only root"} <= set(verdict["missing"])


@pytest.mark.parametrize("who", WHO)
def test_without_either_it_is_refused_with_the_reason_or_says_what_is_missing(who: str) -> None:
    verdict = attacked(who, "walled", "unshare", "landlock_create_ruleset")
    assert "empty read-only root" in verdict["refusal"] and "best-effort" in verdict["refusal"], verdict
    assert verdict["went"] == 0 and "Landlock: files" in verdict["missing"]


def test_the_table_names_calls_that_exist_each_once_with_a_reason() -> None:
    assert len(NAMES) == len(ALLOWED) and set(SYSCALLS["x86_64"]) >= NAMES
    assert all(entry.reason and bool(entry.conditions) == bool(entry.words) for entry in ALLOWED)
    forbidden = (
        "fork vfork execve ptrace ioctl sendmsg kill openat mremap userfaultfd io_uring_setup mincore socket prlimit"
    )
    assert not NAMES & set(forbidden.split())
