"""Many trials, each in a child process of its own: a child that crashes or hangs is a result, never an accident."""

import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

import msgspec

from pagewarden.kernel import door
from pagewarden.probe import raw
from pagewarden.probe.registry import Died, Path
from pagewarden.probe.trial import Evidence, Stage, State, TimedOut, Trial, TrialResult, TrialVerdict
from pagewarden.vocab import InternalError, Unavailable
from pagewarden.vocab.host import is_short

PR_SET_PDEATHSIG = 1
SECONDS = 30.0
"""Until a trial that hangs is killed."""
FAULTS = (signal.SIGBUS, signal.SIGSEGV)

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class TrialCase(Generic[Key]):
    """What to try on a memory; key is the caller's."""

    key: Key
    path: Path
    state: State


@dataclass(frozen=True, slots=True)
class ChildJob(Generic[Key]):
    """Trials for one child, one after the other on one memory: `open` makes it there, of so many bytes (as the first
    case asks). Several cases are for a stage that outlives the host side on it."""

    open: Callable[[int], Stage]
    cases: Sequence[TrialCase[Key]]


class ChildAnswer(msgspec.Struct):
    """A child's word on one case; failed: the words of an error of the trial itself."""

    verdict: TrialVerdict | None = None
    failed: str = ""


def run_all(
    jobs: Sequence[ChildJob[Key]], at_once: int = 6, seconds: float = SECONDS
) -> Iterator[tuple[Key, TrialVerdict]]:
    """Every case's verdict, in the order of completion. at_once: children at a time (they sleep more than they work);
    seconds: how long one case may take until its child is killed.

    What a child leaves undone when it dies another one does. What a path requires is asked once, here. Raises
    InternalError when a trial itself failed, rather than its path.
    """
    lacks = {requires: lack_of(requires) for requires in {case.path.requires for job in jobs for case in job.cases}}
    for job in jobs:
        yield from ((case.key, lack) for case in job.cases if (lack := lacks[case.path.requires]) is not None)
    possible = [ChildJob(job.open, [case for case in job.cases if lacks[case.path.requires] is None]) for job in jobs]
    yield from _run_all([job for job in reversed(possible) if job.cases], at_once, seconds)


def lack_of(requires: Callable[[], None]) -> TrialVerdict | None:
    """What every trial of a path comes to whose requirement is not met; None when it is. Asked in a child, for asking
    may leave traces: soon after an io_uring is closed KVM_CREATE_VM may be interrupted (seen on Linux 6.18)."""

    def reason() -> bytes:
        try:
            requires()
        except (Unavailable, OSError) as lack:
            return str(lack).encode()
        return b""

    try:
        lack = raw.elsewhere(reason).decode()
    except Died as death:
        lack = f"what it requires was asked for, and the process that asked was {death}"
    return TrialVerdict(TrialResult.UNTRIED, reason=lack) if lack else None


def _run_all(waiting: list[ChildJob[Key]], at_once: int, seconds: float) -> Iterator[tuple[Key, TrialVerdict]]:
    running = dict[int, _Child[Key]]()
    poll = select.poll()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                child = _Child(waiting.pop(), seconds)
                running[child.watch] = child
                poll.register(child.watch, select.POLLIN)
            first = min(running.values(), key=lambda child: child.deadline)
            patience = max(0.0, first.deadline - time.monotonic())
            for watch, _ in poll.poll(patience * 1000) or [(first.watch, 0)]:
                poll.unregister(watch)
                child = running.pop(watch)
                verdicts = child.verdicts()
                yield from zip((case.key for case in child.job.cases), verdicts, strict=False)
                if rest := child.job.cases[len(verdicts) :]:
                    waiting.append(ChildJob(child.job.open, rest))
    finally:
        for child in running.values():
            child.verdicts()


class _Child(Generic[Key]):
    """A forked process, the leader of its own group, at work on one job."""

    def __init__(self, job: ChildJob[Key], seconds: float) -> None:
        self.job, self._seconds = job, seconds
        self.deadline = time.monotonic() + seconds * len(job.cases)
        self._answers, answers = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _serve(job, answers)
        os.close(answers)
        self.watch = os.pidfd_open(self._pid)

    def verdicts(self) -> list[TrialVerdict]:
        """End the child with all of its helpers and say what it found, for its first cases at least one."""
        ended = bool(door.readable([self.watch], 0))
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError):
                kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        os.set_blocking(self._answers, False)
        lines = _drain(self._answers).splitlines()
        os.close(self._answers)
        os.close(self.watch)
        found = [self._read(case, line) for case, line in zip(self.job.cases, lines, strict=False)]
        if len(found) < len(self.job.cases):
            code = os.waitstatus_to_exitcode(status)
            how = signal.Signals(-code).name if code < 0 else f"EXIT {code}"
            silent = f"no answer in {self._seconds:g} s; a busy machine may need more (--timeout)"
            refused = TrialVerdict(TrialResult.REFUSED, how)
            found.append(refused if ended else TrialVerdict(TrialResult.TIMEOUT, reason=silent))
        return found

    def _read(self, case: TrialCase[Key], line: bytes) -> TrialVerdict:
        answer = msgspec.json.decode(line, type=ChildAnswer)
        if answer.verdict is None:
            raise InternalError(f"the trial of {case.path.name} ({case.state}) failed:\n{answer.failed}")
        return answer.verdict


def _drain(fd: int) -> bytes:
    """What is in a pipe, whoever may still hold its other end."""
    content = b""
    with suppress(BlockingIOError):
        while part := os.read(fd, 1 << 16):
            content += part
    return content


def _serve(job: ChildJob[Any], answers: int) -> NoReturn:
    """The child's whole life."""
    done = 0
    try:
        os.setpgid(0, 0)
        door.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        stage: Stage | Unavailable
        try:
            stage = job.open(job.cases[0].path.size)
        except Unavailable as lack:
            stage = lack
        for case in job.cases:
            _send(answers, ChildAnswer(_run(stage, case, answers)))
            done += 1
    except Exception as error:
        short = is_short(error)
        answer = (
            ChildAnswer(TrialVerdict(TrialResult.UNTRIED, reason=short))
            if short
            else ChildAnswer(failed=traceback.format_exc())
        )
        for _ in job.cases[done:]:
            _send(answers, answer)
    except BaseException:
        _send(answers, ChildAnswer(failed=traceback.format_exc()))
    finally:
        os._exit(0)


def _run(stage: Stage | Unavailable, case: TrialCase[Any], answers: int) -> TrialVerdict:
    try:
        if isinstance(stage, Unavailable):
            raise stage
        trial = Trial(stage, case.path, case.state)
        with_handler(
            lambda number: _send(answers, ChildAnswer(trial.judge(Evidence(error=signal.Signals(number).name))))
        )
        return trial.run()
    except Unavailable as lack:
        return TrialVerdict(TrialResult.UNTRIED, reason=str(lack))
    except TimedOut as silence:
        return TrialVerdict(TrialResult.TIMEOUT, reason=str(silence))


def with_handler(report: Callable[[int], None]) -> None:
    """Report a fault of this process and end it: the warden may live here too, and must still look at its page.

    A C handler, for Python's own would return to the faulting load. Faults happen inside foreign calls, so the
    interpreter is at rest when the handler enters it again.
    """

    def on_fault(number: int) -> None:
        report(number)
        os._exit(0)

    _KEPT.extend(door.at_signal(number, on_fault) for number in FAULTS)


_KEPT: list[object] = []
"""Handlers that C still points to."""


def _send(answers: int, answer: ChildAnswer) -> None:
    os.write(answers, msgspec.json.encode(answer) + b"\n")
