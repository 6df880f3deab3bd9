"""A disk without a page cache: a batch under way at once, its pages held from submission to completion."""

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from live import require
from pagewarden.abi import io_uring
from pagewarden.abi.virtio_blk import VIRTIO_BLK_T_FLUSH
from pagewarden.kernel import uring
from pagewarden.kernel.door import Descriptor, opened
from pagewarden.memory import PageRange, PrivateMemory, Refused
from pagewarden.port import QueueingView
from pagewarden.virtio.disk import ONE_BY_ONE, Disk
from pagewarden.vocab import PAGE_SIZE
from virtio_kit import IN, IOERR, OK, OUT, FakeView, Rig, VectoredFake, request
from waits import SOON

BLOCKS, SIZE = 64, 4 << 20


@pytest.fixture
def direct(tmp_path: Path) -> Iterator[int]:
    """A disk without a cache, every block different."""
    (tmp_path / "direct").write_bytes(np.random.default_rng(5).bytes(BLOCKS * PAGE_SIZE))
    try:
        file = os.open(tmp_path / "direct", os.O_RDWR | os.O_DIRECT)
    except OSError as missing:
        require(False, f"no O_DIRECT here: {missing}")
        return
    yield file
    os.close(file)


@pytest.fixture
def memory() -> Iterator[PrivateMemory]:
    with PrivateMemory(SIZE, "uffd-window") as made:
        made.share(PageRange(0, SIZE // PAGE_SIZE))
        none = made.window.no_queue()
        require(none is None, f"no io_uring here: {none}")
        yield made


def content(direct: int) -> bytes:
    return Path(f"/proc/self/fd/{direct}").read_bytes()


def post(rig: Rig, kind: int, block: int, length: int = PAGE_SIZE, skew: int = 0) -> tuple[int, int]:
    """A request on whole pages; (gpa of the data, of the status)."""
    header, status = rig.arena.take(16), rig.arena.take(1)
    data = rig.arena.take(length + skew, PAGE_SIZE) + skew
    rig.view.write(header, request(kind, block * 8))
    part = [(data, length)]
    out, into = (part, []) if kind == OUT else ([], part)
    rig.drivers[0].add_chain([(header, 16), *out], [*into, (status, 1)])
    return data, status


def columns(*places: tuple[int, int]) -> NDArray[np.int64]:
    return np.array(places, np.int64).T.copy()


def test_a_batch_goes_to_the_disk_at_once(memory: PrivateMemory, direct: int, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(direct)
    rig = Rig(memory.window, disk, size=256)
    asked: list[tuple[int, list[int]]] = []
    real = memory.window.together

    def watched(fd: int, runs: NDArray[Any], places: NDArray[Any], moved: NDArray[Any]) -> int:
        tried = real(fd, runs, places, moved)
        asked.append((tried, moved[:tried].tolist()))
        return tried

    rig.device._queues[0]._transfers._queueing.together = watched  # type: ignore[union-attr, method-assign]
    before = content(direct)
    reads = [(block, *post(rig, IN, block)) for block in range(0, 2 * 30, 2)]
    data, _ = place = post(rig, OUT, 61)
    memory.window.write(data, b"\x5a" * PAGE_SIZE)
    _, used = rig.serve()
    assert len(used) == 31 and asked == [(31, [1] * 31)] and disk.engine == "io_uring"
    for block, data, status in reads:
        assert memory.window.read(status, 1)[0] == OK
        assert memory.window.read(data, PAGE_SIZE) == before[block * PAGE_SIZE : (block + 1) * PAGE_SIZE]
    assert memory.window.read(place[1], 1)[0] == OK
    assert content(direct) == before[: 61 * PAGE_SIZE] + b"\x5a" * PAGE_SIZE + before[62 * PAGE_SIZE :]
    assert not memory._consumers.present, "the pages are still held"


def test_errors_are_each_requests_own(memory: PrivateMemory, direct: int) -> None:
    """In one batch: pages that are not aligned (a bounce), half a block, a good one, one beyond a file cut short."""
    disk = Disk(direct)
    before = content(direct)
    rig = Rig(memory.window, disk, size=64)
    os.ftruncate(direct, 60 * PAGE_SIZE + 512)
    good, skewed = post(rig, IN, 3), post(rig, IN, 5, skew=100)
    short, last = post(rig, IN, 60), post(rig, IN, 7)
    rig.serve()
    statuses = [memory.window.read(status, 1)[0] for _, status in (good, skewed, short, last)]
    assert statuses == [OK, OK, IOERR, OK] and "moved" in str(disk.trouble)
    for (data, _), block in ((good, 3), (skewed, 5), (last, 7)):
        assert memory.window.read(data, PAGE_SIZE) == before[block * PAGE_SIZE : (block + 1) * PAGE_SIZE]


def test_what_overlaps_is_done_in_order(memory: PrivateMemory, direct: int) -> None:
    """Two writes to a block and a read of it, and a flush in between: as one after the other."""
    rig = Rig(memory.window, Disk(direct), size=64)
    for byte in (1, 2):
        data, _ = post(rig, OUT, 9)
        memory.window.write(data, bytes([byte]) * PAGE_SIZE)
    flush, status = rig.arena.take(16), rig.arena.take(1)
    memory.window.write(flush, request(VIRTIO_BLK_T_FLUSH, 0))
    rig.drivers[0].add_chain([(flush, 16)], [(status, 1)])
    data, _ = post(rig, IN, 9)
    last, _ = post(rig, OUT, 9)
    memory.window.write(last, b"\3" * PAGE_SIZE)
    rig.serve()
    assert memory.window.read(data, PAGE_SIZE) == b"\2" * PAGE_SIZE and memory.window.read(status, 1)[0] == OK
    assert content(direct)[9 * PAGE_SIZE : 10 * PAGE_SIZE] == b"\3" * PAGE_SIZE


def test_runs_that_meet_a_write_wait_for_another_submission(memory: PrivateMemory, direct: int) -> None:
    """All orders of a read and a write that overlap by a sector, and reads, which may overlap."""
    places = columns(*((PAGE_SIZE * n, 512) for n in range(3)))
    moved = np.zeros(3, np.uint8)
    for directions, tried in (((0, 0, 0), 3), ((1, 0, 0), 1), ((0, 1, 0), 1), ((0, 0, 1), 2), ((1, 1, 1), 1)):
        runs = np.array([[d, 512, n, n + 1] for n, d in enumerate(directions)], np.int64)
        assert memory.window.together(direct, runs, places, moved) == tried and moved[:tried].all()
    apart = np.array([[1, 512 * n, n, n + 1] for n in range(3)], np.int64)
    assert memory.window.together(direct, apart, places, moved) == 3


@pytest.mark.parametrize("bad", [[4, 0, 1, 2], [0, 0, 1, 1], [0, 0, 2, 3], [1, 0, 3, 4], [-1, 0, 1, 2]], ids=str)
def test_a_run_that_cannot_be_is_not_submitted(memory: PrivateMemory, direct: int, bad: list[int]) -> None:
    window = memory.window
    places = columns((0, 512), (PAGE_SIZE, 512), (SIZE - 256, 512), (-512, 512))
    moved = np.full(2, 7, np.uint8)
    runs = np.array([[0, 0, 0, 1], bad], np.int64)
    tried = window.together(direct, runs, places, moved)
    assert tried in (0, 1) and moved[1] == 7 and not memory._consumers.present
    assert isinstance(window, QueueingView) and window.together(direct, runs[:1], places, moved) == 1


def test_a_private_page_is_not_reached(memory: PrivateMemory, direct: int) -> None:
    """Neither way; the other runs go through."""
    memory.unshare(PageRange(5, 6))
    before, own = content(direct), memory.private_read(5 * PAGE_SIZE, PAGE_SIZE)
    places = columns((0, PAGE_SIZE), (5 * PAGE_SIZE, PAGE_SIZE), (PAGE_SIZE, PAGE_SIZE))
    moved = np.zeros(3, np.uint8)
    for direction in (0, 1):
        runs = np.array([[0, 0, 0, 1], [direction, PAGE_SIZE, 1, 2], [0, 2 * PAGE_SIZE, 2, 3]], np.int64)
        assert memory.window.together(direct, runs, places, moved) == 3 and moved.tolist() == [1, 0, 1]
    assert memory.private_read(5 * PAGE_SIZE, PAGE_SIZE) == own and content(direct) == before


def test_no_page_changes_hands_while_it_is_under_way(
    memory: PrivateMemory, direct: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between submission and completion neither unshare nor punch nor a conversion touches a page of the batch."""
    refused: list[int] = []
    real = uring.together

    def held(*arguments: Any) -> Any:
        changes: list[Callable[[], None]] = [
            lambda: memory.unshare(PageRange(2, 3)),
            lambda: memory.punch(PageRange(3, 4)),
            lambda: memory.convert(to_private=[PageRange(0, 3)]),
        ]
        for change in changes:
            with pytest.raises(Refused) as caught:
                change()
            refused.append(caught.value.errno)
        memory.unshare(PageRange(1, 2))  # of no run
        memory.unshare(PageRange(8, 9))
        return real(*arguments)

    monkeypatch.setattr(uring, "together", held)
    moved = np.zeros(2, np.uint8)
    runs = np.array([[0, 0, 0, 1], [0, 8192, 1, 2]], np.int64)
    places = columns((2 * PAGE_SIZE, PAGE_SIZE), (3 * PAGE_SIZE, PAGE_SIZE))
    assert memory.window.together(direct, runs, places, moved) == 2 and moved.all()
    assert refused == [errno.EAGAIN] * 3
    memory.unshare(PageRange(2, 4))
    assert memory.private_read(2 * PAGE_SIZE, PAGE_SIZE) == content(direct)[:PAGE_SIZE]


def test_a_guest_that_takes_pages_back_all_the_time_is_refused_or_served(memory: PrivateMemory, direct: int) -> None:
    """A thread unshares and shares the page of a read; what it holds private is never changed."""
    stop = threading.Event()
    wrong: list[int] = []
    page = PageRange(40, 41)

    def guest() -> None:
        while not stop.is_set():
            try:
                memory.unshare(page)
            except Refused as refused:
                assert refused.errno == errno.EAGAIN
                continue
            memory.private_write(40 * PAGE_SIZE, b"\xaa" * PAGE_SIZE)
            if memory.private_read(40 * PAGE_SIZE, PAGE_SIZE) != b"\xaa" * PAGE_SIZE:
                wrong.append(1)
            while not memory.is_shared(40):
                with suppress(Refused):  # a read of it is under way, which finds it private
                    memory.share(page)

    thread = threading.Thread(target=guest)
    thread.start()
    runs = np.array([[0, PAGE_SIZE * n, 0, 1] for n in range(8)], np.int64)
    moved = np.zeros(8, np.uint8)
    try:
        for _ in range(50):
            assert memory.window.together(direct, runs, columns((40 * PAGE_SIZE, PAGE_SIZE)), moved) == 8
    finally:
        stop.set()
    thread.join(SOON)
    assert not wrong and not thread.is_alive()


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS, errno.ENOMEM, errno.EMFILE, errno.EINVAL])
def test_without_a_ring_it_goes_one_by_one_and_says_so(
    memory: PrivateMemory, direct: int, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """memory: shows that a ring is to be had; another memory then asks for its first."""
    real = opened

    def denied(name: str, *arguments: int) -> Descriptor:
        if name == "io_uring_setup":
            raise OSError(code, os.strerror(code))
        return real(name, *arguments)

    monkeypatch.setattr(uring, "opened", denied)
    with PrivateMemory(SIZE, memory.backing) as other:
        other.share(PageRange(0, SIZE // PAGE_SIZE))
        disk = Disk(direct)
        rig = Rig(other.window, disk)
        assert disk.engine.startswith(ONE_BY_ONE) and errno.errorcode[code] in disk.engine
        data, status = post(rig, IN, 11)
        rig.serve()
        assert other.window.read(status, 1)[0] == OK
        assert other.window.read(data, PAGE_SIZE) == content(direct)[11 * PAGE_SIZE : 12 * PAGE_SIZE]


def test_a_view_without_such_a_thing_is_named(direct: int, tmp_path: Path) -> None:
    for view in (FakeView(1 << 20), VectoredFake(1 << 20)):
        disk = Disk(direct)
        Rig(view, disk)
        assert disk.engine == f"{ONE_BY_ONE}; no io_uring: the memory has no such thing"
    (tmp_path / "cached").write_bytes(bytes(PAGE_SIZE))
    with (tmp_path / "cached").open("rb") as cached:
        disk = Disk(cached.fileno())
        Rig(FakeView(1 << 20), disk)
        assert disk.engine == ONE_BY_ONE


def test_what_the_kernel_does_not_take_is_taken_out_again(
    memory: PrivateMemory, direct: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """io_uring_enter fails for good: nothing is left in the ring, and it works when the kernel does again."""
    ring = uring.Uring()
    address, size = memory.window.address, memory.window.size
    runs, places, moved = np.array([[0, 0, 0, 1]], np.int64), columns((0, PAGE_SIZE)), np.zeros(1, np.uint8)
    enter, ring._ring[uring.ENTER] = ring._ring[uring.ENTER], 1 << 20  # no such system call
    for _ in range(3):
        assert ring.together(direct, address, size, runs, places, moved) == 0
    ring._ring[uring.ENTER] = enter
    assert ring.together(direct, address, size, runs, places, moved) == 1 and moved[0] == 1
    with pytest.raises(ValueError, match="room for 1 answers"):
        ring.together(direct, address, size, np.repeat(runs, 2, 0), places, moved)
    ring.close()
    ring.close()


def test_a_ring_is_closed_with_its_memory_and_not_in_a_forked_child(memory: PrivateMemory, direct: int) -> None:
    def rings() -> int:
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        return sum("io_uring" in os.readlink(link) for link in links if os.path.lexists(link))

    ours = rings()
    assert ours >= 1
    child = os.fork()
    if not child:
        os._exit(rings())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == ours - 1
    runs, moved = np.array([[0, 0, 0, 1]], np.int64), np.zeros(1, np.uint8)
    assert memory.window.together(direct, runs, columns((0, PAGE_SIZE)), moved) == 1 and moved[0]
    memory.close()
    assert rings() == ours - 1


def test_the_entries_are_what_the_header_says() -> None:
    assert (uring._SQE, uring._CQE, uring._DATA, ctypes.sizeof(io_uring.io_uring_params)) == (64, 16, 32, 120)
