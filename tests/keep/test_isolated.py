"""A memory under a limit whose host side is not trusted: its window answers for what is shared alone."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import host_programs
from isolated_kit import seen
from kept_kit import PAGES, content, filled, guest_reads, guest_writes, kept
from pagewarden.keep import KeptMemory
from pagewarden.memory import PAGE_SIZE, PageRange

LIMIT, ALL = 16, PageRange(0, PAGES)


@pytest.fixture(params=["uffd-window", "uffd-rwp"])
def mem(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeptMemory]:
    with kept(tmp_path / "swap", backing=request.param, limit=LIMIT * PAGE_SIZE, isolated=True) as memory:
        filled(memory)
        yield memory


def test_the_limit_holds_and_the_host_sees_what_is_shared_wherever_the_rest_lies(mem: KeptMemory) -> None:
    mem.share(PageRange(4, 8))
    host = mem.spawn(host_programs.peek)
    assert mem.resident <= LIMIT * PAGE_SIZE
    for page in [*range(PAGES), 5, 70]:
        assert guest_reads(mem, page) == content(page)
        assert seen(host, page) == (content(page)[:8] if 4 <= page < 8 else None)
        assert mem.resident <= LIMIT * PAGE_SIZE
    assert mem.swap_out(ALL) == LIMIT and mem.swapped == (PAGES - 4) * PAGE_SIZE
    assert [seen(host, page) for page in (5, 50)] == [content(5)[:8], None]
    assert mem.swapped == (PAGES - 4) * PAGE_SIZE  # what it asks for brings nothing


def test_a_page_that_is_taken_back_goes_comes_and_is_shared_again(mem: KeptMemory) -> None:
    host = mem.spawn(host_programs.peek)
    for data in (b"first...", b"second.."):
        mem.swap_out(ALL)
        mem.share(PageRange(20, 24))
        assert seen(host, 22) == mem.private_read(22 * PAGE_SIZE, 8)
        guest_writes(mem, 22, data)
        mem.unshare(PageRange(18, 30))  # what lies about it is away
        assert mem.resident == 4 * PAGE_SIZE and seen(host, 22) is None
        assert guest_reads(mem, 22) == data + content(22)[8:]
        assert (guest_reads(mem, 19), guest_reads(mem, 25)) == (content(19), content(25))
        mem.punch(PageRange(40, 41))
        assert guest_reads(mem, 40) == bytes(PAGE_SIZE) and seen(host, 40) is None


def test_a_guest_that_writes_while_pages_are_replaced_loses_nothing(mem: KeptMemory) -> None:
    stop, failed = threading.Event(), []

    def guest() -> None:
        count = 0
        while not stop.is_set():
            for page in (30, 31, 60):
                count += 1
                guest_writes(mem, page, (data := count.to_bytes(8, "little")))
                if guest_reads(mem, page)[:8] != data:
                    failed.append(page)

    thread = threading.Thread(target=guest)
    thread.start()
    try:
        for _ in range(100):
            mem.share(PageRange(28, 34))
            mem.unshare(PageRange(28, 34))
            mem.swap_out(ALL)
    finally:
        stop.set()
        thread.join()
    assert not failed and mem.trouble is None and not mem.refused
    assert guest_reads(mem, 29) == content(29)


def test_a_snapshot_comes_back_isolated(mem: KeptMemory, tmp_path: Path) -> None:
    key = os.urandom(32)
    mem.share(PageRange(2, 3))
    mem.snapshot(tmp_path / "snapshot", key, b"its CPUs")
    again, state = KeptMemory.restored(tmp_path / "snapshot", key, backing=mem.backing, isolated=True)
    with again:
        host = again.spawn(host_programs.peek)
        assert state == b"its CPUs" and [seen(host, page) for page in (2, 3)] == [content(2)[:8], None]
        again.unshare(PageRange(2, 3))
        assert [guest_reads(again, page) for page in (2, 90)] == [content(2), content(90)]
        assert seen(host, 2) is None
