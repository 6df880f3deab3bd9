"""Scenarios in which zygote, warden and host side are killed, in every order, at points of progress: before one of the
calls that pagewarden makes on the way (sys.setprofile), never after a time. See attacked.

z is the zygote, or by turns its launcher, w the warden, h the host side; Z and H are stopped instead.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import permutations
from types import FrameType
from typing import Any

import hostile
import pagewarden
from attack_warden import PAGES, PIECE, Verdict, Warden
from pagewarden.kernel.door import prctl
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory
from pagewarden.vocab import Refused, Unavailable
from spawn_faults import descendants, settled

PR_SET_CHILD_SUBREAPER = 36
LIBRARY = os.path.dirname(pagewarden.__file__)
POINTS = 200
PAGE = PageRange(0, 1)
STOPPED = 1.0
"""Seconds that a host side is waited for which may have been stopped; one that is only slow is killed early."""
SURVIVED = ("z", "h", "zh", "hz", "Z", "H", "Zh", "Hz")
"""Orders that the warden lives through."""
FATAL = tuple("".join(order) for n in (1, 2, 3) for order in permutations("zwh", n) if "w" in order)
NEVER = 1 << 60


class Point:
    """Does something once, before the n-th call (from 1) that pagewarden makes here; `seen` counts them."""

    def __init__(self, at: int, act: Callable[[], object]) -> None:
        self.at, self.act, self.seen = at, act, 0

    def _look(self, frame: FrameType, event: str, argument: object) -> None:
        if event in ("call", "c_call") and frame.f_code.co_filename.startswith(LIBRARY):
            self.seen += 1
            if self.seen == self.at:
                sys.setprofile(None)
                self.act()

    def __enter__(self) -> "Point":
        sys.setprofile(self._look)
        return self

    def __exit__(self, *failure: object) -> None:
        sys.setprofile(None)


def _parents() -> dict[int, int]:
    found = {}
    for name in os.listdir("/proc"):
        with suppress(OSError, ValueError), open(f"/proc/{int(name)}/stat") as line:
            state, parent = line.read().rsplit(")", 1)[1].split()[:2]
            if state not in "ZX":
                found[int(name)] = int(parent)
    return found


def servants(warden: int) -> dict[str, int]:
    """Launcher, zygote and host side of a warden, those that there are."""
    found, parent, parents = {}, warden, _parents()
    for name in ("launcher", "zygote", "h"):
        children = [pid for pid, its in parents.items() if its == parent]
        if not children:
            break
        parent = found[name] = max(children)
    return found


def strike(order: str, warden: int, turn: int) -> None:
    """Kill them, in this order; who is not there is left out."""
    there = servants(warden)
    victims = {"w": warden, "h": there.get("h"), "z": there.get(("zygote", "launcher")[turn % 2])}
    for letter in order:
        victim = victims[letter.lower()]
        if victim is not None:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGSTOP if letter.isupper() and letter != "W" else signal.SIGKILL)


def _life(warden: Warden) -> None:
    """What is done between two strikes: a start, conversions, a word, an end."""
    warden.spawn(hostile.wait_and_look, patience=3 * STOPPED)
    warden.hear(STOPPED)
    assert warden.host is not None
    for _ in range(2):
        warden.memory.unshare(PAGE)
        warden.memory.share(PAGE)
        warden.host.tell(0, timeout=STOPPED)
    warden.host.kill()
    warden.host.bury()


def _whole(warden: Warden) -> int:
    """How many calls that is."""
    with Point(NEVER, lambda: None) as all_of_it:
        _life(warden)
    return all_of_it.seen


def _strike_self(order: str, turn: int) -> None:
    strike(order, os.getpid(), turn)


def survived(first: str, step: str) -> Verdict:
    """Strikes that the warden lives through, at every `step`-th of the points from the `first` on, the orders by turns:
    the memory goes on, and is as it was."""
    warden, rounds, mark = Warden(), 0, os.urandom(PAGE_SIZE)  # on the page that is converted all the time
    warden.memory.private_write(0, mark)
    _life(warden)
    calls = _whole(warden)
    for number in range(int(first), POINTS * len(SURVIVED), int(step)):
        point, order = 1 + number // len(SURVIVED) * calls // POINTS, SURVIVED[number % len(SURVIVED)]
        act = partial(_strike_self, order, rounds)
        with suppress(Refused, Unavailable, OSError), Point(point, act):
            _life(warden)
        rounds += 1
        if warden.host is not None:
            with suppress(Refused):
                warden.host.kill()
        warden.memory.unshare(PAGE)
        warden.memory.share(PAGE)
        assert warden.intact(), (order, point)
        assert warden.memory.private_read(0, PAGE_SIZE) == mark, (order, point)
    _life(warden)
    return warden.verdict(went=0, rounds=rounds, calls=calls)


def fatal(first: str, step: str) -> Verdict:
    """Strikes that hit the warden as well: nothing of what it started is left, and nothing was seen."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    supervisor = Warden()  # its file is where the others' host sides write
    _life(supervisor)
    calls, rounds, left, unstruck = _whole(supervisor), 0, set[int](), 0
    own = descendants(os.getpid())
    for number in range(int(first), POINTS * len(FATAL), int(step)):
        point, order = 1 + number // len(FATAL) * calls // POINTS, FATAL[number % len(FATAL)]
        with _doomed(supervisor, point) as (warden, come):
            unstruck += os.read(come, 1) != b"."
            strike(order, warden, rounds)
        left |= settled(own)
        rounds += 1
    return supervisor.verdict(went=len(left), rounds=rounds, calls=calls, unstruck=unstruck)


def _wait_to_die(go: int, word: bytes) -> None:
    os.write(go, word)
    signal.pause()


@contextmanager
def _doomed(supervisor: Warden, point: int) -> Iterator[tuple[int, int]]:
    """A warden with the same secrets that comes to the point, says so, and waits there to be killed."""
    come, go = os.pipe()
    if (warden := os.fork()) == 0:
        os.close(come)
        with suppress(BaseException):
            one = Warden.__new__(Warden)
            one.memory = PrivateMemory(PAGES * PAGE_SIZE, isolated=True)
            one.memory.private_write(PAGE_SIZE, b"".join(each * (PAGE_SIZE // PIECE) for each in supervisor.secrets))
            one.memory.share(PAGE)
            one.file, one.heard, one.host = supervisor.file, [], None
            with Point(point, partial(_wait_to_die, go, b".")):
                _life(one)
        _wait_to_die(go, b"!")
    os.close(go)
    try:
        yield warden, come
    finally:
        with suppress(ProcessLookupError):
            os.kill(warden, signal.SIGKILL)
        os.waitpid(warden, 0)
        os.close(come)


SCENARIOS: dict[str, Callable[..., Any]] = {"survived": survived, "fatal": fatal}
