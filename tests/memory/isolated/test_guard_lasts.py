"""The guard of a host side lasts as long as its address space, at whatever moment one looks and however it ends."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

import host_programs
from pagewarden.kernel.uffd import Userfault
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory
from pagewarden.memory.isolated.process import HostProcess

Act = Callable[[PrivateMemory, HostProcess], object]


def killed_by_others(mem: PrivateMemory, host: HostProcess) -> None:
    os.kill(host.pid, signal.SIGKILL)
    host.wait(20)
    mem.spawn(host_programs.stay)


def barred(mem: PrivateMemory, host: HostProcess) -> None:
    mem._backing.bar()
    assert host.dead
    mem.close()


def closed(mem: PrivateMemory, host: HostProcess) -> None:
    mem.close()


ENDS: dict[str, Act] = {
    "bury": lambda mem, host: host.bury(),
    "close": closed,
    "kill, then the next": lambda mem, host: (host.kill(), mem.spawn(host_programs.stay)),
    "killed by others, then the next": killed_by_others,
    "what cannot be closed": barred,
}


@pytest.fixture
def pair() -> Iterator[tuple[PrivateMemory, HostProcess]]:
    mem = PrivateMemory(2 * PAGE_SIZE, isolated=True)
    with mem:
        mem.share(PageRange(0, 1))
        yield mem, mem.spawn(host_programs.stay)


@pytest.mark.parametrize("end", ENDS)
def test_it_is_there_while_the_host_side_lives(pair: tuple[PrivateMemory, HostProcess], end: str) -> None:
    mem, host = pair
    guard, file, looked, without = host.guard, os.fstat(host.guard.fd if host.guard else -1), 0, []
    assert guard is not None
    number = guard.fd

    def look(frame: FrameType, event: str, argument: object) -> None:
        nonlocal looked
        sys.setprofile(None)
        try:
            if not host.dead:
                looked += 1
                if guard.fd != number or not os.path.samestat(os.fstat(number), file):
                    without.append(f"{frame.f_code.co_name}, line {frame.f_lineno}")
        except OSError as error:
            without.append(str(error))
        sys.setprofile(look)

    sys.setprofile(look)
    try:
        ENDS[end](mem, host)
    finally:
        sys.setprofile(None)
    assert looked >= 2  # before it is killed, at the least
    assert not without
    assert host.dead
    assert guard.fd < 0 or end.startswith("kill")


@pytest.mark.parametrize("end", ENDS)
def test_it_goes_when_the_kernel_says_that_the_address_space_is_gone(
    pair: tuple[PrivateMemory, HostProcess], end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mem, host = pair
    guard, answers, gone = host.guard, [False] * 5, Userfault.gone

    def slow(self: Userfault) -> bool:
        assert self.fd >= 0
        return answers.pop() if answers else gone(self)

    monkeypatch.setattr(Userfault, "gone", slow)
    ENDS[end](mem, host)
    host.bury()
    assert guard is not None
    assert not answers
    assert guard.fd < 0
