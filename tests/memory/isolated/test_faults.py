"""An exception or an errno anywhere in what an isolated memory does: nothing open that is called private, no byte lost.

The kernel is asked, not the library: what the host side sees is what its page table has (/proc/PID/pagemap), and bytes
are read from the file.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

import host_programs
from injector import ROOMS, Calls, Instructions, Struck, struck_calls
from isolated_kit import kept
from pagewarden.kernel.uffd import Userfault
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, Refused
from pagewarden.memory.isolated import bare, replace, window
from pagewarden.memory.isolated.process import HostProcess

PAGES = 6
PAYLOAD = [bytes([65 + page]) * PAGE_SIZE for page in range(PAGES)]
Act = Callable[[PrivateMemory], object]
ACTS: dict[str, Act] = {
    "share": lambda mem: mem.share(PageRange(0, 5)),
    "unshare": lambda mem: mem.unshare(PageRange(0, 5)),
    "punch": lambda mem: mem.punch(PageRange(0, 1)),
    "unshare what was shared at the start": lambda mem: mem.unshare(PageRange(0, 5)),
}
AT_THE_START = "unshare what was shared at the start"
ERRNOS = {
    "ioctl": (errno.EAGAIN, errno.EINTR, errno.ENOMEM, errno.EEXIST, errno.EFAULT, errno.ENOENT, errno.ENOSPC),
    "few": (errno.ENOMEM, errno.EAGAIN, errno.EEXIST),
}

LONG = os.environ.get("PAGEWARDEN_LONG") == "1"
DRAWN = "ioctl" if LONG else "few"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replace, "PATIENCE", 3)
    monkeypatch.setattr(window, "STEP", 2 * PAGE_SIZE)  # several pieces


class Pair:
    """A memory, pages 1, 2 and 4 shared, and its host side; made anew when one is used up."""

    def __init__(self) -> None:
        self.memory: PrivateMemory | None = None
        self.host: HostProcess | None = None

    def ready(self, act: str = "") -> PrivateMemory:
        memory, host = self.memory, self.host
        if memory is None or memory._state.over is not None:
            self.close()
            memory = self.memory = PrivateMemory(PAGES * PAGE_SIZE, isolated=True)
        if host is None or host.dead or self.host is None:
            self.host = memory.spawn(host_programs.stay)
        memory.unshare(PageRange(0, PAGES))
        memory.private_write(0, b"".join(PAYLOAD))
        memory.share(PageRange(1, 3))
        memory.share(PageRange(4, 5))
        if act == AT_THE_START:
            assert self.host is not None and isinstance(memory._backing, window.IsolatedWindow)
            memory._backing._open(self.host, [(PAGE_SIZE, 3 * PAGE_SIZE), (4 * PAGE_SIZE, 5 * PAGE_SIZE)])
        return memory

    def open_pages(self) -> list[bool]:
        """Which pages the host side's page table has; none when it is dead."""
        assert self.host is not None
        if self.host.dead:
            return [False] * PAGES
        with open(f"/proc/{self.host.pid}/pagemap", "rb") as file:
            file.seek(self.host.address // PAGE_SIZE * 8)
            entries = file.read(8 * PAGES)
        return [bool(int.from_bytes(entries[at : at + 8], "little") >> 63) for at in range(0, 8 * PAGES, 8)]

    def judge(self, act: str, where: str) -> None:
        """After a fault."""
        mem = self.memory
        assert mem is not None
        seen = self.open_pages()
        wrong = [page for page in range(PAGES) if seen[page] and not mem._state.shared[page]]
        assert not wrong, f"{where}: the host side sees {wrong}, which the ledger calls private"
        found = mem._backing.guest.memory.tobytes()  # what was interrupted is finished here
        held = [
            os.pread(mem.file if mem._state.over is None else mem._backing.file, PAGE_SIZE, p * PAGE_SIZE)
            for p in range(PAGES)
        ]
        for page in range(PAGES):
            allowed = {PAYLOAD[page]} | ({bytes(PAGE_SIZE)} if act == "punch" and page == 0 else set())
            assert found[page * PAGE_SIZE :][:PAGE_SIZE] in allowed, f"{where}: page {page} lost its bytes"
            assert held[page] in allowed, f"{where}: page {page} of the file lost its bytes"
        if mem._state.over is not None:
            assert not any(seen), f"{where}: broken, and open"
            return
        mem.share(PageRange(0, PAGES))
        mem.unshare(PageRange(0, PAGES))
        assert not any(self.open_pages()), f"{where}: open after another share and unshare"
        assert mem._backing.guest.memory.tobytes() == found

    def close(self) -> None:
        if self.memory is not None:
            self.memory.close()
        self.memory = self.host = None


@pytest.fixture
def pair() -> Iterator[Pair]:
    yield from kept(Pair())


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("act", ACTS)
def test_an_exception_at_any_system_call(pair: Pair, act: str, after: bool) -> None:
    fatal = struck = 0
    while True:
        fatal += 1
        mem, calls = pair.ready(act), Calls({}, after)
        with struck_calls(calls):
            calls.faults = {fatal: Struck}
            with suppress(Refused):
                try:
                    ACTS[act](mem)
                except Struck:
                    struck += 1
            calls.faults, made = {}, calls.made
        pair.judge(act, f"{act}, call {fatal}")
        if made < fatal:
            break
    assert struck >= 1


@pytest.mark.parametrize("code", ERRNOS["ioctl"], ids=errno.errorcode.get)
@pytest.mark.parametrize("act", ACTS)
def test_an_errno_at_any_system_call(pair: Pair, act: str, code: int) -> None:
    errnos_at(pair, act, code, code, (0,))


@pytest.mark.parametrize("second", ERRNOS[DRAWN], ids=errno.errorcode.get)
@pytest.mark.parametrize("first", ERRNOS[DRAWN], ids=errno.errorcode.get)
@pytest.mark.parametrize("act", ACTS if LONG else ["share", "unshare"])
def test_errnos_at_any_two_system_calls(pair: Pair, act: str, first: int, second: int) -> None:
    errnos_at(pair, act, first, second, tuple(range(1, 40)) if LONG else (1, 2, 3, 4))


def errnos_at(pair: Pair, act: str, first: int, second: int, gaps: tuple[int, ...]) -> None:
    for gap in gaps:
        fatal = 0
        while True:
            fatal += 1
            mem, calls = pair.ready(act), Calls({})
            with struck_calls(calls):
                calls.faults = {
                    fatal + gap: lambda: OSError(second, "on purpose"),
                    fatal: lambda: OSError(first, "on purpose"),
                }
                with suppress(Refused):
                    ACTS[act](mem)
                calls.faults, made = {}, calls.made
            pair.judge(act, f"{act}, calls {fatal} and {fatal + gap}")
            if made < fatal:
                break


@pytest.mark.parametrize("which", ["copy", "unregister", "write_protect", "register"])
def test_a_call_that_always_fails_loses_nothing(pair: Pair, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """UFFDIO_COPY that never goes through: the bytes go back by way of the file; and so on."""

    def failing(*arguments: object) -> int:
        raise OSError(errno.ENOMEM, "on purpose, always")

    mem = pair.ready()
    with monkeypatch.context() as patch:
        patch.setattr(Userfault, which, failing)
        with suppress(Refused):
            mem.unshare(PageRange(1, 3))
    pair.judge("unshare", which)


@pytest.mark.parametrize("act", ACTS)
def test_an_exception_at_any_instruction(pair: Pair, act: str) -> None:
    ACTS[act](pair.ready(act))  # warm
    rooms = (bare.__file__,) if act == AT_THE_START else ROOMS  # what others have as well is struck there
    fatal = 0
    while True:
        fatal += 1
        mem = pair.ready(act)
        with suppress(Struck, Refused), Instructions(fatal, rooms) as trace:
            ACTS[act](mem)
        pair.judge(act, f"{act}, instruction {fatal}, {trace.where}")
        if trace.seen < fatal:
            break
    assert fatal > 50
