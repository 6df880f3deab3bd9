"""A memory goes to fresh frames under its guest: nothing that anybody may see changes, and the old frames are empty."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from guest_kit import SmallDevice, random_disk, random_program, trace
from kept_kit import content, guest_reads, guest_writes, kept
from kvm_kit import machine
from pagewarden.guest.listing import assemble
from pagewarden.guest.program import image
from pagewarden.guest.serve import Guest, serve
from pagewarden.guest.unicorn_cpu import UnicornCpu
from pagewarden.guest.warden import Warden
from pagewarden.kernel.door import memfd
from pagewarden.kernel.kvm import Vm
from pagewarden.kernel.region import Region
from pagewarden.memory import (
    PAGE_SIZE,
    PageRange,
    PrivateAccess,
    PrivateMemory,
    Refused,
    Unavailable,
    UserMistake,
    fresh_frames,
    migrate,
)  # fmt: skip
from pagewarden.port import Cpu
from waits import SOON, in_time

PAGES = 24


@pytest.fixture
def memory() -> Iterator[PrivateMemory]:
    with PrivateMemory(PAGES * PAGE_SIZE, "uffd-window") as made:
        made.populate(0, b"".join(map(content, range(PAGES - 2))))
        made.share(PageRange(3, 5))
        made.window.write(4 * PAGE_SIZE, b"host")
        yield made


def _as_it_was(memory: PrivateMemory, before: bytes) -> None:
    assert memory.private_read(0, memory.size) == before
    assert [*memory.shared_runs()] == [PageRange(3, 5)]
    assert memory.window.read(4 * PAGE_SIZE, 6) == b"host" + content(4)[4:6]
    for page in (0, 2, 5, PAGES - 1):
        with pytest.raises(PrivateAccess):
            memory.window.read(page * PAGE_SIZE, 1)
    memory.window.write(3 * PAGE_SIZE, b"both")
    assert guest_reads(memory, 3)[:4] == b"both"
    guest_writes(memory, 3, content(3)[:4])
    assert memory.window.read(3 * PAGE_SIZE, 4) == content(3)[:4]


@pytest.mark.parametrize("another", [False, True], ids=["fresh frames", "another file"])
def test_everything_stays_but_the_frames(memory: PrivateMemory, another: bool) -> None:
    before, address, number = memory.private_read(0, memory.size), memory.guest_address, memory.file
    old, inode = os.dup(number), os.fstat(number).st_ino
    for _ in range(2):
        file = memfd("another", memory.size) if another else None
        migrate(memory, None if file is None else file.fd)
        if file is not None:
            assert os.fstat(memory.file).st_ino == os.fstat(file.fd).st_ino
            file.close()
        _as_it_was(memory, before)
    assert (memory.guest_address, memory.file) == (address, number) and os.fstat(number).st_ino != inode
    assert os.fstat(old).st_blocks == 0 and not any(os.pread(old, memory.size, 0))
    os.close(old)
    memory.convert(to_private=[PageRange(3, 5)], to_shared=[PageRange(8, 9)])
    assert memory.window.read(8 * PAGE_SIZE, 8) == content(8)[:8]


def test_a_page_in_use_or_a_kept_memory_stays(memory: PrivateMemory, tmp_path: Path) -> None:
    before = memory.private_read(0, memory.size)
    with memory.hold(PageRange(4, 5)), pytest.raises(Refused) as refusal:
        migrate(memory)
    assert (refusal.value.errno, refusal.value.offset) == (errno.EBUSY, 4 * PAGE_SIZE)
    with kept(tmp_path / "swap") as other, pytest.raises(Refused) as refusal:
        migrate(other)
    assert refusal.value.errno == errno.EBUSY
    with PrivateMemory(PAGE_SIZE, "memfd") as plain, pytest.raises(Unavailable):
        migrate(plain)
    for size, data in ((PAGE_SIZE, b""), (memory.size, b"x")):
        with memfd("other", size) as wrong:
            os.pwrite(wrong.fd, data, 0)
            with pytest.raises(UserMistake):
                migrate(memory, wrong.fd)
    _as_it_was(memory, before)


@pytest.mark.parametrize("what", ["preadv", "mremap", "place"])
def test_what_fails_changes_nothing(memory: PrivateMemory, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    before, inode = memory.private_read(0, memory.size), os.fstat(memory.file).st_ino

    def fails(*_: object) -> int:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with monkeypatch.context() as patch:
        if what == "place":
            patch.setattr(Region, "keep_to_this_process", fails)
        else:
            patch.setattr(*((os, what) if what == "preadv" else (fresh_frames, "syscall")), fails)
        with pytest.raises(Refused) as refusal:
            migrate(memory)
    assert refusal.value.errno == errno.ENOMEM and os.fstat(memory.file).st_ino == inode
    _as_it_was(memory, before)
    migrate(memory)
    _as_it_was(memory, before)


def test_who_writes_meanwhile_is_not_lost(memory: PrivateMemory) -> None:
    """A guest and a host that write all the time, and conversions, while the memory moves again and again."""
    end, turns = threading.Event(), [0, 0]

    def guest() -> int:
        turn = 0
        while not end.is_set():
            turn += 1
            guest_writes(memory, 10 + turn % 8, turn.to_bytes(8, "little"))
            back = guest_reads(memory, 10 + turn % 8)
            assert back[:8] == turn.to_bytes(8, "little")
            turns[0] = turn
        return turn

    def host() -> int:
        turn = 0
        while not end.is_set():
            turn += 1
            memory.share(PageRange(20, 21))
            memory.window.write(20 * PAGE_SIZE, turn.to_bytes(8, "little"))
            assert memory.window.read(20 * PAGE_SIZE, 8) == turn.to_bytes(8, "little")
            memory.unshare(PageRange(20, 21))
            turns[1] = turn
        return turn

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(guest), pool.submit(host)]
        for _ in range(20):
            seen = list(turns)
            migrate(memory)
            while turns[0] == seen[0] and turns[1] == seen[1] and not any(each.done() for each in both):
                pass
        end.set()
        last = [each.result() for each in both]
    assert guest_reads(memory, 10 + last[0] % 8)[:8] == last[0].to_bytes(8, "little")
    assert memory.private_read(20 * PAGE_SIZE, 8) == last[1].to_bytes(8, "little")


def test_the_host_reaches_no_page_while_it_is_copied(memory: PrivateMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its accessors ask then, and wait: what they wrote to the old file would be lost."""
    preadv, window, open_ = os.preadv, memory._backing.window, list[bool]()
    assert window is not None and window.is_mapped(3 * PAGE_SIZE, 2 * PAGE_SIZE)

    def copies(fd: int, buffers: list[memoryview], at: int) -> int:
        open_.append(any(window.is_mapped(page * PAGE_SIZE, PAGE_SIZE) for page in range(PAGES)))
        return preadv(fd, buffers, at)

    monkeypatch.setattr(os, "preadv", copies)
    migrate(memory)
    assert open_ == [False]


def test_a_write_after_its_page_was_copied_is_not_lost(memory: PrivateMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits in the kernel until the page is in its new place."""
    preadv, numbers, threads = os.preadv, list[int](), list[threading.Thread]()

    def late() -> None:
        numbers.append(threading.get_native_id())
        guest_writes(memory, 7, b"late")

    def waits() -> bool:
        if not numbers or not threads[0].is_alive():
            return bool(numbers)
        return "handle_userfault" in Path(f"/proc/self/task/{numbers[0]}/stack").read_text()

    def copies(fd: int, buffers: list[memoryview], at: int) -> int:
        done = preadv(fd, buffers, at)
        threads.append(threading.Thread(target=late))
        threads[0].start()
        assert in_time(waits)
        return done

    if not Path("/proc/self/stack").exists() or os.geteuid():
        pytest.skip("/proc/PID/stack, which says what a thread waits for, is root's (CONFIG_STACKTRACE)")
    monkeypatch.setattr(os, "preadv", copies)
    migrate(memory)
    threads[0].join()
    assert guest_reads(memory, 7)[:4] == b"late"


def _runs(cpu_of: Callable[[PrivateMemory], Cpu]) -> None:
    """A guest does its I/O, and at each doorbell its memory begins to move."""
    disk = random_disk(3)
    described = random_program("window", disk)
    code = assemble(described)
    asked, done, over, moved = threading.Semaphore(0), threading.Semaphore(1), threading.Event(), [0]
    with PrivateMemory(described.layout.size, "uffd-window") as memory:
        for gpa, data in image(described, code.content):
            memory.populate(gpa, data)
        device = SmallDevice(memory.window, described.layout, bytearray(disk))

        def mover() -> None:
            asked.acquire()
            while not over.is_set():
                try:
                    migrate(memory)
                finally:
                    done.release()
                moved[0] += 1
                asked.acquire()

        def doorbell(queue: int) -> None:
            assert done.acquire(timeout=SOON), "the move that the last one began"
            asked.release()
            device.process(queue)

        thread = threading.Thread(target=mover)
        thread.start()
        try:
            cpu = cpu_of(memory)
            outcome = serve(Guest(cpu, code, Warden(memory, [described], doorbell), described.outs))
        finally:
            over.set()
            asked.release()
            thread.join()
        assert outcome.failures == 0 and outcome.requests == len(described.requests) and moved[0] > 1
        end, shared = described.layout.end, described.layout.shared
        assert memory.private_read(shared, end - shared) == trace(described, disk, None).memory[shared:]
        cpu.close()


def test_an_emulated_guest_runs_on() -> None:
    pytest.importorskip("unicorn")
    _runs(lambda memory: UnicornCpu(memory.guest_address, memory.size))


def test_a_kvm_guest_runs_on(vm: Vm) -> None:
    made = []

    def cpu(memory: PrivateMemory) -> Cpu:
        made.append(machine(vm, memory))
        return made[0].cpus[0]

    try:
        _runs(cpu)
    finally:
        for each in made:
            each.close()
