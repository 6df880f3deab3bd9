"""An untrusted host side's pages that are shut where they are (Linux 7.3), and what must keep them from that."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

import host_programs
from isolated_kit import PAGES, heard, seen
from live import required
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory
from pagewarden.memory.isolated.descriptors import descriptions_of_its_own, may_pin
from pagewarden.vocab import UserMistake
from waits import SOON

WHOLE = PageRange(0, PAGES)


@pytest.fixture
def rwp() -> Iterator[PrivateMemory]:
    with required(), PrivateMemory(PAGES * PAGE_SIZE, "uffd-rwp", isolated=True) as memory:
        memory.private_write(0, b"".join(b"page %03d" % page + bytes(PAGE_SIZE - 8) for page in range(PAGES)))
        yield memory


def frames(memory: PrivateMemory) -> list[int]:
    """The pages' frames, which only root is told (Documentation/admin-guide/mm/pagemap.rst)."""
    if os.geteuid() != 0:
        pytest.skip("only root is told which frames pages have")
    with open("/proc/self/pagemap", "rb", buffering=0) as table:
        entries = os.pread(table.fileno(), 8 * PAGES, memory.guest_address // PAGE_SIZE * 8)
    return [entry & (1 << 55) - 1 for entry in memoryview(entries).cast("Q")]


def costs(memory: PrivateMemory) -> tuple[int, ...]:
    counts = memory.statistics()
    return tuple(counts[name] for name in ("hyp_pte_set", "hyp_pte_clear", "tlbi", "hyp_copies", "allocations"))


def there_and_back(memory: PrivateMemory) -> None:
    memory.share(WHOLE)
    memory.unshare(WHOLE)


def test_a_page_stays_where_it_is_unless_it_may_be_pinned(rwp: PrivateMemory, tmp_path: Path) -> None:
    host = rwp.spawn(host_programs.peek)
    rwp.share(WHOLE)
    assert [seen(host, page) for page in range(PAGES)] == [b"page %03d" % page for page in range(PAGES)]
    before = frames(rwp)
    rwp.unshare(WHOLE)
    assert {seen(host, page) for page in range(PAGES)} == {None} and frames(rwp) == before
    assert costs(rwp) == (PAGES, PAGES, 1, 0, 0)
    rwp.share(PageRange(2, 4))
    assert [seen(host, page) for page in range(1, 5)] == [None, b"page 002", b"page 003", None]
    rwp.punch(PageRange(3, 4))
    rwp.share(PageRange(3, 5))
    assert [seen(host, page) for page in range(1, 6)] == [None, b"page 002", bytes(8), b"page 004", None]
    rwp.unshare(WHOLE)
    assert costs(rwp)[1:] == (PAGES + 3, 3, 0, 0)
    host.kill()
    with (tmp_path / "disk").open("w+b") as plain, socket.socket() as other:
        host = rwp.spawn(host_programs.peek, fds=(plain.fileno(), other.fileno()))
        there_and_back(rwp)
        assert seen(host, 2) is None
        assert costs(rwp)[1:] == (2 * PAGES + 3, 4, PAGES, PAGES)
        host.kill()
    rwp.spawn(host_programs.peek)
    there_and_back(rwp)
    assert costs(rwp)[3:] == (2 * PAGES, 2 * PAGES), "what the first one pinned may outlive it"
    assert rwp.private_read(0, 8) == b"page 000"


def test_nothing_that_a_host_side_may_call_opens_a_shut_page(rwp: PrivateMemory) -> None:
    host = rwp.spawn(host_programs.lift)
    ways = 0
    while (name := heard(host)[1]) != b"end":
        there_and_back(rwp)
        rwp.private_write(PAGE_SIZE, b"SECRET!!")
        if name == b"shared":
            rwp.share(PageRange(1, 2))
        host.tell(0)
        assert heard(host) == ((1, b"SECRET!!") if name == b"shared" else (0, b"")), name
        assert rwp.private_read(PAGE_SIZE, 8) == b"SECRET!!"
        ways += 1
    assert ways == len(host_programs.LIFTS) and costs(rwp)[3:] == (0, 0)


def test_who_has_something_else_in_its_windows_place_dies_for_it(rwp: PrivateMemory) -> None:
    host = rwp.spawn(host_programs.replace_window, True)
    rwp.share(WHOLE)
    host.tell(0)
    heard(host)
    rwp.unshare(PageRange(0, 1))
    assert host.wait(SOON) == -signal.SIGKILL and not rwp.is_shared(0) and rwp.is_shared(1)
    assert rwp.private_read(0, 8) == b"page 000"


def test_what_starts_shared_is_shut_piece_by_piece() -> None:
    with required(), PrivateMemory(PAGES * PAGE_SIZE, "uffd-rwp", isolated=True, shared=True) as memory:
        host = memory.spawn(host_programs.peek)
        memory.private_write(0, b"page 000")
        assert [seen(host, page) for page in (0, PAGES - 1)] == [b"page 000", bytes(8)]
        memory.unshare(PageRange(0, 2))
        assert [seen(host, page) for page in (0, 1, 2)] == [None, None, bytes(8)]
        memory.share(PageRange(0, 1))
        assert seen(host, 0) == b"page 000"


@pytest.mark.parametrize("name", ["memfd", "memfd-secret", "guest-memfd"])
def test_no_other_kind_is_isolated(name: str) -> None:
    with pytest.raises(UserMistake, match="uffd-window or uffd-rwp"):
        PrivateMemory(PAGE_SIZE, name, isolated=True)


def test_what_is_known_to_copy_and_what_may_pin() -> None:
    with ExitStack() as opened:
        file = opened.enter_context

        def kept(*fds: int) -> list[bool]:
            with descriptions_of_its_own(fds, memory) as own:
                return [may_pin(fd, fd != given) for fd, given in zip(own, fds, strict=True)]

        memory, tmpfs = os.memfd_create("memory"), os.memfd_create("file")
        direct = os.open(f"/proc/self/fd/{tmpfs}", os.O_RDWR | os.O_DIRECT)
        pipe = os.pipe()
        one, _ = map(file, socket.socketpair())
        tcp, event, null = file(socket.socket()), os.eventfd(0), os.open("/dev/null", os.O_RDWR)
        status, table = os.open("/proc/self/status", os.O_RDONLY), os.open("/proc/self/mem", os.O_RDWR)
        for fd in (memory, tmpfs, direct, *pipe, event, null, status, table):
            opened.callback(os.close, fd)
        assert kept(tmpfs, *pipe, event) == [False] * 4
        assert kept(direct, one.fileno(), tcp.fileno(), null, status, table) == [True] * 6, (
            "a socket may bring any file"
        )
        assert may_pin(tmpfs, own=False), "somebody else may set O_DIRECT on the same description"
        with suppress(FileNotFoundError):  # where there are no loop devices
            disk = os.open("/dev/loop0", os.O_RDONLY)
            opened.callback(os.close, disk)
            assert kept(disk) == [False]
