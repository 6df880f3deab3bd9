"""Pages on loan: reachable without a guard while they are shared, and not a moment longer."""

import ctypes
import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leftovers import descriptors
from pagewarden.kernel import files
from pagewarden.kernel.door import opened_path
from pagewarden.kernel.guarded import enter, leave
from pagewarden.kernel.region import Region
from pagewarden.memory import PrivateMemory
from pagewarden.memory.loan import DirectLoan
from pagewarden.port import LendingView
from pagewarden.vocab import PAGE_SIZE, PageRange, Refused
from waits import SOON


@pytest.fixture(params=["uffd-window", "memfd", "memfd-secret"])
def memory(request: pytest.FixtureRequest) -> Iterator[PrivateMemory]:
    with PrivateMemory(16 * PAGE_SIZE, request.param) as made:
        made.share(PageRange(0, 8))
        yield made


def lent(memory: PrivateMemory) -> DirectLoan:
    """Pages 1 and 3."""
    assert isinstance(memory.window, LendingView)
    loan = memory.window.lend((PAGE_SIZE + 16, 32), (3 * PAGE_SIZE, 8))
    assert isinstance(loan, DirectLoan) and loan.good
    return loan


class Mapped:
    """Is the memory's file mapped at the addresses of a loan? (Something else may come to lie there.)"""

    def __init__(self, memory: PrivateMemory, loan: DirectLoan) -> None:
        self._file, self._loan = str(os.fstat(memory.file).st_ino), loan

    def __call__(self) -> list[bool]:
        lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
        ours = [[int(end, 16) for end in line[0].split("-")] for line in lines if line[4] == self._file]
        return [any(start <= address < stop for start, stop in ours) for address in self._loan.addresses]


def test_what_is_lent_is_the_memory_itself(memory: PrivateMemory) -> None:
    loan = lent(memory)
    mapped = Mapped(memory, loan)
    memory.window.write(PAGE_SIZE + 16, b"ring")
    assert ctypes.string_at(loan.addresses[0], 4) == b"ring"
    ctypes.memmove(loan.addresses[1], b"used", 4)
    assert memory.window.read(3 * PAGE_SIZE, 4) == b"used"
    loan.close()
    loan.close()
    assert mapped() == [False, False]


def test_its_descriptors_go_with_it(memory: PrivateMemory) -> None:
    before = descriptors(sweep=True)
    loan = lent(memory)
    assert os.pread(loan.zeroes, 5, 1 << 40) == bytes(5) and loan.zeroes != loan.scratch[0]
    loan.close()
    assert descriptors() == before


def test_what_is_no_zero_device_is_not_taken_for_one(memory: PrivateMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may have put an ordinary file there."""
    real, before = opened_path, descriptors(sweep=True)
    with monkeypatch.context() as patch:
        patch.setattr(files, "opened_path", lambda path, flags: real("/dev/null", flags))
        loan = lent(memory)
    assert loan.zeroes == loan.scratch[0]
    loan.close()
    assert descriptors() == before


@pytest.mark.parametrize("places", [[(9 * PAGE_SIZE, 1)], [(0, 16), (8 * PAGE_SIZE - 1, 2)]])
def test_private_pages_are_not_lent(memory: PrivateMemory, places: list[tuple[int, int]]) -> None:
    assert memory.window.lend(*places) is None
    memory.share(PageRange(8, 10))
    loan = memory.window.lend(*places)
    assert loan is not None
    loan.close()


def test_the_first_page_is_a_page_like_others(memory: PrivateMemory) -> None:
    memory.unshare(PageRange(0, 1))
    assert memory.window.lend((0, 16)) is None


ENDS: dict[str, Callable[[PrivateMemory], object]] = {
    "unshare": lambda memory: memory.unshare(PageRange(3, 4)),
    "unshare around it": lambda memory: memory.unshare(PageRange(2, 8)),
    "convert": lambda memory: memory.convert(to_private=[PageRange(6, 7), PageRange(1, 2)]),
    "punch": lambda memory: memory.punch(PageRange(1, 2)),
    "close": lambda memory: memory.close(),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_page_that_is_taken_back_is_out_of_reach_before_it_is_private(memory: PrivateMemory, end: str) -> None:
    if end == "punch" and memory.backing == "memfd-secret":
        pytest.skip("it cannot be punched")
    loan = lent(memory)
    mapped = Mapped(memory, loan)
    seen, backing = [], memory._backing
    for name in ("shut", "unshare", "punch", "close"):
        if hasattr(backing, name):
            real = getattr(backing, name)

            def watched(*arguments: object, real: Callable[..., object] = real) -> object:
                seen.append((loan.good, any(mapped())))
                return real(*arguments)

            setattr(backing, name, watched)
    ENDS[end](memory)
    assert not loan.good and not any(mapped())
    assert all(state == (False, False) for state in seen), "something changed while the pages were still lent"
    loan.close()


def test_other_pages_come_and_go_and_the_loan_stays(memory: PrivateMemory) -> None:
    loan = lent(memory)
    mapped = Mapped(memory, loan)
    memory.unshare(PageRange(2, 3))
    memory.unshare(PageRange(4, 8))
    memory.share(PageRange(0, 16))
    memory.convert(to_private=[PageRange(9, 12)], to_shared=[PageRange(1, 2)])
    assert loan.good and all(mapped())
    loan.close()


def test_taking_back_waits_for_who_is_at_work(memory: PrivateMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    loan = lent(memory)
    mapped = Mapped(memory, loan)
    asked, taken, go = threading.Event(), threading.Event(), threading.Event()

    def wait(seconds: float) -> None:
        asked.set()
        assert go.wait(SOON)

    def unshare() -> None:
        memory.unshare(PageRange(1, 2))
        taken.set()

    monkeypatch.setattr("pagewarden.memory.loan.time.sleep", wait)
    assert enter(loan.gate)
    thread = threading.Thread(target=unshare)
    thread.start()
    assert asked.wait(SOON)
    assert mapped()[0] and memory._state.shared[1] and not taken.is_set()
    leave(loan.gate)
    go.set()
    thread.join(SOON)
    assert taken.is_set() and not loan.good and not memory.is_shared(1) and not enter(loan.gate)
    loan.close()


def test_a_signal_handler_in_the_midst_of_taking_back_is_refused(memory: PrivateMemory) -> None:
    """It must neither wait for its own thread nor unmap what is just being unmapped."""
    loan = lent(memory)
    mapped, refused = Mapped(memory, loan), []
    first = loan._regions[0]
    close = first.close

    def handler(*_: object) -> None:
        with pytest.raises(Refused, match="this thread is just taking these pages back") as caught:
            memory.unshare(PageRange(3, 4))
        refused.append(caught.value.errno)

    def interrupted() -> None:
        first.close = close  # type: ignore[method-assign]
        signal.raise_signal(signal.SIGUSR1)
        close()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        first.close = interrupted  # type: ignore[method-assign]
        memory.unshare(PageRange(1, 2))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert refused == [errno.EDEADLK] and not memory.is_shared(1) and memory.is_shared(3) and not any(mapped())
    memory.unshare(PageRange(3, 4))
    loan.close()


def test_a_gate_lets_one_in_and_nobody_once_it_is_shut(memory: PrivateMemory) -> None:
    loan = lent(memory)
    assert enter(loan.gate) and not enter(loan.gate)
    leave(loan.gate)
    assert enter(loan.gate)
    leave(loan.gate)
    loan.close()
    assert not enter(loan.gate) and not enter(0)


def no_memory(*arguments: object, **named: object) -> None:
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


def test_what_cannot_be_unmapped_stays_shared(memory: PrivateMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    loan = lent(memory)
    mapped = Mapped(memory, loan)
    with monkeypatch.context() as patch:
        patch.setattr(Region, "bar", no_memory)
        patch.setattr(loan._regions[0], "close", no_memory)
        with pytest.raises(Refused, match="does not unmap it"):
            memory.unshare(PageRange(3, 4))
        with pytest.raises(Refused, match="does not unmap it"):
            memory.close()
    assert memory.is_shared(3) and not loan.good
    memory.unshare(PageRange(3, 4))
    assert not memory.is_shared(3) and not any(mapped())
    loan.close()


@pytest.mark.parametrize("step", ["place", "keep_to_this_process"])
@pytest.mark.parametrize("error", [OSError(errno.ENOMEM, "no"), KeyboardInterrupt()])
def test_what_cannot_be_mapped_is_not_lent(
    memory: PrivateMemory, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    real, calls = getattr(Region, step), []

    def fails(region: Region, *arguments: int, **named: int) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise error
        return real(region, *arguments, **named)

    mappings = Path("/proc/self/maps").read_text().count(str(os.fstat(memory.file).st_ino))
    assert isinstance(memory.window, LendingView)
    memory.window._vectored().close()  # its code is loaded
    places = [(PAGE_SIZE, 16), (3 * PAGE_SIZE, 8), (5 * PAGE_SIZE, 8)]
    with monkeypatch.context() as patch:
        patch.setattr(Region, step, fails)
        try:
            assert memory.window.lend(*places) is None
        except KeyboardInterrupt:
            assert isinstance(error, KeyboardInterrupt)
    assert len(calls) >= 3 and not memory._consumers.lent
    assert Path("/proc/self/maps").read_text().count(str(os.fstat(memory.file).st_ino)) == mappings


def test_a_forked_child_has_no_loan(memory: PrivateMemory) -> None:
    loan = lent(memory)
    mapped = Mapped(memory, loan)
    child = os.fork()
    if not child:
        os._exit(int(loan.good or mapped()[0]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and loan.good
    loan.close()
