"""Host sides and those that start them: one at a time, none outlives its guard, whoever dies is replaced."""

import errno
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import host_programs
from isolated_kit import heard, seen
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, Refused, Unavailable
from pagewarden.memory.isolated.window import IsolatedWindow
from pagewarden.vocab import UserMistake
from waits import SOON


def test_one_host_side_at_a_time_and_the_next_sees_the_same_state(mem: PrivateMemory) -> None:
    mem.share(PageRange(2, 3))
    host = mem.spawn(host_programs.stay)
    with pytest.raises(Refused) as caught:
        mem.spawn(host_programs.stay)
    assert caught.value.errno == errno.EBUSY
    with pytest.raises(Refused, match="still runs"):
        host.wait(0)
    host.kill()
    mem.share(PageRange(4, 5))  # nobody looks: the state is kept for the next one
    host = mem.spawn(host_programs.peek)
    assert [seen(host, page) for page in (1, 2, 4)] == [None, b"page 002", b"page 004"]


def test_functions_that_cannot_be_imported_are_mistakes(mem: PrivateMemory) -> None:
    with pytest.raises(UserMistake, match="top of a module"):
        mem.spawn(lambda host: None)
    with pytest.raises(UserMistake, match="too many to pass"):
        mem.spawn(host_programs.scribble, 0, bytes(1 << 20))
    with PrivateMemory(PAGE_SIZE, "memfd") as plain, pytest.raises(UserMistake, match="isolated=True"):
        plain.spawn(host_programs.stay)
    with pytest.raises(Unavailable, match="host side's process"):
        _ = mem.window


WARDEN = """
import host_programs, os, sys
from pagewarden.memory import PrivateMemory, PAGE_SIZE
mem = PrivateMemory(PAGE_SIZE, isolated=True)
host = mem.spawn(host_programs.stay)
print(host.receive(300).value, mem._backing._zygote.pid, flush=True)
sys.stdin.read()
"""


def gone(pid: int) -> bool:
    """Wait for the end of a process, not a child of this one."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], SOON)[0])
    finally:
        os.close(process)


@pytest.mark.parametrize("victim", ["warden", "zygote"])
def test_the_host_side_does_not_outlive_its_guard(mem: PrivateMemory, victim: str) -> None:
    del mem  # the fixture has shown that this can run at all
    with subprocess.Popen(
        [sys.executable, "-c", WARDEN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as warden:
        assert warden.stdout is not None
        host, zygote = map(int, warden.stdout.readline().split())
        os.kill({"warden": warden.pid, "zygote": zygote}[victim], signal.SIGKILL)
        assert gone(host)
        warden.kill()
    assert gone(zygote)


def test_a_host_side_that_ended_unasked_makes_room_for_the_next(mem: PrivateMemory) -> None:
    first = mem.spawn(host_programs.touch, 0)
    assert first.receive(SOON) is None
    second = mem.spawn(host_programs.peek)
    assert first.wait(SOON) == -signal.SIGBUS and seen(second, 0) is None


def test_a_new_zygote_takes_over_from_one_that_died(mem: PrivateMemory) -> None:
    host = mem.spawn(host_programs.stay)
    heard(host)
    backing = mem._backing
    assert isinstance(backing, IsolatedWindow) and backing._zygote is not None
    backing._zygote._process.kill()
    assert host.receive(SOON) is None
    with pytest.raises(Refused) as caught:
        host.wait(SOON)
    assert caught.value.errno == errno.ESRCH
    backing._zygote._process.wait()
    assert seen(mem.spawn(host_programs.peek), 0) is None


@pytest.mark.parametrize("stopped", [(0,), (1,), (0, 1)], ids=["launcher", "zygote", "both"])
def test_servants_that_are_stopped_are_replaced_after_the_patience(
    mem: PrivateMemory, stopped: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher alone is not asked; a zygote alone is ended by its launcher; both do not answer, and are killed after
    half a second here."""
    mem.spawn(host_programs.stay).kill()
    backing = mem._backing
    assert isinstance(backing, IsolatedWindow) and backing._zygote is not None
    used, launcher = backing._zygote, backing._zygote.pid
    zygote = int(Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()[0])
    for which in stopped:
        os.kill((launcher, zygote)[which], signal.SIGSTOP)
    if stopped == (0, 1):
        fork = used.fork
        monkeypatch.setattr(used, "fork", lambda request, channel, timeout: fork(request, channel, 0.5))
    assert seen(mem.spawn(host_programs.peek), 0) is None
    assert (backing._zygote is used) == (stopped == (0,))
    if backing._zygote is used:
        os.kill(launcher, signal.SIGCONT)  # it is waited for at the end
