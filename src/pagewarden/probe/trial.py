"""One trial: a fresh memory, one page of it in one state, one path; and the judgement of what came of it."""

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import StrEnum
from errno import EDQUOT, EFBIG, EMFILE, ENFILE, ENOSPC, ENOSYS, errorcode
from signal import Signals
from typing import Protocol

from pagewarden.probe.registry import SAMPLE, Attempt, Died, Direction, Path, Target
from pagewarden.vocab import PAGE_SIZE, Refused
from pagewarden.vocab.host import REMEDIES

CANARY_BYTES = 32
BEFORE = b"\x5a" * PAGE_SIZE
"""What every page of a stage holds at first, and the page on trial until its last conversion: no secret."""


class State(StrEnum):
    """How the page came to be as it is when the path is used; an armed path takes hold before the last step."""

    PRIVATE = "private"  # never shared
    SHARED = "shared"
    AGAIN = "again-private"  # shared, touched by the host, then unshared


class TrialResult(StrEnum):
    """How a trial ended."""

    REFUSED = "refused"
    ALLOWED = "allowed"
    LEAK = "LEAK"  # the canary was seen while private
    TORN = "TORN"  # bytes were changed or lost that the host had no business with
    HANG = "HANG"  # the process never left the kernel, and no signal ended it
    UNTRIED = "UNTRIED"  # this machine cannot run the path or the backing
    TIMEOUT = "TIMEOUT"  # no answer in time, so nothing is known


HARM = frozenset({TrialResult.LEAK, TrialResult.TORN, TrialResult.HANG})
"""Results that no kernel should give."""
OPEN = frozenset({TrialResult.UNTRIED, TrialResult.TIMEOUT})
"""Results that answer nothing: they are counted apart, and agree or disagree with nothing."""


class TimedOut(Exception):
    """The host side had no word in time."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the host side got: bytes, or the errno or signal name of the refusal."""

    seen: bytes = b""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TrialVerdict:
    """The result of a trial; error: errno or signal name, reason: why there is none (OPEN); touched: the page was."""

    result: TrialResult
    error: str | None = None
    touched: bool = False
    reason: str | None = None


class Stage(Protocol):
    """A memory full of BEFORE, its middle page on trial: the warden's side, with the host side at its command."""

    def reset(self) -> None:
        """As it was at first: the page on trial private, all of them BEFORE."""

    def share(self) -> None: ...
    def unshare(self) -> None: ...
    def put(self, data: bytes) -> None:
        """The guest writes the whole page (by the private side)."""

    def page(self) -> bytes:
        """The page as the guest sees it."""

    def arm(self, path: Path) -> Evidence | None:
        """The host side begins the attempt; evidence when that was refused already."""

    def use(self, hint: bytes) -> Evidence:
        """The host side goes on with it."""


class Hand:
    """The host side at work on one attempt, in the process that holds the window."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._attempt: Attempt | None = None

    def arm(self, path: Path) -> Evidence | None:
        self._attempt = path.start(self.target)
        return self._advance(None)

    def use(self, hint: bytes) -> Evidence:
        return self._advance(hint) or Evidence(error="EPROTO")

    def _advance(self, hint: bytes | None) -> Evidence | None:
        assert self._attempt is not None
        try:
            next(self._attempt) if hint is None else self._attempt.send(hint)
        except StopIteration as end:
            return Evidence(seen=end.value[:SAMPLE])
        except OSError as error:
            return Evidence(error=errorcode.get(error.errno or 0, str(error.errno)))
        except Died as death:
            return Evidence(error=Signals(death.signal).name)
        return None


@dataclass(slots=True)
class Trial:
    """A path tried on a stage; `evidence` may also come from outside, when the host side is killed on the way."""

    stage: Stage
    path: Path
    state: State
    canary: bytes = b""

    def run(self) -> TrialVerdict:
        """Set the page up, let the host side try, judge. Raises what the stage raises, except a refused unshare."""
        self.stage.reset()
        if self.state is not State.PRIVATE:
            self.stage.share()
        refused = self.stage.arm(self.path)
        if refused is None and self.state is State.AGAIN:
            try:
                self.stage.unshare()
            except (Refused, OSError) as refusal:  # the page stays shared: the guest is told, nothing leaks
                refused = Evidence(error=errorcode.get(refusal.errno or 0))
        if refused is not None:
            return _refusal(refused.error, False)
        self.canary = os.urandom(CANARY_BYTES)
        self.stage.put(self.canary * (PAGE_SIZE // CANARY_BYTES))
        return self.judge(self.stage.use(self.canary[:4]))

    def judge(self, evidence: Evidence) -> TrialVerdict:
        """What the evidence and the page's bytes amount to."""
        seen = shows(evidence.seen, self.canary)
        intact = self.stage.page() == self.canary * (PAGE_SIZE // CANARY_BYTES)
        private = self.state is not State.SHARED
        if not intact and (private or self.path.direction is Direction.READ):
            return TrialVerdict(TrialResult.TORN, evidence.error, True)
        if seen and private:
            return TrialVerdict(TrialResult.LEAK, evidence.error, True)
        if evidence.error is None:
            return TrialVerdict(TrialResult.ALLOWED, None, seen or not intact)
        return _refusal(evidence.error, seen or not intact)


def _refusal(error: str | None, touched: bool) -> TrialVerdict:
    """What an error amounts to that is no leak: of the page, or of the host, which is short of something else."""
    if error in _SHORT and not touched:
        return TrialVerdict(TrialResult.UNTRIED, reason=f"{error}: {REMEDIES[_SHORT[error]]}")
    return TrialVerdict(TrialResult.REFUSED, error, touched)


_SHORT = {errorcode[each]: each for each in (ENOSPC, EDQUOT, EFBIG, EMFILE, ENFILE, ENOSYS)}


def shows(seen: bytes, canary: bytes) -> bool:
    """Whether bytes that the host got hold the canary, or the first word of it."""
    return bool(canary) and (canary in seen or (len(seen) >= 4 and canary.startswith(seen)))


class Cooperating:
    """The host side of a stage whose warden is the same process: a path acts right here."""

    def __init__(self, address: int) -> None:
        self._target, self._opened = Target(address, os.getpid(), os.getpid()), ExitStack()
        self._hand: Hand | None = None

    def reset(self) -> None:
        """It is for one trial, and new."""

    def arm(self, path: Path) -> Evidence | None:
        self._hand = Hand(replace(self._target, fds=path.opens(self._opened)))
        return self._hand.arm(path)

    def use(self, hint: bytes) -> Evidence:
        assert self._hand is not None
        return self._hand.use(hint)
