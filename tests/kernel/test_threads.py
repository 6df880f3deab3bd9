"""Threads that have begun, or an error."""

import _thread
import resource
import threading

import pytest

from pagewarden.kernel.threads import beside
from pagewarden.vocab import Unavailable


def test_a_thread_has_begun_and_is_waited_for() -> None:
    go, seen = threading.Event(), list[str]()

    def work() -> None:
        go.wait()
        seen.append("done")

    wait = beside(work)
    assert not seen
    go.set()
    wait()
    assert seen == ["done"]


def test_the_end_is_told_whatever_the_work_raises(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise SystemExit

    beside(work)()
    assert not capfd.readouterr().err


def test_a_thread_that_dies_before_its_first_step_is_an_error_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As where there is memory for its stack and none for its first frame: threading.Thread.start waits for ever."""
    start = _thread.start_new_thread

    def short(*given: object) -> None:
        raise MemoryError

    monkeypatch.setattr(_thread, "start_new_thread", lambda work, given: start(short, given))
    with pytest.raises(Unavailable, match=r"no thread can be started; .*pids\.max"):
        beside(lambda: None)
    assert not capfd.readouterr().err


def test_a_thread_that_cannot_be_made_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address space for its stack."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 20, before[1]))
    size = threading.stack_size(64 << 20)
    try:
        with pytest.raises(Unavailable, match="no thread can be started"):
            beside(lambda: None)
    finally:
        threading.stack_size(size)
        resource.setrlimit(resource.RLIMIT_AS, before)
