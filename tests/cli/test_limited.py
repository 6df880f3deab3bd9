"""A verb that is ended by others for want of memory says so; what is sent to it arrives."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pagewarden.cli import limited
from pagewarden.vocab import Unavailable
from pagewarden.vocab.places import core_directory
from waits import SOON

SCORE = Path("/proc/self/oom_score_adj")


@pytest.fixture(autouse=True)
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited, "available", lambda: 64 << 20)


def kill_oneself() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


@pytest.mark.parametrize(("end", "how"), [(lambda: os._exit(1), "status 1"), (kill_oneself, "signal 9")])
def test_an_end_without_a_word_is_no_answer(end: Callable[[], int], how: str) -> None:
    with pytest.raises(Unavailable, match=f"{how}.: it got no memory; see ulimit"):
        limited.watched(end)


def test_a_core_of_what_was_killed_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold a guest's memory. What is alive keeps its own, and what is no such directory is left alone."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    alive, other = core_directory(os.getpid()), tmp_path / "pagewarden-core-of-mine"
    alive.mkdir()
    other.mkdir()
    core_directory(1 << 30).symlink_to(alive)
    (alive / "core").touch()

    def killed() -> int:
        (mine := core_directory(os.getpid())).mkdir(0o700)
        (mine / "core").write_bytes(b"secret")
        return kill_oneself()

    with pytest.raises(Unavailable):
        limited.watched(killed)
    assert set(tmp_path.iterdir()) == {alive, other, core_directory(1 << 30)} and (alive / "core").exists()


def test_a_status_is_handed_on_by_a_child_that_the_kernel_takes_first() -> None:
    parent, score = os.getpid(), SCORE.read_text()
    assert limited.watched(lambda: 7 if os.getpid() != parent else 0) == 7
    assert limited.watched(lambda: int(SCORE.read_text()) // 100) == 10
    assert SCORE.read_text() == score


ENDS_WELL = """
import os, signal
from pagewarden.cli import limited

def ends_well():
    got = []
    signal.signal(signal.SIGTERM, lambda number, _: got.append(number))
    os.kill(os.getppid(), signal.SIGTERM)
    while not got:
        signal.pause()
    return got[0]

limited.available = lambda: 0
raise SystemExit(limited.watched(ends_well))
"""


def test_what_ends_the_parent_ends_the_verb_in_its_own_way() -> None:
    """In a process of one thread, as the command is: no other thread takes the signal."""
    ended = subprocess.run([sys.executable, "-c", ENDS_WELL], capture_output=True, text=True, timeout=SOON, check=False)
    assert ended.returncode == signal.SIGTERM, ended.stderr


def test_with_much_memory_nothing_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited, "available", lambda: 1 << 40)
    assert limited.watched(os.getpid) == os.getpid()


def test_without_another_process_it_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> int:
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(os, "fork", none)
    assert limited.watched(os.getpid) == os.getpid()
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
