"""Memory under a limit: the right bytes come back, or none; the host's file is not trusted."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kept_kit import PAGES, change, content, filled, guest_reads, guest_writes, kept
from leftovers import descriptors
from pagewarden.keep import KeptMemory
from pagewarden.keep.seal import SLOT, SWAP, Slots
from pagewarden.kernel.door import syscall
from pagewarden.kernel.files import Pipe
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateAccess, Refused, Unavailable, UserMistake

LIMIT = 16

KEY = bytes(range(32))


@pytest.fixture
def swap(tmp_path: Path) -> Path:
    return tmp_path / "swap"


@pytest.fixture(params=["uffd-window", "uffd-rwp"])
def mem(request: pytest.FixtureRequest, swap: Path) -> Iterator[KeptMemory]:
    with kept(swap, backing=request.param, limit=LIMIT * PAGE_SIZE) as memory:
        filled(memory)
        yield memory


def test_what_the_guest_touches_comes_back_and_the_limit_holds(mem: KeptMemory) -> None:
    for page in [*range(PAGES), *range(PAGES - 1, -1, -1), 5, 70, 6, 5]:
        assert guest_reads(mem, page) == content(page)
        assert mem.resident <= LIMIT * PAGE_SIZE
    guest_writes(mem, 3, b"guest")
    mem.swap_out(PageRange(0, PAGES))
    assert (mem.resident, mem.swapped) == (0, PAGES * PAGE_SIZE)
    assert os.fstat(mem.file).st_blocks == 0
    assert mem.private_read(3 * PAGE_SIZE, 8) == b"guest" + content(3)[5:8]
    assert mem.private_read(0, mem.size)[4 * PAGE_SIZE :] == b"".join(map(content, range(4, PAGES)))


def test_nothing_that_the_guest_wrote_is_in_the_file(mem: KeptMemory, swap: Path) -> None:
    mem.swap_out(PageRange(0, PAGES))
    data = swap.read_bytes()
    assert len(data) == len(SWAP) + PAGES * SLOT
    assert not any(content(page)[:16] in data for page in range(PAGES))
    assert mem._residence.versions.itemsize + mem._residence.state.itemsize <= 16  # bytes a page, in all


def test_what_a_page_came_through_keeps_nothing_of_it(mem: KeptMemory, tmp_path: Path) -> None:
    mem.swap_out(PageRange(0, PAGES))
    mem.prefetch(PageRange(0, LIMIT))
    mem.snapshot(tmp_path / "snapshot", bytes(32))
    assert mem.resident and not any(mem._residence._pages)


def test_a_page_that_cannot_be_put_in_place_leaves_nothing_of_it(
    mem: KeptMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: int) -> int:
        raise OSError(errno.ENOMEM, "no room")

    mem.swap_out(PageRange(0, PAGES))
    with monkeypatch.context() as patch:
        patch.setattr(mem._residence._fault, "copy", full)
        with pytest.raises(OSError, match="no room"):
            mem.prefetch(PageRange(0, LIMIT))
    assert not any(mem._residence._pages)
    assert guest_reads(mem, 3) == content(3)


def test_a_page_that_was_never_touched_is_zeroes_and_costs_nothing(swap: Path) -> None:
    with kept(swap, limit=LIMIT * PAGE_SIZE) as memory:
        assert guest_reads(memory, 50) == bytes(PAGE_SIZE)
        assert memory.resident == PAGE_SIZE and memory.traffic()["came"] == 0


def test_a_shared_page_is_always_there_and_a_private_one_never_answers(mem: KeptMemory) -> None:
    mem.swap_out(PageRange(0, PAGES))
    mem.share(PageRange(0, LIMIT * 2))
    assert mem.resident == 0
    assert mem.window.read(9 * PAGE_SIZE, PAGE_SIZE) == content(9)
    mem.window.write(9 * PAGE_SIZE, b"host")
    assert mem.swap_out(PageRange(0, PAGES)) == 0
    assert guest_reads(mem, 90) == content(90)
    with pytest.raises(PrivateAccess):
        mem.window.read(90 * PAGE_SIZE, 1)
    mem.convert(to_private=[PageRange(0, LIMIT * 2)], to_shared=[PageRange(90, 91)])
    assert mem.resident <= LIMIT * PAGE_SIZE
    assert guest_reads(mem, 9)[:8] == b"host" + content(9)[4:8]
    assert mem.window.read(90 * PAGE_SIZE, 8) == content(90)[:8]


def test_a_punched_page_is_zeroes_wherever_it_was(mem: KeptMemory) -> None:
    mem.swap_out(PageRange(0, 2))
    mem.share(PageRange(2, 3))
    guest_reads(mem, 3)
    mem.punch(PageRange(0, 4))
    assert [guest_reads(mem, page) for page in range(4)] == [bytes(PAGE_SIZE)] * 4
    mem.swap_out(PageRange(0, 4))
    assert [guest_reads(mem, page) for page in range(4)] == [bytes(PAGE_SIZE)] * 4
    assert mem.resident <= LIMIT * PAGE_SIZE


def test_what_is_used_stays(mem: KeptMemory) -> None:
    """One page in use between all the others: the hand leaves it, while by age alone it would go in every round."""
    guest_reads(mem, 0)
    before = mem._residence.versions[0]
    for page in 5 * [*range(1, PAGES)]:
        guest_reads(mem, page)
        guest_reads(mem, 0)
    assert mem._residence.versions[0] <= before + 1


@pytest.mark.parametrize("attack", ["flipped", "tag", "exchanged", "old", "zeroes", "truncated"])
def test_a_copy_that_is_not_the_one_written_last_is_refused(mem: KeptMemory, swap: Path, attack: str) -> None:
    page = 40
    mem.swap_out(PageRange(0, PAGES))
    older = swap.read_bytes()[len(SWAP) + page * SLOT :][:SLOT]
    guest_writes(mem, page, b"new")
    mem.swap_out(PageRange(0, PAGES))
    change(swap, attack, page, older)
    with pytest.raises(Refused) as refusal:
        mem.private_read(page * PAGE_SIZE, 1)
    assert refusal.value.errno == errno.EBADMSG and refusal.value.offset == page * PAGE_SIZE
    assert ("truncated" in str(refusal.value)) == (attack == "truncated")
    with pytest.raises(Refused):
        mem.share(PageRange(page, page + 1))
    assert not mem.is_shared(page)
    assert guest_reads(mem, page - 1) == content(page - 1)


def test_the_same_page_of_another_memory_is_refused(mem: KeptMemory, swap: Path, tmp_path: Path) -> None:
    with kept(tmp_path / "other") as other:
        filled(other)
        other.swap_out(PageRange(0, PAGES))
        mem.swap_out(PageRange(0, PAGES))
        swap.write_bytes((tmp_path / "other").read_bytes())
        with pytest.raises(Refused):
            mem.private_read(0, 1)


def test_the_guest_meets_poison_in_place_of_a_refused_page(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys; from kept_kit import *; from pagewarden.memory import PageRange\n"
        "path = pathlib.Path(sys.argv[1]); mem = kept(path); filled(mem); mem.swap_out(PageRange(0, PAGES))\n"
        "change(path, 'flipped', 40); guest_reads(mem, 39); print('before', flush=True); guest_reads(mem, 40)\n"
        "print('after', flush=True)"
    )
    kits = os.pathsep.join(path for path in sys.path if path)
    ended = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "swap"], env={**os.environ, "PYTHONPATH": kits}, capture_output=True
    )
    if b"Unavailable" in ended.stderr or b"Skipped" in ended.stderr:
        kept(tmp_path / "again").close()  # skips for the same reason
    assert (ended.returncode, ended.stdout) == (-signal.SIGBUS, b"before\n"), ended.stderr


def test_where_the_file_takes_no_more_nothing_is_lost(mem: KeptMemory) -> None:
    """EFBIG of a limit on files, which a full disk (ENOSPC) goes by, too: write(2) says no."""
    mem.prefetch(PageRange(0, LIMIT))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(Refused) as refusal:
            mem.swap_out(PageRange(0, PAGES))
        for page in range(PAGES):
            assert guest_reads(mem, page) == content(page)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert refusal.value.errno == errno.EFBIG
    assert mem.resident == PAGES * PAGE_SIZE
    assert mem.swap_out(PageRange(0, PAGES)) == PAGES
    assert mem.private_read(0, 8) == content(0)[:8]


def test_a_disk_that_fails_is_named(mem: KeptMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    mem.swap_out(PageRange(0, PAGES))
    monkeypatch.setattr(os, "preadv", fails)
    with pytest.raises(Refused, match="cannot be read"):
        mem.private_read(0, 1)
    monkeypatch.undo()
    assert mem.private_read(0, 8) == content(0)[:8]


def test_a_write_while_the_page_goes_is_not_lost(mem: KeptMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    put, server = Slots.put, mem._server
    guest_reads(mem, 7)
    with ThreadPoolExecutor(1) as pool:

        def while_it_is_written(slots: Slots, *given: Any) -> None:
            faults = server.faults
            writer = pool.submit(guest_writes, mem, 7, b"late")
            while server.faults == faults and not writer.done():
                pass
            put(slots, *given)

        monkeypatch.setattr(Slots, "put", while_it_is_written)
        assert mem.swap_out(PageRange(7, 8)) == 1
        monkeypatch.undo()
    assert mem.private_read(7 * PAGE_SIZE, 4) == b"late"


def test_many_at_once(mem: KeptMemory) -> None:
    """Guests that write their own pages, a warden that reads, and a host that takes pages away, all the time."""

    def guest(number: int) -> None:
        mine = range(number, PAGES, 4)
        for turn in range(1, 30):
            for page in mine:
                before = guest_reads(mem, page)
                assert before == (bytes([turn - 1]) * PAGE_SIZE if turn > 1 else content(page))
                guest_writes(mem, page, bytes([turn]) * PAGE_SIZE)

    with ThreadPoolExecutor(4) as pool:
        guests = [pool.submit(guest, number) for number in range(4)]
        while not all(each.done() for each in guests):
            mem.swap_out(PageRange(0, PAGES // 2))
            assert len(set(mem.private_read(PAGE_SIZE // 2, 1))) == 1
        for each in guests:
            each.result()
    assert mem.private_read(0, mem.size) == bytes([29]) * mem.size
    assert mem.trouble is None


def test_mistakes_are_named(swap: Path, tmp_path: Path) -> None:
    with pytest.raises(UserMistake):
        KeptMemory(PAGE_SIZE, limit=PAGE_SIZE)
    with pytest.raises(UserMistake):
        kept(swap, backing="memfd")
    with kept(swap), pytest.raises(Refused) as refusal:
        kept(swap)
    assert refusal.value.errno == errno.EBUSY
    (tmp_path / "link").symlink_to(swap)
    with pytest.raises(OSError):
        kept(tmp_path / "link")
    assert not swap.exists()


@pytest.mark.parametrize("what", ["Residence", "FaultServer", "Userfault"])
def test_one_that_cannot_be_made_leaves_nothing(what: str, swap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No swap file, no descriptor: sealing is not installed, a thread does not start, userfaultfd is refused."""

    def lacks(*arguments: object, **named: object) -> None:
        raise Unavailable("something", "have it")

    kept(swap).close()
    before = descriptors(sweep=True)
    with monkeypatch.context() as patch:
        patch.setattr(f"pagewarden.keep.kept.{what}", lacks)
        with pytest.raises(Unavailable, match="something"):
            KeptMemory(PAGE_SIZE, limit=PAGE_SIZE, swap=swap)
    assert not swap.exists()
    assert descriptors(sweep=True) == before


def test_a_file_that_is_no_swap_file_is_left_alone(mem: KeptMemory, swap: Path, tmp_path: Path) -> None:
    """Nor is what took the swap file's path meanwhile."""
    (own := tmp_path / "thesis").write_text("years of work")
    with pytest.raises(Refused, match="thesis is no swap file: it was left alone"):
        kept(own)
    assert own.read_text() == "years of work"
    mem.swap_out(PageRange(0, PAGES))
    mem.snapshot(swap, KEY)
    with pytest.raises(Refused, match="is no swap file"):
        KeptMemory.restored(swap, KEY, limit=PAGE_SIZE, swap=swap)
    mem.close()
    again, _ = KeptMemory.restored(swap, KEY)
    with again:
        assert again.private_read(PAGE_SIZE, PAGE_SIZE) == content(1)


def test_a_swap_file_that_was_left_behind_is_taken(tmp_path: Path) -> None:
    (left := tmp_path / "left").write_bytes(SWAP + bytes(SLOT))
    with kept(left):
        assert left.stat().st_size == 0
    assert not left.exists()


def test_a_forked_child_has_nothing_and_takes_nothing(mem: KeptMemory, swap: Path) -> None:
    mem.swap_out(PageRange(0, PAGES))
    if not (child := os.fork()):
        with suppress(BaseException):
            mem.close()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert swap.exists() and guest_reads(mem, 1) == content(1)


def test_a_refused_page_is_poison_while_writes_are_followed_too(tmp_path: Path) -> None:
    with kept(tmp_path / "swap", ahead=1) as mem:
        filled(mem)
        mem.swap_out(PageRange(20, 21))
        change(tmp_path / "swap", "flipped", 20)
        mem._residence.follow(True)  # marks of protection lie where no page is
        met: list[int] = []

        def reads() -> None:
            pipe = Pipe(PAGE_SIZE)
            try:
                syscall("write", pipe.transmit, mem.guest_address + 20 * PAGE_SIZE, 8)
            except OSError as error:
                met.append(error.errno or 0)
            pipe.close()

        thread = threading.Thread(target=reads, daemon=True)
        thread.start()
        thread.join(10)
        assert met == [errno.EFAULT] and 20 in mem.refused
