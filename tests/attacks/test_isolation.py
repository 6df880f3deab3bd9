"""Hostile host sides, of root and of an ordinary user: none gets a byte of a private page, none hangs its warden.

Each scenario is a program of its own (tests/kits/attacked.py) with fresh random secrets; what came out of the host
side, by whatever way, is searched for them.
"""

import json
import os
import platform
import signal
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from live import require
from pagewarden.abi.memory_syscalls import SYSCALLS
from pagewarden.memory.isolated.allowed import ALLOWED, NAMES
from programs import KITS, WHO, interpreter_for, own_directory, started
from waits import SOON

EVERY = os.environ.get("PAGEWARDEN_ATTACKS") == "all"
"""Every order of kills at every point (`make attacks`, an hour); without that a sample, each order at some points."""
SURVIVED_STEP, FATAL_STEP = 63, 101
"""Each program strikes at every so-manieth of (point, order): prime to the number of orders."""


@pytest.fixture(scope="module", autouse=True)
def caches() -> Iterator[None]:
    """A place for the caches of each user's programs."""
    with own_directory("root") as root, own_directory("ordinary") as ordinary:
        CACHES.update(root=root, ordinary=ordinary)
        yield


CACHES: dict[str, Path] = {}


def attacked(who: str, *scenario: str, closed: tuple[int, ...] = ()) -> dict[str, Any]:
    """The verdict of a scenario; it must come in time."""
    interpreter = interpreter_for(who)
    receive, transmit = os.pipe()
    arguments = str(KITS / "attacked.py"), str(transmit), *scenario
    cache = {"XDG_CACHE_HOME": str(CACHES[who])}
    with started(who, interpreter, *arguments, closed=closed, pass_fds=(transmit,), more=cache) as program:
        os.close(transmit)
        try:
            _, words = program.communicate(timeout=SOON)
        except subprocess.TimeoutExpired:
            program.kill()
            raise
    with open(receive) as answer:
        text = answer.read()
    assert text, (program.returncode, words)
    verdict: dict[str, Any] = json.loads(text)
    if "skipped" not in verdict:
        assert verdict["leaked"] == 0 and verdict["intact"] and not verdict["left"] and verdict["undead"] == 0, verdict
    return verdict


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize(
    "scenario",
    [
        "take-file",
        "lurk",
        "kill-others",
        "offsets",
        "numbers",
        "terminal",
        "remap",
        "kernel-writes",
        "poison",
        "space",
        "threads",
        "beside",
    ],
)
def test_nothing_goes_through(who: str, scenario: str) -> None:
    verdict = attacked(who, scenario)
    assert verdict["went"] == 0, verdict
    assert verdict.get("other", True), verdict


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("scenario", ["outlive", "lurk", "take-file", "kill-others", "break-guard"])
def test_nothing_goes_through_whichever_standard_files_are_closed(who: str, scenario: str) -> None:
    verdict = attacked(who, "combos", scenario)
    assert (verdict["went"], verdict["combos"]) == (0, 8), verdict


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
@pytest.mark.parametrize("first", range(SURVIVED_STEP if EVERY else 1))
def test_kills_that_the_warden_lives_through_lose_nothing_and_open_nothing(who: str, first: int) -> None:
    verdict = attacked(who, "survived", str(first), str(SURVIVED_STEP))
    assert verdict["rounds"] >= 25 and verdict["calls"] > 200, verdict


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("first", range(FATAL_STEP if EVERY else 1))
def test_nothing_outlives_a_warden_that_is_killed_in_whatever_order(who: str, first: int) -> None:
    verdict = attacked(who, "fatal", str(first), str(FATAL_STEP))
    assert (verdict["went"], verdict["unstruck"]) == (0, 0) and verdict["rounds"] >= 21, verdict


@pytest.mark.parametrize("who", WHO)
def test_neither_key_nor_capability_is_inherited(who: str) -> None:
    verdict = attacked(who, "inherited")
    assert (verdict["went"], verdict["keyring"]) == (0, 0), verdict


@pytest.mark.parametrize("who", WHO)
def test_a_descriptor_that_is_slow_to_close_delays_nobody(who: str) -> None:
    verdict = attacked(who, "linger")
    assert verdict["went"] == 0 and not verdict["late"], verdict


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("when", ["at once", "talking", "reading"])
def test_a_host_side_that_stops_itself_holds_nobody(who: str, when: str) -> None:
    attacked(who, "stopped", str(["at once", "talking", "reading"].index(when)))


@pytest.mark.parametrize("who", WHO)
def test_a_busy_address_space_does_not_hold_its_warden(who: str) -> None:
    attacked(who, "hold", "20")  # in time, however long a busy machine takes for each


def test_the_host_side_goes_first_when_memory_runs_out() -> None:
    verdict = attacked("root", "hoard")
    if "skipped" in verdict:
        require(False, verdict["skipped"])
    assert verdict["went"] == 0 and verdict["again"] > 0, verdict


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 alone has an older gate")
@pytest.mark.parametrize("who", WHO)
def test_the_gate_of_32_bit_programs_ends_the_process(who: str) -> None:
    verdict = attacked(who, "old-gate")
    assert (verdict["went"], verdict["status"]) == (0, -signal.SIGSYS), verdict


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
