"""The judgement of a trial, and what becomes of a child that crashes, hangs or fails."""

import os
import signal
import time
from typing import NoReturn

import pytest

from pagewarden.probe.catalogue import PATHS
from pagewarden.probe.registry import Attempt, Direction, Path, Target, anywhere, no_descriptors
from pagewarden.probe.runner import ChildJob, TrialCase, run_all
from pagewarden.probe.trial import BEFORE, Evidence, State, TimedOut, Trial, TrialResult, TrialVerdict, shows
from pagewarden.vocab import PAGE_SIZE, InternalError, Refused, Unavailable
from standin import Plain
from waits import SOON

CANARY = bytes(range(32))
LOAD = PATHS["load", Direction.READ]
STORE = PATHS["store", Direction.WRITE]


class Paper:
    """A stage on which the host side does what the test says."""

    def __init__(self, seen: bytes | None = None, tear: bool = False, error: str | None = None) -> None:
        self.seen, self.tear, self.error = seen, tear, error
        self.bytes, self.calls = b"", list[str]()

    def reset(self) -> None:
        self.calls.append("reset")

    def share(self) -> None:
        self.calls.append("share")

    def unshare(self) -> None:
        self.calls.append("unshare")

    def put(self, data: bytes) -> None:
        self.bytes = data
        self.calls.append("canary")

    def page(self) -> bytes:
        return bytes(PAGE_SIZE) if self.tear else self.bytes

    def arm(self, path: Path) -> Evidence | None:
        self.calls.append("arm")
        return None

    def use(self, hint: bytes) -> Evidence:
        self.calls.append("use")
        assert self.bytes.startswith(hint)
        return Evidence(self.bytes[:64] if self.seen is None else self.seen, self.error)


@pytest.mark.parametrize(
    ("state", "steps"),
    [
        (State.PRIVATE, "reset arm canary use"),
        (State.SHARED, "reset share arm canary use"),
        (State.AGAIN, "reset share arm unshare canary use"),
    ],
)
def test_the_canary_comes_after_the_last_conversion(state: State, steps: str) -> None:
    stage = Paper()
    Trial(stage, LOAD, state).run()
    assert stage.calls == steps.split()


@pytest.mark.parametrize(
    ("path", "state", "stage", "expected"),
    [
        (LOAD, State.PRIVATE, Paper(), TrialVerdict(TrialResult.LEAK, touched=True)),
        (LOAD, State.AGAIN, Paper(), TrialVerdict(TrialResult.LEAK, touched=True)),
        (LOAD, State.SHARED, Paper(), TrialVerdict(TrialResult.ALLOWED, touched=True)),
        (LOAD, State.PRIVATE, Paper(seen=BEFORE), TrialVerdict(TrialResult.ALLOWED)),
        (LOAD, State.PRIVATE, Paper(seen=b"", error="EFAULT"), TrialVerdict(TrialResult.REFUSED, "EFAULT")),
        (LOAD, State.PRIVATE, Paper(error="EFAULT"), TrialVerdict(TrialResult.LEAK, "EFAULT", touched=True)),
        (LOAD, State.SHARED, Paper(tear=True), TrialVerdict(TrialResult.TORN, touched=True)),
        (STORE, State.SHARED, Paper(seen=b"", tear=True), TrialVerdict(TrialResult.ALLOWED, touched=True)),
        (STORE, State.AGAIN, Paper(seen=b"", tear=True), TrialVerdict(TrialResult.TORN, touched=True)),
        (STORE, State.AGAIN, Paper(seen=b""), TrialVerdict(TrialResult.ALLOWED)),
    ],
)
def test_judgement(path: Path, state: State, stage: Paper, expected: TrialVerdict) -> None:
    assert Trial(stage, path, state).run() == expected


@pytest.mark.parametrize("error", ["ENOSPC", "EMFILE", "ENOSYS"])
def test_a_host_that_is_short_has_no_answer_and_a_leak_is_one_all_the_same(error: str) -> None:
    found = Trial(Paper(seen=b"", error=error), LOAD, State.SHARED).run()
    assert found.result is TrialResult.UNTRIED and str(found.reason).startswith(f"{error}: ")
    assert Trial(Paper(error=error), LOAD, State.PRIVATE).run().result is TrialResult.LEAK


def test_the_canary_is_recognised_whole_or_by_its_first_word() -> None:
    assert shows(b"..." + CANARY, CANARY) and shows(CANARY[:4], CANARY)
    assert not shows(CANARY[:3], CANARY) and not shows(b"", CANARY) and not shows(CANARY[1:], CANARY)
    assert not shows(b"anything", b"")


def test_a_refused_unshare_is_a_refusal_and_no_canary_is_risked() -> None:
    class Stuck(Paper):
        def unshare(self) -> None:
            raise Refused(11, "pinned", 0)

    stage = Stuck()
    assert Trial(stage, LOAD, State.AGAIN).run() == TrialVerdict(TrialResult.REFUSED, "EAGAIN")
    assert "canary" not in stage.calls


def made(act: object) -> Path:
    """A path that does what a test wants, outside the registry."""

    def start(target: Target) -> Attempt:
        yield
        assert callable(act)
        act()
        return b""

    return Path(
        "made", Direction.READ, "made", start, anywhere, no_descriptors, False, (), None, __name__, 2 * PAGE_SIZE
    )


def verdict_of(path: Path, seconds: float = SOON) -> TrialVerdict:
    return dict(run_all([ChildJob(Plain, [TrialCase("it", path, State.SHARED)])], seconds=seconds))["it"]


def test_a_child_that_is_killed_is_a_refusal_by_that_signal() -> None:
    assert verdict_of(made(lambda: os.kill(os.getpid(), signal.SIGSYS))) == TrialVerdict(TrialResult.REFUSED, "SIGSYS")


def test_a_child_that_hangs_is_killed_with_its_helpers() -> None:
    receive, transmit = os.pipe()

    def hang() -> None:
        if os.fork() == 0:
            time.sleep(600)
        time.sleep(600)

    verdict = verdict_of(made(hang), seconds=0.3)
    assert verdict.result is TrialResult.TIMEOUT and "0.3 s" in str(verdict.reason)
    os.close(transmit)
    assert os.read(receive, 1) == b""  # nobody is left who holds the other end
    os.close(receive)


def test_a_fault_in_the_child_still_has_its_page_looked_at() -> None:
    def tear_and_fault(target: Target) -> Attempt:
        yield
        STORE_AND_LOAD(target)
        return b""

    def STORE_AND_LOAD(target: Target) -> None:
        for path, address in ((STORE, target.address), (LOAD, 8)):
            attempt = path.start(Target(address, target.host, target.warden))
            next(attempt)
            next(attempt, None)

    path = Path(
        "made",
        Direction.READ,
        "made",
        tear_and_fault,
        anywhere,
        no_descriptors,
        False,
        (),
        None,
        __name__,
        2 * PAGE_SIZE,
    )
    assert verdict_of(path) == TrialVerdict(TrialResult.TORN, "SIGSEGV", touched=True)


def test_a_path_that_cannot_run_here_says_why() -> None:
    def lacking() -> NoReturn:
        raise Unavailable("no such thing", "get one")

    path = Path(
        "made", Direction.READ, "made", LOAD.start, lacking, no_descriptors, False, (), None, __name__, 2 * PAGE_SIZE
    )
    assert verdict_of(path) == TrialVerdict(TrialResult.UNTRIED, reason="no such thing; get one")


def test_what_a_dying_child_leaves_undone_is_done_by_another() -> None:
    class Lasting(Paper):
        def __init__(self, size: int) -> None:
            super().__init__(seen=b"", error="EFAULT")

        def use(self, hint: bytes) -> Evidence:
            if self.calls.count("use") == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().use(hint)

    cases = [TrialCase(number, LOAD, State.PRIVATE) for number in range(4)]
    verdicts = dict(run_all([ChildJob(Lasting, cases)]))
    assert [verdicts[number].error for number in range(4)] == ["EFAULT", "SIGKILL", "EFAULT", "SIGKILL"]


def test_a_failing_trial_is_a_bug_and_not_a_result() -> None:
    with pytest.raises(InternalError, match="ZeroDivisionError"):
        verdict_of(made(lambda: 1 // 0))


def test_a_requirement_that_fails_in_any_way_is_a_reason_and_not_the_end() -> None:
    def refused() -> NoReturn:
        raise OSError(19, "No such device")

    def killed() -> None:
        os.kill(os.getpid(), signal.SIGBUS)

    for requires, reason in ((refused, "No such device"), (killed, "killed by signal")):
        path = Path(
            "made",
            Direction.READ,
            "made",
            LOAD.start,
            requires,
            no_descriptors,
            False,
            (),
            None,
            __name__,
            2 * PAGE_SIZE,
        )
        verdict = verdict_of(path)
        assert verdict.result is TrialResult.UNTRIED and reason in str(verdict.reason)


def test_a_host_side_without_a_word_in_time_is_no_answer() -> None:
    class Silent(Paper):
        def __init__(self, size: int) -> None:
            super().__init__()

        def use(self, hint: bytes) -> Evidence:
            raise TimedOut("no word")

    assert dict(run_all([ChildJob(Silent, [TrialCase("it", LOAD, State.PRIVATE)])]))["it"] == TrialVerdict(
        TrialResult.TIMEOUT, reason="no word"
    )
