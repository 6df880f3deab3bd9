"""Snapshots: whole or not there, restored page by page, and what the host changes in them is refused."""

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kept_kit import PAGES, content, filled, guest_reads, guest_writes, kept
from pagewarden.keep import KeptMemory
from pagewarden.keep.seal import SLOT
from pagewarden.keep.snapshot import KEY, Snapshot
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateAccess, Refused, UserMistake

SECRET = bytes(range(KEY))
LIMIT = 16
HOLES = 3
"""Pages at the end that nobody has touched."""

STATE = b"registers of a CPU"
"""So long that no sealed bytes look like it."""


@pytest.fixture
def taken(tmp_path: Path) -> Path:
    """Of a memory of which half is away and some is shared."""
    path = tmp_path / "snapshot"
    with kept(tmp_path / "swap", limit=LIMIT * PAGE_SIZE) as mem:
        filled(mem, PAGES - HOLES)
        mem.share(PageRange(4, 6))
        mem.snapshot(path, SECRET, STATE)
        assert guest_reads(mem, 7) == content(7)
        guest_writes(mem, 7, b"later")  # the guest goes on
    return path


@pytest.fixture
def mem(taken: Path, tmp_path: Path) -> Iterator[KeptMemory]:
    memory, state = KeptMemory.restored(taken, SECRET, limit=LIMIT * PAGE_SIZE, swap=tmp_path / "next", ahead=2)
    with memory:
        assert state == STATE
        yield memory


def expected(page: int) -> bytes:
    return content(page) if page < PAGES - HOLES else bytes(PAGE_SIZE)


def test_what_is_restored_is_what_was_there(mem: KeptMemory) -> None:
    assert mem.resident == 0 and mem.traffic()["came"] == 2  # the shared ones
    assert [*mem.shared_runs()] == [PageRange(4, 6)]
    assert mem.window.read(5 * PAGE_SIZE, 8) == content(5)[:8]
    with pytest.raises(PrivateAccess):
        mem.window.read(6 * PAGE_SIZE, 1)
    for page in [*range(PAGES - 1, -1, -1), *range(PAGES)]:
        assert guest_reads(mem, page) == expected(page)
        assert mem.resident <= LIMIT * PAGE_SIZE


def test_a_restored_memory_is_saved_again_wherever_its_pages_are(mem: KeptMemory, tmp_path: Path) -> None:
    guest_writes(mem, 20, b"changed")
    mem.swap_out(PageRange(20, 21))
    mem.punch(PageRange(30, 31))
    mem.snapshot(tmp_path / "again", SECRET)
    again, state = KeptMemory.restored(tmp_path / "again", SECRET, lazy=False)
    with again:
        assert not state and again.resident == (PAGES - HOLES - 3) * PAGE_SIZE  # two are shared, one is punched
        assert guest_reads(again, 20) == b"changed" + content(20)[7:]
        assert guest_reads(again, 30) == bytes(PAGE_SIZE)
        assert guest_reads(again, 50) == content(50)


def test_a_recorded_set_comes_ahead_of_use(taken: Path) -> None:
    touched = [3, 90, 17, 18, 60, 61, 62, 44]
    first, _ = KeptMemory.restored(taken, SECRET, ahead=1)
    with first:
        order = first.record()
        for page in touched:
            guest_reads(first, page)
        assert order == touched and first.traffic()["faults"] == len(touched)
    second, _ = KeptMemory.restored(taken, SECRET)
    with second:
        second.replay(order)
        for page in touched:
            assert guest_reads(second, page) == content(page)
        assert second.traffic()["faults"] == 0
        with pytest.raises(ValueError, match="do not lie"):
            second.replay([PAGES])


def _changed(data: bytearray, attack: str) -> bytes:
    start, page = PAGE_SIZE, 40
    slot = slice(start + page * SLOT, start + (page + 1) * SLOT)
    if attack == "page flipped":
        data[slot.start + 5] ^= 1
    elif attack == "pages exchanged":
        data[slot] = data[slot.stop : slot.stop + SLOT]
    elif attack == "manifest flipped":
        data[-20] ^= 1
    elif attack == "size in the head":
        data[32 + 2] ^= 1
    elif attack == "truncated":
        del data[-1:]
    elif attack == "only a head":
        del data[40:]
    elif attack == "no snapshot":
        data[:4] = b"none"
    return bytes(data)


@pytest.mark.parametrize("attack", ["page flipped", "pages exchanged"])
def test_a_changed_page_is_refused_and_the_others_are_right(taken: Path, attack: str) -> None:
    taken.write_bytes(_changed(bytearray(taken.read_bytes()), attack))
    memory, _ = KeptMemory.restored(taken, SECRET)
    with memory:
        with pytest.raises(Refused) as refusal:
            memory.private_read(40 * PAGE_SIZE, 1)
        assert refusal.value.errno == errno.EBADMSG and refusal.value.offset == 40 * PAGE_SIZE
        assert guest_reads(memory, 41) == content(41)
        with pytest.raises(Refused):
            memory.prefetch(PageRange(0, PAGES))
    with pytest.raises(Refused):
        KeptMemory.restored(taken, SECRET, lazy=False)


@pytest.mark.parametrize("attack", ["manifest flipped", "size in the head", "truncated", "only a head", "no snapshot"])
def test_a_changed_file_is_refused_as_a_whole(taken: Path, attack: str) -> None:
    taken.write_bytes(_changed(bytearray(taken.read_bytes()), attack))
    with pytest.raises(Refused) as refusal:
        KeptMemory.restored(taken, SECRET)
    assert refusal.value.errno == errno.EBADMSG and str(taken) in str(refusal.value)


def test_a_page_of_an_older_snapshot_is_refused(mem: KeptMemory, taken: Path, tmp_path: Path) -> None:
    mem.snapshot(newer := tmp_path / "newer", SECRET, STATE)
    data, old = bytearray(newer.read_bytes()), taken.read_bytes()
    assert len(data) == len(old)
    data[PAGE_SIZE : PAGE_SIZE + SLOT] = old[PAGE_SIZE : PAGE_SIZE + SLOT]
    newer.write_bytes(data)
    memory, _ = KeptMemory.restored(newer, SECRET)
    with memory, pytest.raises(Refused):
        memory.private_read(0, 1)


def test_another_key_opens_nothing(taken: Path) -> None:
    with pytest.raises(Refused, match="not sealed by this key"):
        Snapshot(taken, bytes(KEY))
    with pytest.raises(UserMistake):
        Snapshot(taken, b"short")
    data = taken.read_bytes()
    assert not any(content(page)[:16] in data for page in range(PAGES)) and STATE not in data


def test_where_the_disk_takes_no_more_the_old_snapshot_stays(mem: KeptMemory, taken: Path) -> None:
    before, limits = taken.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (0, PAGE_SIZE + 10 * SLOT, len(before) - 5 - len(STATE)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            with pytest.raises(OSError) as refusal:
                mem.snapshot(taken, SECRET)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert refusal.value.errno == errno.EFBIG
    assert taken.read_bytes() == before
    assert not [name for name in os.listdir(taken.parent) if name.startswith(".")]
    guest_writes(mem, 9, b"goes on")


KILLED = (
    "import os, pathlib, sys; from kept_kit import *; from pagewarden.keep.seal import Slots\n"
    "folder, point = pathlib.Path(sys.argv[1]), int(sys.argv[2])\n"
    "passed = [0]\n"
    "def at(call):\n"
    "    def counted(*given):\n"
    "        passed[0] += 1\n"
    "        if passed[0] == point: os.kill(os.getpid(), 9)\n"
    "        return call(*given)\n"
    "    return counted\n"
    "with kept(folder / 'third') as mem:\n"
    "    filled(mem)\n"
    "    Slots.put, os.pwrite, os.fsync, os.replace = map(at, (Slots.put, os.pwrite, os.fsync, os.replace))\n"
    "    mem.snapshot(folder / 'snapshot', bytes(range(32)), b'new')\n"
)
LAST = 9
"""Points of a snapshot of PAGES: two batches of two calls each, manifest, head, and the directory after the rename."""


@pytest.mark.parametrize("point", range(1, LAST + 2) if os.environ.get("PAGEWARDEN_LONG") == "1" else (2, 8, LAST))
def test_a_killed_writer_leaves_the_old_snapshot_or_the_whole_new_one(taken: Path, point: int) -> None:
    kits = os.pathsep.join(path for path in sys.path if path)
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, taken.parent, str(point)],
        env={**os.environ, "PYTHONPATH": kits}, capture_output=True,
    )  # fmt: skip
    assert ended.returncode == (0 if point > LAST else -signal.SIGKILL), ended.stderr
    memory, state = KeptMemory.restored(taken, SECRET, lazy=False)
    with memory:
        assert state == (b"new" if point >= LAST else STATE)
        assert guest_reads(memory, 50) == content(50)
