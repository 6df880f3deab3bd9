"""Each I/O path's host half on a real file: bytes arrive, and the kernel counts what the design says."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from deep import alone
from leftovers import descriptors
from pagewarden.designs import DESIGNS, Options
from pagewarden.kernel.counters import Counters
from pagewarden.kernel.region import Region
from pagewarden.law import POLICIES
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateAccess, PrivateMemory
from pagewarden.sim import Counts, Machine
from pagewarden.studies.run import host_half
from pagewarden.studies.run.host_half import PIPE_SIZE, HostHalf, Request
from pagewarden.vocab import Event, Refused

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
@alone
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


CALLS: list[tuple[object, str]] = [(os, "preadv"), (os, "pwrite"), (os, "splice"), (os, "pipe")]
CALLS += [(host_half, "syscall"), (Region, "place"), (Region, "bar")]
"""What the host half asks of the kernel."""
MOVING = ("preadv", "pwrite", "splice")


class Broken:
    """The n-th call of them all goes wrong: it fails, is done and then fails, or moves half. met: what that was."""

    def __init__(self, number: int, how: str) -> None:
        self.left, self.how, self.met = number, how, ""

    def around(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left != 0:
                return real(*arguments, **named)
            self.met = name
            if self.how == "half" and name in MOVING:
                return real(*_halved(name, arguments))
            if self.how == "after" and name in MOVING:
                real(*arguments)
            raise OSError(errno.ENOSPC, name)

        return called

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in CALLS:
                patch.setattr(owner, name, self.around(name, getattr(owner, name)))
            yield


def _halved(name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if name == "splice":
        return (*arguments[:2], arguments[2] // 2, *arguments[3:])
    data = arguments[1][0] if name == "preadv" else arguments[1]
    half = memoryview(data)[: len(data) // 2]
    return arguments[0], [half] if name == "preadv" else half, arguments[2]


def held_and_open(half: HostHalf) -> tuple[int, int]:
    """Mappings of the memory's file, and this process's descriptors."""
    inode = f" {os.fstat(half.memory.file).st_ino} "
    return Path("/proc/self/maps").read_text().count(inode), descriptors()


@pytest.mark.parametrize("how", ["before", "after", "half"])
@pytest.mark.parametrize("to_file", [True, False])
@pytest.mark.parametrize("design", DESIGNS)
def test_what_failed_leaves_nothing_to_the_next(half: HostHalf, design: str, to_file: bool, how: str) -> None:
    """Every system call of a request goes wrong once; the requests after it carry their own bytes and nothing else."""
    memory, pages, length = half.memory, PageRange(0, 12), 4 * PAGE_SIZE
    descriptors(sweep=True)
    before, number, met = held_and_open(half), 0, list[str]()
    while True:
        number += 1
        broken = Broken(number, how)
        memory.private_write(0, os.urandom(12 * PAGE_SIZE))
        memory.share(pages)
        moved = None
        with broken.at_work(), suppress(OSError):
            moved = half.paths[design](Request(0, length, 0, to_file)).moved
        if moved is not None:  # what it says has moved has
            assert os.pread(half.disk, moved, 0) == memory.private_read(0, moved)
        for page in (4, 8):
            request = Request(page * PAGE_SIZE, length, page * PAGE_SIZE, to_file)
            wanted = memory.private_read(request.offset, length) if to_file else disk_bytes(half, request)
            assert half.paths[design](request).moved == length
            assert disk_bytes(half, request) == memory.private_read(request.offset, length) == wanted
        memory.unshare(pages)  # nothing is held
        assert held_and_open(half) == before
        if not broken.met:
            break
        met.append(broken.met)
    wanted_calls = {"splice": {"splice"}, "remap": {"place", "syscall", "bar"}}
    assert set(met) == wanted_calls.get(design, {"pwrite", "preadv"} if design == "pread" else set(met)) and met


def test_what_cannot_be_unmapped_stays_held(half: HostHalf) -> None:
    """The host's mapping of a page outlives its request only while the page cannot turn private."""
    half.memory.share(PageRange(0, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Region, "bar", Broken(1, "before").around("bar", Region.bar))
        with pytest.raises(OSError, match="bar"):
            half.remapped(Request(0, PAGE_SIZE, 0, True))
    with pytest.raises(Refused, match="EAGAIN"):
        half.memory.unshare(PageRange(0, 1))
    half.remapped(Request(0, PAGE_SIZE, 0, True))
    half.memory.unshare(PageRange(0, 1))


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOMEM])
def test_a_pipe_smaller_than_asked_for_takes_more_turns(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fs.pipe-user-pages-soft is used up: this user's pipes have the size that they are given."""
    real = fcntl.fcntl

    def refusing(fd: int, request: int, argument: int = 0) -> int:
        if request == fcntl.F_SETPIPE_SZ:
            raise OSError(error, os.strerror(error))
        return int(real(fd, request, argument))

    monkeypatch.setattr(fcntl, "fcntl", refusing)
    length = 256 << 10
    with PrivateMemory(length, "memfd") as memory, (tmp_path / "disk").open("w+b") as disk:
        memory.populate(0, os.urandom(length))
        memory.share(PageRange(0, length // PAGE_SIZE))
        with HostHalf(memory, disk.fileno(), length) as host:
            done = host.spliced(Request(0, length, 0, True))
        assert done.moved == length and done.access_syscalls > 1
        assert os.pread(disk.fileno(), length, 0) == memory.private_read(0, length)


def test_the_pipe_is_given_back(tmp_path: Path) -> None:
    before = descriptors(sweep=True)
    with PrivateMemory(PAGE_SIZE, "memfd") as memory, HostHalf(memory, 0, PAGE_SIZE):
        pass
    assert descriptors() == before
