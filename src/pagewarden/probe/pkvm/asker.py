"""All cells: each way on a page of a protected VM in each state, and what host and guest find there afterwards.

A cell is a dictionary that JSON can hold:

    backing, state, way, direction   what was tried; since: the state in which it took hold, for a way that arms first
    step   "ok", or what the guest's step into the state came to after the way had taken hold: it is not used then
    host   "ok", or the errno, signal or hypercall result with which it was refused
    saw    what bytes the host got, null for none
    then   what a load of the host finds afterwards: bytes, a signal, or "unmapped"
    guest  what the guest's load finds after that: bytes, an errno of KVM_RUN, EREMOTEIO for an exception of its own,
           "closed" without a VM
    locked KiB that the process has locked more than before it had the page

A cell whose process ended says how in `host` and nothing else: a signal, TIMEOUT for one that was killed for its
silence, UNKILLABLE for one that not even SIGKILL ended: it never leaves the kernel.

Bytes are "host" (what the host put there before the guest had the page), "secret" (what the guest wrote last), "stale"
(what it wrote before it unshared the page), "mark" (what the way writes), "zero", or the first eight in hexadecimal.
"""

import errno
import json
import os
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NoReturn, TypeAlias

from pagewarden.kernel import door
from pagewarden.probe.paths.streams import FUTEX_SETS
from pagewarden.probe.pkvm import HANGS, guest, own
from pagewarden.probe.pkvm.stage import AGAIN, BEFORE, HOST, SECRET, Answered, PageState, VmStage, locked
from pagewarden.probe.pkvm.ways import WAYS, Way
from pagewarden.probe.registry import MARK, Attempt, Died, Direction
from pagewarden.vocab import Unavailable

assert own  # its ways are in WAYS
PageAnswer: TypeAlias = dict[str, str | int | None]
SECONDS = 10.0
"""For one cell, where nothing else is asked for."""
READY = b"\n"
"""A child's first word: its VM is made, what follows are answers."""
LOOKS = 3000
"""At a process until a cell of a way in HANGS should have been answered, or until it should have died of SIGKILL: work,
not time, which also goes by while the whole machine stands still."""
TOGETHER = 40
"""Cells of one VM: to make one costs as much as some ten of them."""
WORD = 8
MARKS = MARK[: WORD - 1], FUTEX_SETS.to_bytes(4, "little")
"""What ways write: ptrace-poke one byte less than others, futex-wake-op a word of its own."""


@dataclass(frozen=True, slots=True)
class PageTrial:
    """One cell to be asked."""

    backing: str
    way: Way
    since: PageState
    state: PageState

    @property
    def cell(self) -> PageAnswer:
        """What was asked, without an answer."""
        return {
            "backing": self.backing, "state": self.state.value, "since": self.since.value, "way": self.way.name,
            "direction": self.way.direction.value,
        }  # fmt: skip


def groups(backings: Sequence[str], ways: Sequence[str]) -> Iterator[list[PageTrial]]:
    """All trials of those backings and ways (shell patterns), as many together as one VM will do for."""
    chosen = [way for way in WAYS if any(fnmatchcase(way.name, pattern) for pattern in ways)]
    for part in [way for way in chosen if way.name not in HANGS], [way for way in chosen if way.name in HANGS]:
        for backing in backings:
            asked = [trial for way in part if backing in way.backings for trial in _trials(backing, way)]
            yield from (asked[first : first + TOGETHER] for first in range(0, len(asked), TOGETHER))


def _trials(backing: str, way: Way) -> Iterator[PageTrial]:
    yield from (PageTrial(backing, way, state, state) for state in PageState)
    if way.arms:
        yield from (PageTrial(backing, way, before, state) for state, before in BEFORE.items())


def ask(stage: VmStage, page: int, trial: PageTrial) -> PageAnswer:
    """Ask it of a fresh page; the cell. Raises what the stage raises on the way to the state."""
    before = locked()
    attempt, step = trial.way.start(stage, page), "ok"
    ended: tuple[str, bytes] | None = None
    for state in way_to(trial.state):
        try:
            stage.enter(page, state)
        except (OSError, Answered) as refused:
            if state is not trial.state or trial.since is state:
                raise
            step = _word(refused)
        if state is trial.since:
            ended = _go_on(attempt, None)
    if step == "ok":
        ended = ended or _go_on(attempt, CONTENT[trial.state][:4])
    host, seen = ended or (None, b"")
    seen = b"" if trial.way.direction is Direction.WRITE else seen
    cell = trial.cell | {"step": step, "host": host, "saw": _named(seen, trial.state) if seen else None}
    try:
        cell["then"] = _named(stage.load(stage.hva(page)), trial.state)
    except Died as death:
        cell["then"] = _word(death) if stage.mapped(page) else "unmapped"
    try:
        cell["guest"] = _named(stage.tell(guest.LOAD, stage.gpa(page)).to_bytes(WORD, "little"), trial.state)
    except OSError as error:
        cell["guest"] = "closed" if error.errno == errno.EBADF else _word(error)
    return cell | {"locked": locked() - before}


def way_to(state: PageState) -> list[PageState]:
    """The states on the way to one, itself last."""
    return [*(way_to(BEFORE[state]) if state in BEFORE else []), state]


CONTENT = {
    PageState.HOST: HOST, PageState.PRIVATE: SECRET, PageState.SHARED: SECRET, PageState.UNSHARED: AGAIN,
    PageState.POISON: bytes(WORD),
}  # fmt: skip
"""What the page holds when it is used."""


def _go_on(attempt: Attempt, hint: bytes | None) -> tuple[str, bytes] | None:
    """Arm, or use with the hint: how it ended, and the bytes seen; None while it is not at its end."""
    try:
        next(attempt) if hint is None else attempt.send(hint)
    except StopIteration as end:
        return "ok", end.value
    except (Died, Answered, OSError) as refused:
        return _word(refused), b""
    return None


def _word(refused: Died | Answered | OSError) -> str:
    """What refused, in one word."""
    if isinstance(refused, Died):
        return signal.Signals(refused.signal).name
    if isinstance(refused, Answered):
        return str(refused)
    return errno.errorcode.get(refused.errno or 0, str(refused.errno))


def _named(seen: bytes, state: PageState) -> str:
    """What bytes of a page are: see above."""
    again = state is PageState.UNSHARED
    words = {HOST: "host", SECRET: "stale" if again else "secret", bytes(WORD): "zero"}
    if again:
        words[AGAIN] = "secret"
    for word, name in words.items():
        if len(seen) >= WORD // 2 and word.startswith(seen[:WORD]):
            return name
    return "mark" if seen.startswith(MARKS) else seen[:WORD].hex()


def serve(group: Sequence[PageTrial], answers: int) -> NoReturn:
    """A child's whole life: the trials on one VM, a line of JSON for each, until one harms more than its page."""
    try:
        os.setpgid(0, 0)
        stage = VmStage(group[0].backing, len(group))
        os.write(answers, READY)
        for page, trial in enumerate(group, 1):
            os.write(answers, _line(ask(stage, page, trial)))
            if trial.way.alone or not stage.lives():
                break
    except Unavailable as lack:
        os.write(answers, _line({"lack": str(lack)}))
    except BaseException:
        os.write(answers, _line({"failed": traceback.format_exc()[-1000:]}))
    finally:
        os._exit(0)


def _line(said: PageAnswer) -> bytes:
    return json.dumps(said).encode() + b"\n"


def answers_of(group: Sequence[PageTrial], seconds: float) -> Iterator[PageAnswer]:
    """The group's cells, asked in a child, and in another when that one is no good any more, or silent for so long."""
    while group:
        done = 0
        child = _Child(group, seconds)
        for cell in child.cells():
            done += 1
            yield cell
        if done < len(group) and child.end:
            yield group[done].cell | {"step": "ok", "host": child.end, "saw": None, "then": None, "guest": None}
            done += 1
        group = group[done:]


class _Child:
    """A process at work on a group; end: what became of it, "" when it went by itself."""

    def __init__(self, group: Sequence[PageTrial], seconds: float) -> None:
        self.end, self._seconds = "", seconds
        self._may_hang = group[0].way.name in HANGS
        self._answers, answers = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            serve(group, answers)
        os.close(answers)

    def cells(self) -> Iterator[PageAnswer]:
        """What it finds, until it ends or has been silent for too long."""
        rest, silent, ready = b"", False, False
        while not silent:
            if not (
                _worked(self._answers) if ready and self._may_hang else door.readable([self._answers], self._seconds)
            ):
                silent = True
            elif part := os.read(self._answers, 1 << 16):
                *lines, rest = (rest + part).split(b"\n")
                ready = True
                yield from (json.loads(line) for line in lines if line)
            else:
                break
        self._bury(silent)

    def _bury(self, silent: bool) -> None:
        os.close(self._answers)
        watch = os.pidfd_open(self._pid)
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError):
                kill(self._pid, signal.SIGKILL)
        if not _worked(watch):
            self.end = "UNKILLABLE"
            os.setpriority(os.PRIO_PROCESS, self._pid, 19)  # out of the way of what is asked next
        else:
            status = os.waitpid(self._pid, 0)[1]
            dead = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else ""
            self.end = "TIMEOUT" if silent else dead
        os.close(watch)


def _worked(fd: int) -> bool:
    """Whether the descriptor can be read before so much work is done."""
    return any(door.readable([fd], 0) for _ in range(LOOKS))
