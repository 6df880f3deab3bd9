"""An errno or an exception at every call of making an isolated memory, of starting a host side, of killing it, of
closing: nothing open that is called private, no byte lost, no process and no descriptor left; the memory goes on.
"""

import gc
import os
from collections.abc import Callable, Iterator
from itertools import combinations
from random import Random

import pytest

import host_programs
from injector import Struck
from isolated_kit import kept
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, Refused, Unavailable
from pagewarden.memory.isolated import process
from pagewarden.memory.isolated.process import HostProcess
from spawn_faults import ERRNOS, Choose, Counted, descendants, descriptors, every_call, settled

PAGES = 3
PAYLOAD = b"".join(bytes([65 + page]) * PAGE_SIZE for page in range(PAGES))
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""What an exception has cut off is closed when it is collected, and says so."""
ACTS = ["make", "spawn", "kill", "close"]
MOST = max(map(len, ERRNOS.values()))
LONG = os.environ.get("PAGEWARDEN_LONG") == "1"


class Trial:
    """One memory from its start to its end, one act of that under fault."""

    def __init__(self, act: str, keeper: "Keeper | None") -> None:
        self.kept = keeper.ready() if keeper is not None else descendants(os.getpid())  # of other tests
        self.act, self.before = act, descriptors()
        self.guards = guards()
        self.memory: PrivateMemory | None = None
        self.host: HostProcess | None = None
        self.error: BaseException | None = None
        for each in ACTS[: ACTS.index(act)]:
            self._do(each)

    def _do(self, act: str) -> None:
        if act == "make":
            self.memory = PrivateMemory(PAGES * PAGE_SIZE, isolated=True)
            self.memory.populate(0, PAYLOAD)
            self.memory.share(PageRange(1, 2))
            return
        assert self.memory is not None
        if act == "spawn":
            self.host = self.memory.spawn(host_programs.stay)
        elif act == "kill":
            assert self.host is not None
            self.host.kill()
        else:
            self.memory.close()

    def run(self, counted: Counted) -> None:
        with every_call(counted):
            try:
                self._do(self.act)
            except (Refused, Unavailable, Struck) as error:  # and nothing else: no bare OSError, no ValueError
                self.error = error.with_traceback(None)
                self.error.__cause__ = self.error.__context__ = None
        self.struck = counted.struck

    def judge(self, where: str) -> None:
        """What is there afterwards; and all that came before still works."""
        try:
            self._judge(where)
        finally:  # a guard that was kept from its close guards nothing any more, but other tests would find it
            for fd in guards() - self.guards:
                os.close(fd)

    def _judge(self, where: str) -> None:
        mem = self.memory
        if mem is not None and self.act != "close":
            if self.host is None:
                left = settled(self.kept | _servants(mem))
                assert not left, f"{where}: left running {left}"
                self.host = mem.spawn(host_programs.stay)
            if not self.host.dead:
                assert _open(self.host) <= {1}, where
            mem.share(PageRange(0, 1))
            mem.unshare(PageRange(0, PAGES))
            assert not _open(self.host), where
            assert mem.private_read(0, mem.size) == PAYLOAD, where
        if mem is not None:
            mem.close()
        left = settled(self.kept)
        assert not left, f"{where}: left running {left}"
        assert not process._undead, where
        if not self.kept <= descendants(os.getpid()):  # the fault has ended the keeper's processes, too
            return
        if isinstance(self.error, Struck) and self.struck.strip() == "close":
            return  # nobody closes what close was kept from
        if descriptors() != self.before:
            gc.collect()
        assert descriptors() == self.before, where


def guards() -> set[int]:
    """The numbers of this process's userfaultfds."""
    return {int(name) for name in os.listdir("/proc/self/fd") if "userfaultfd" in _link(name)}


def _link(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        return ""


def _servants(mem: PrivateMemory) -> set[int]:
    """The launcher and the zygote of this memory, if it has them."""
    used = mem._backing._zygote  # type: ignore[attr-defined]  # an isolated one
    if used is None or used.dead:
        return set()
    return {used.pid} | {pid for pid in descendants(used.pid) if _parent(pid) == used.pid}


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as line:
            return int(line.read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return -1


def _open(host: HostProcess) -> set[int]:
    """Which pages the host side's page table has."""
    try:
        with open(f"/proc/{host.pid}/pagemap", "rb") as file:
            file.seek(host.address // PAGE_SIZE * 8)
            entries = file.read(8 * PAGES)
    except OSError:
        return set()
    return {at // 8 for at in range(0, len(entries), 8) if int.from_bytes(entries[at : at + 8], "little") >> 63}


class Keeper:
    """Another isolated memory with a host side: the zygote is not this trial's alone. A fault may end it: made anew."""

    def __init__(self) -> None:
        self._memory: PrivateMemory | None = None
        self._host: HostProcess | None = None

    def ready(self) -> set[int]:
        """The processes that are there anyway."""
        if self._host is None or self._host.dead:
            self.close()
            self._memory = PrivateMemory(PAGE_SIZE, isolated=True)
            self._host = self._memory.spawn(host_programs.stay)
        return descendants(os.getpid())

    def close(self) -> None:
        if self._memory is not None:
            self._memory.close()
        self._memory = self._host = None


@pytest.fixture(scope="module")
def keeper() -> Iterator[Keeper]:
    yield from kept(Keeper())


def every(act: str, keeper: Keeper | None, choose: Callable[[int], Choose], after: bool = False) -> int:
    """A trial for every call of the act; how many were struck."""
    fatal = struck = 0
    while True:
        fatal += 1
        trial, counted = Trial(act, keeper), Counted(choose(fatal), after)
        trial.run(counted)
        trial.judge(f"{act}, call {fatal}:{counted.struck} ({trial.error!r})")
        struck += bool(counted.struck)
        if counted.made < fatal:
            return struck


def interrupted(fatal: int) -> Choose:
    return lambda made, name: Struck() if made == fatal else None


def refused(which: int, gap: int = 0) -> Callable[[int], Choose]:
    """The errno with this number on the call's manual page, at that call and at the one `gap` later."""

    def at(fatal: int) -> Choose:
        def choose(made: int, name: str) -> OSError | None:
            codes = ERRNOS[name]
            return OSError(codes[which], "on purpose") if made in (fatal, fatal + gap) and which < len(codes) else None

        return choose

    return at


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("act", ACTS)
def test_an_exception_at_any_call(act: str, after: bool, keeper: Keeper) -> None:
    assert every(act, keeper, interrupted, after) >= 5


@pytest.mark.parametrize("which", range(MOST))
def test_each_errno_at_any_call(which: int, keeper: Keeper) -> None:
    assert sum(every(act, keeper, refused(which)) for act in ACTS) >= 8


@pytest.mark.parametrize("gap", [1, 2, 5])
def test_two_errnos(gap: int, keeper: Keeper) -> None:
    assert sum(every(act, keeper, refused(0, gap)) for act in ("spawn", "close")) >= 20


@pytest.mark.parametrize("act", ACTS)
def test_errnos_at_pairs_of_calls(act: str, keeper: Keeper) -> None:
    """Pairs of any two calls, with errnos of their manual pages; all pairs of calls, three times each, when it may
    take long."""
    drawn, calls = Random(act), _calls(act, keeper)
    pairs = list(combinations(range(1, calls + 4), 2))  # a fault makes calls of its own
    for first, second in pairs * 3 if LONG else drawn.sample(pairs, min(25, len(pairs))):
        which = {first: drawn.random(), second: drawn.random()}

        def choose(made: int, name: str, which: dict[int, float] = which) -> OSError | None:
            codes = ERRNOS[name]
            return OSError(codes[int(which[made] * len(codes))], "on purpose") if made in which and codes else None

        trial, counted = Trial(act, keeper), Counted(choose)
        trial.run(counted)
        trial.judge(f"{act}, calls {first} and {second}:{counted.struck} ({trial.error!r})")


def _calls(act: str, keeper: Keeper) -> int:
    """How many calls the act makes without a fault."""
    trial, counted = Trial(act, keeper), Counted(lambda made, name: None)
    trial.run(counted)
    trial.judge(act)
    return counted.made


@pytest.mark.parametrize("act", ["spawn", "close"])
def test_an_exception_at_any_call_where_the_zygote_starts_and_ends_as_well(act: str, keeper: Keeper) -> None:
    keeper.close()
    assert every(act, None, interrupted) >= 11
