"""Each I/O path's host half on a real file: bytes arrive, and the kernel counts what the design says."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from live import require
from pagewarden.designs import DESIGNS, Options
from pagewarden.kernel.counters import Counters
from pagewarden.law import POLICIES
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateAccess, PrivateMemory, Unavailable
from pagewarden.sim import Counts, Machine
from pagewarden.studies.run.host_half import PIPE_SIZE, HostHalf, Request
from pagewarden.vocab import Event

SIZE = 4 << 20
DISK = bytes(os.urandom(SIZE))
POLICY = POLICIES["uffd-window"]
CONVERTING = [name for name in DESIGNS if name not in ("dma-buffer", "bounce")]
MEASURED = (Event.ACCESS_SYSCALLS, Event.HOST_COPIES, Event.HOST_COPY_BYTES)


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostHalf]:
    path = tmp_path_factory.mktemp("disk") / "image"
    path.write_bytes(DISK)
    with path.open("r+b") as disk, PrivateMemory(SIZE, "uffd-window") as memory:
        memory.populate(0, bytes(SIZE))
        with HostHalf(memory, disk.fileno(), SIZE) as host:
            yield host


def disk_bytes(half: HostHalf, request: Request) -> bytes:
    return os.pread(half.disk, request.length, request.position)


@pytest.mark.parametrize("to_file", [True, False])
@pytest.mark.parametrize(("offset", "length"), [(8192, 4096), (8192, 100), (8000, 9000), (4096, 65536)])
@pytest.mark.parametrize("design", DESIGNS)
def test_bytes_arrive(half: HostHalf, design: str, offset: int, length: int, to_file: bool) -> None:
    request = Request(offset, length, 12345, to_file)
    pages = PageRange.covering(offset, length)
    half.memory.private_write(0, os.urandom(128 << 10))
    before = half.memory.private_read(0, 128 << 10)
    half.memory.share(pages)
    done = half.paths[design](request)
    half.memory.unshare(pages)
    assert done.moved == length and done.io_syscalls == 1
    assert disk_bytes(half, request) == half.memory.private_read(offset, length)
    if to_file:
        assert half.memory.private_read(0, 128 << 10) == before
    else:
        after = half.memory.private_read(0, 128 << 10)
        assert after[:offset] == before[:offset] and after[offset + length :] == before[offset + length :]


def modelled(design: str, pages: int, to_file: bool) -> Counts:
    """What the model counts for one request of this design on this kind of memory."""
    found = Machine(POLICY, 512).perform(DESIGNS[design](Options(), POLICY, to_file), PageRange(0, pages))
    assert found.completed == 1
    return found


@pytest.mark.parametrize("pages", [1, 16])
@pytest.mark.parametrize("to_file", [True, False])
@pytest.mark.parametrize("design", DESIGNS)
def test_the_kernel_counts_what_the_model_says(half: HostHalf, design: str, to_file: bool, pages: int) -> None:
    memory, request, expected = half.memory, Request(0, pages * PAGE_SIZE, 0, to_file), modelled(design, pages, to_file)
    if design not in CONVERTING:
        memory.share(PageRange(0, pages))  # once, long before the request
    try:
        for _ in range(3):
            with Counters("tlb_flush") as whole:
                if design in CONVERTING:
                    memory.share(PageRange(0, pages))
                with Counters("syscalls") as inner:
                    done = half.paths[design](request)
                if design in CONVERTING:
                    memory.unshare(PageRange(0, pages))
            assert inner["syscalls"] - done.io_syscalls == done.access_syscalls
            assert done.events == {event: expected[event] for event in MEASURED}
            if pages == 1:  # a longer run may lie under two page tables, each flushed for itself
                assert whole["tlb_flush"] == expected[Event.TLBI]
    except Unavailable as lacking:
        require(False, str(lacking))
    finally:
        memory.unshare(PageRange(0, pages))


@pytest.mark.parametrize("design", DESIGNS)
def test_a_private_page_is_refused_and_nothing_moves(half: HostHalf, design: str) -> None:
    half.memory.share(PageRange(0, 2))
    memory, disk = half.memory.private_read(0, 4 * PAGE_SIZE), os.pread(half.disk, SIZE, 0)
    for to_file in (True, False):
        with pytest.raises(PrivateAccess) as caught:
            half.paths[design](Request(PAGE_SIZE, 2 * PAGE_SIZE, 0, to_file))
        assert caught.value.offset == 2 * PAGE_SIZE
    half.memory.unshare(PageRange(0, 2))  # and nothing is held
    assert half.memory.private_read(0, 4 * PAGE_SIZE) == memory and os.pread(half.disk, SIZE, 0) == disk


@pytest.mark.parametrize("design", DESIGNS)
def test_a_read_past_the_end_of_the_file_is_short(half: HostHalf, design: str) -> None:
    half.memory.share(PageRange(0, 2))
    assert half.paths[design](Request(0, 8192, SIZE - 100, False)).moved == 100
    half.memory.unshare(PageRange(0, 2))


def test_splice_takes_a_turn_a_pipeful(half: HostHalf) -> None:
    length = PIPE_SIZE + PAGE_SIZE
    half.memory.share(PageRange(0, SIZE // PAGE_SIZE))
    done = half.spliced(Request(0, length, 0, True))
    assert (done.moved, done.access_syscalls) == (length, 2)
    half.memory.unshare(PageRange(0, SIZE // PAGE_SIZE))


def test_the_pipe_is_given_back(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with PrivateMemory(PAGE_SIZE, "memfd") as memory, HostHalf(memory, 0, PAGE_SIZE):
        pass
    assert len(os.listdir("/proc/self/fd")) == before
