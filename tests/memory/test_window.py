"""The host's view: guarded accessors, transfers from and to files, and what a bare touch meets."""

import ctypes
import errno
import faulthandler
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewarden.memory import PAGE_SIZE, PageRange, PrivateAccess, PrivateMemory, Refused
from pagewarden.memory.scratch import CHUNK
from private_kit import made

PAGES = 8
DATA = bytes(np.arange(PAGES * PAGE_SIZE, dtype=np.uint32).view(np.uint8)[: PAGES * PAGE_SIZE])


@pytest.fixture(params=["uffd-window", "memfd-secret"])
def mem(request: pytest.FixtureRequest) -> Iterator[PrivateMemory]:
    """Pages 1-2 and 4-5 are shared."""
    with made(request.param, PAGES * PAGE_SIZE) as memory:
        memory.populate(0, DATA)
        memory.share(PageRange(1, 3))
        memory.share(PageRange(4, 6))
        yield memory


def end_of(child: Callable[[], object]) -> int:
    """How a child process ends that calls this: 0, or minus the signal."""
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()
        try:
            child()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def first_private(start: int, length: int) -> int | None:
    return next((b for b in range(start, start + length) if b // PAGE_SIZE not in (1, 2, 4, 5)), None)


@settings(max_examples=80, deadline=None)
@given(start=st.integers(0, PAGES * PAGE_SIZE), length=st.integers(0, 3 * PAGE_SIZE), wide=st.booleans())
def test_reads_and_writes_reach_shared_pages_and_name_the_first_other_byte(start: int, length: int, wide: bool) -> None:
    length = min(length, PAGES * PAGE_SIZE - start)
    with made("uffd-window", PAGES * PAGE_SIZE) as memory:
        memory.populate(0, DATA)
        for pages in (PageRange(1, 3), PageRange(4, 6)):
            memory.share(pages)
        target, new = bytearray(length), b"\xee" * length
        bad = first_private(start, length)
        for call in (
            lambda: memory.window.read(start, length),
            lambda: memory.window.read_into(start, target),
            lambda: memory.window.write(start, new),
        ):
            if bad is None:
                call()
                continue
            with pytest.raises(PrivateAccess) as caught:
                call()
            assert (caught.value.offset, caught.value.errno) == (bad, errno.EFAULT)
        expected = bytearray(DATA)
        reached = length if bad is None else bad - start
        expected[start : start + reached] = new[:reached]
        if bad is None:
            assert target == DATA[start : start + length]
        assert memory.private_read(0, memory.size) == expected


def test_ranges_outside_are_value_errors(mem: PrivateMemory) -> None:
    for offset, length in ((-1, 1), (mem.size, 1), (mem.size - 1, 2), (0, 1 << 62)):
        with pytest.raises(ValueError, match="do not lie"):
            mem.window.read(offset, length)
        with pytest.raises(ValueError, match="do not lie"):
            mem.window.pread_from(0, 0, [(offset, length)])
    with pytest.raises(ValueError, match="do not lie"):
        mem.window.write(mem.size - 1, b"xx")
    with pytest.raises(ValueError, match="do not lie"):
        mem.window.read(5, -1)


def test_long_copies_pass_in_pieces() -> None:
    size = 3 * CHUNK + PAGE_SIZE
    data = np.random.default_rng(1).bytes(size)
    with made("uffd-window", size, shared=True) as memory:
        memory.window.write(0, data)
        assert memory.window.read(0, size) == data
        words = np.zeros(size // 8, np.uint64)
        memory.window.read_into(0, words.data)
        assert words.tobytes() == data
        memory.unshare(PageRange(size // PAGE_SIZE - 2, size // PAGE_SIZE - 1))
        with pytest.raises(PrivateAccess) as caught:
            memory.window.read(100, size - 100)
        assert caught.value.offset == size - 2 * PAGE_SIZE


def test_the_mapping_itself_shows_shared_pages_without_a_call(mem: PrivateMemory) -> None:
    assert bytes(mem.window.memory[PAGE_SIZE : 3 * PAGE_SIZE]) == DATA[PAGE_SIZE : 3 * PAGE_SIZE]
    mem.window.array[PAGE_SIZE] = 99
    assert mem.private_read(PAGE_SIZE, 1) == b"\x63"


def own_child_load(mem: PrivateMemory, offset: int) -> Callable[[], object]:
    """A child that maps a window of its own (the parent's is not inherited) and loads one byte of it."""

    def child() -> None:
        fresh = PrivateMemory(mem.size, mem.backing)
        fresh.share(PageRange(1, 3))
        ctypes.string_at(fresh.window.address + offset, 1)

    return child


def test_a_bare_load_of_a_private_page_ends_the_process(mem: PrivateMemory) -> None:
    fatal = {"uffd-window": signal.SIGBUS, "memfd-secret": signal.SIGSEGV}[mem.backing]
    assert end_of(own_child_load(mem, PAGE_SIZE)) == 0
    assert end_of(own_child_load(mem, 0)) == -fatal


def test_a_forked_child_has_no_window(mem: PrivateMemory) -> None:
    for offset in (0, PAGE_SIZE):
        assert end_of(partial(ctypes.string_at, mem.window.address + offset, 1)) == -signal.SIGSEGV


def test_after_close_arrays_lead_nowhere(mem: PrivateMemory) -> None:
    def child() -> None:
        fresh = PrivateMemory(PAGE_SIZE, mem.backing, shared=True)
        array = fresh.window.array
        assert array[0] == 0
        fresh.close()
        array[0]

    assert end_of(child) == -signal.SIGSEGV


def test_files_are_read_straight_into_shared_pages(mem: PrivateMemory, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(range(256)) * 64)
    with path.open("rb") as file:
        segments = [(PAGE_SIZE + 10, 100), (4 * PAGE_SIZE, 2 * PAGE_SIZE), (2 * PAGE_SIZE, 50)]
        assert mem.window.pread_from(file.fileno(), 7, segments) == 100 + 2 * PAGE_SIZE + 50
        source = path.read_bytes()[7:]
        for offset, length in segments:
            assert mem.private_read(offset, length) == source[:length]
            source = source[length:]
        assert mem.window.pread_from(file.fileno(), 16384 - 5, [(PAGE_SIZE, 100)]) == 5  # the file ends
        assert mem.window.pread_from(file.fileno(), 1 << 20, [(PAGE_SIZE, 100)]) == 0


def test_shared_pages_are_written_straight_to_files(mem: PrivateMemory, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("w+b") as file:
        segments = [(4 * PAGE_SIZE + 5, 10), (PAGE_SIZE, 2 * PAGE_SIZE)]
        assert mem.window.pwrite_to(file.fileno(), 3, segments) == 10 + 2 * PAGE_SIZE
        assert path.read_bytes() == bytes(3) + DATA[4 * PAGE_SIZE + 5 :][:10] + DATA[PAGE_SIZE : 3 * PAGE_SIZE]


def test_more_segments_than_one_call_takes(mem: PrivateMemory, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("w+b") as file:
        segments = [(PAGE_SIZE + i, 1) for i in range(2500)]
        assert mem.window.pwrite_to(file.fileno(), 0, segments) == 2500
        assert path.read_bytes() == DATA[PAGE_SIZE : PAGE_SIZE + 2500]


def test_a_transfer_stops_at_the_first_private_byte(mem: PrivateMemory, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"\xaa" * 8 * PAGE_SIZE)
    with path.open("r+b") as file:
        for segments, bad in (
            ([(PAGE_SIZE, 3 * PAGE_SIZE)], 3 * PAGE_SIZE),
            ([(5 * PAGE_SIZE, 10), (77, 5)], 77),
            ([(4 * PAGE_SIZE, 2 * PAGE_SIZE), (5 * PAGE_SIZE, PAGE_SIZE + 1)], 6 * PAGE_SIZE),
        ):
            for move in (mem.window.pread_from, mem.window.pwrite_to):
                with pytest.raises(PrivateAccess) as caught:
                    move(file.fileno(), 0, segments)
                assert caught.value.offset == bad
    assert mem.private_read(3 * PAGE_SIZE, PAGE_SIZE) == DATA[3 * PAGE_SIZE : 4 * PAGE_SIZE]
    assert mem.private_read(6 * PAGE_SIZE, 2 * PAGE_SIZE) == DATA[6 * PAGE_SIZE :]


def test_pages_of_a_transfer_are_held(mem: PrivateMemory) -> None:
    receive, transmit = os.pipe()
    seen: list[Refused] = []

    def move(fd: int, parts: list[memoryview], position: int) -> int:
        with pytest.raises(Refused) as caught:
            mem.unshare(PageRange(0, PAGES))
        seen.append(caught.value)
        return os.writev(fd, parts)

    mem.window._transfer(move, transmit, 0, [(PAGE_SIZE, 4), (4 * PAGE_SIZE, 4)])
    assert [(refusal.errno, refusal.offset) for refusal in seen] == [(errno.EAGAIN, PAGE_SIZE)]
    assert os.read(receive, 8) == DATA[PAGE_SIZE : PAGE_SIZE + 4] + DATA[4 * PAGE_SIZE : 4 * PAGE_SIZE + 4]
    mem.unshare(PageRange(0, PAGES))
    os.close(receive)
    os.close(transmit)


def test_errors_of_the_file_pass_through(mem: PrivateMemory) -> None:
    with pytest.raises(OSError) as caught:
        mem.window.pread_from(-1, 0, [(PAGE_SIZE, 1)])
    assert caught.value.errno == errno.EBADF


def test_a_shared_page_whose_entry_was_lost_is_opened_again() -> None:
    """What reclaim does to an unlocked shared page, done by hand."""
    with made("uffd-window", PAGES * PAGE_SIZE) as memory:
        memory.populate(0, DATA)
        memory.share(PageRange(0, 4))
        for offset, length in ((PAGE_SIZE, 8), (0, 3 * PAGE_SIZE)):
            memory._backing.unshare(PAGE_SIZE, PAGE_SIZE)
            assert memory.window.read(offset, length) == DATA[offset : offset + length]
