"""Many trials, each in a child process of its own: a child that crashes or hangs is a result, never an accident."""

import ctypes
import json
import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

from pagewarden.live import kernel
from pagewarden.live.paths.registry import Path
from pagewarden.live.paths.trial import Evidence, Result, Stage, State, Trial, Verdict
from pagewarden.vocab import InternalError, Unavailable

PR_SET_PDEATHSIG = 1
FAULTS = (signal.SIGBUS, signal.SIGSEGV)
_signal = ctypes.CDLL(None).signal
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int)

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Job(Generic[Key]):
    """A trial to be run: how to open a memory of so many bytes (in the child), what to try on it; key: the caller's."""

    key: Key
    open: Callable[[int], Stage]
    path: Path
    state: State


def run_all(jobs: Sequence[Job[Key]], at_once: int = 2, seconds: float = 5.0) -> Iterator[tuple[Key, Verdict]]:
    """Every job's verdict, in the order of completion. seconds: how long one may take until it is killed.

    Raises InternalError when a trial itself failed, rather than its path.
    """
    waiting, running = list(reversed(jobs)), dict[int, "_Child[Key]"]()
    poll = select.poll()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                child = _Child(waiting.pop(), seconds)
                running[child.watch] = child
                poll.register(child.watch, select.POLLIN)
            oldest = next(iter(running.values()))
            patience = max(0.0, oldest.deadline - time.monotonic())
            for watch, _ in poll.poll(patience * 1000) or [(oldest.watch, 0)]:
                poll.unregister(watch)
                child = running.pop(watch)
                yield child.job.key, child.verdict()
    finally:
        for child in running.values():
            child.verdict()


class _Child(Generic[Key]):
    """A forked process, the leader of its own group, at work on one trial."""

    def __init__(self, job: Job[Key], seconds: float) -> None:
        self.job = job
        self.deadline = time.monotonic() + seconds
        self._answer, answer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _serve(job, answer)
        os.close(answer)
        self.watch = os.pidfd_open(self._pid)

    def verdict(self) -> Verdict:
        """End the child with all of its helpers and say what it found."""
        ended = bool(select.select([self.watch], [], [], 0)[0])
        for kill in (os.killpg, os.kill):
            try:
                kill(self._pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        _, status = os.waitpid(self._pid, 0)
        os.set_blocking(self._answer, False)
        try:
            answer = os.read(self._answer, 1 << 16)
        except BlockingIOError:
            answer = b""
        os.close(self._answer)
        os.close(self.watch)
        return self._read(answer, ended, status)

    def _read(self, answer: bytes, ended: bool, status: int) -> Verdict:
        if not ended:
            return Verdict(Result.REFUSED, "TIMEOUT")
        if not answer:
            name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"EXIT {status >> 8}"
            return Verdict(Result.REFUSED, name)
        fields = json.loads(answer)
        if "failed" in fields:
            raise InternalError(f"the trial of {self.job.path.name} ({self.job.state}) failed:\n{fields['failed']}")
        return Verdict(Result(fields["result"]), fields["error"], fields["touched"], fields["reason"])


def _serve(job: Job[Any], answer: int) -> NoReturn:
    """The child's whole life."""
    try:
        os.setpgid(0, 0)
        kernel.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        _send(answer, _run(job, answer))
    except BaseException:
        os.write(answer, json.dumps({"failed": traceback.format_exc()}).encode())
    finally:
        os._exit(0)


def _run(job: Job[Any], answer: int) -> Verdict:
    try:
        job.path.requires()
        trial = Trial(job.open(job.path.size), job.path, job.state)
        with_handler(lambda number: _send(answer, trial.judge(Evidence(error=signal.Signals(number).name))))
        return trial.run()
    except Unavailable as lack:
        return Verdict(Result.UNAVAILABLE, reason=str(lack))


def with_handler(report: Callable[[int], None]) -> None:
    """Report a fault of this process and end it: the warden lives here too, and must still look at its page.

    A C handler, for Python's own would return to the faulting load. Faults happen inside foreign calls, so the
    interpreter is at rest when the handler enters it again.
    """

    def on_fault(number: int) -> None:
        report(number)
        os._exit(0)

    handler = _Handler(on_fault)
    _KEPT.append(handler)
    for number in FAULTS:
        _signal(number, handler)


_KEPT: list[object] = []
"""Handlers that C still points to."""


def _send(answer: int, verdict: Verdict) -> None:
    fields = {"result": verdict.result, "error": verdict.error, "touched": verdict.touched, "reason": verdict.reason}
    os.write(answer, json.dumps(fields).encode())
