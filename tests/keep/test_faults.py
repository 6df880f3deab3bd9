"""What a host does to keepers and their files for real: full disks, processes that are stopped, or killed anywhere."""

import errno
import os
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from environments import MS_REMOUNT, mount, own_mounts
from keeper_kit import PAGES, RunningKeeper, children
from kept_kit import PAGES as MOST
from kept_kit import content, filled, guest_reads, guest_writes, kept
from live import require
from pagewarden.keep import KeptMemory
from pagewarden.keep.seal import BATCH
from pagewarden.memory import PAGE_SIZE, PageRange, Refused
from plain_vmm import PlainVmm

KEY = bytes(32)
LIMIT = 16
ROOM = BATCH + 8
"""Pages of a disk: one batch goes there."""


def on_a_small_disk(folder: Path, act: Callable[[Path, Callable[[int], None]], None]) -> None:
    """In a child, a tmpfs of its own: `act` is given it, and what gives it another number of pages."""
    child = os.fork()
    if not child:
        status = 1
        try:
            try:
                own_mounts()
                mount("none", folder, kind="tmpfs", options=f"size={ROOM * PAGE_SIZE}")
            except OSError:
                os._exit(77)
            act(folder, lambda pages: mount("none", folder, MS_REMOUNT, options=f"size={pages * PAGE_SIZE}"))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    require(code != 77, "this user may mount no tmpfs")
    assert code == 0


def test_a_disk_that_is_full_loses_nothing(tmp_path: Path) -> None:
    def act(folder: Path, grow: Callable[[int], None]) -> None:
        with kept(folder / "swap", limit=LIMIT * PAGE_SIZE) as memory:
            filled(memory)
            assert LIMIT * PAGE_SIZE < memory.resident == MOST * PAGE_SIZE - memory.swapped
            guest_writes(memory, 3, b"guest")
            with pytest.raises(Refused) as refusal:
                memory.swap_out(PageRange(0, MOST))
            assert refusal.value.errno == errno.ENOSPC and "swap file takes no page" in str(refusal.value)
            _as_it_was(memory)
            grow(2 * MOST)
            memory.swap_out(PageRange(0, MOST))
            assert memory.resident == 0
            _as_it_was(memory)
            assert memory.resident <= LIMIT * PAGE_SIZE

    on_a_small_disk(tmp_path, act)


def _as_it_was(memory: KeptMemory) -> None:
    for page in range(MOST):
        if page != 3:
            assert guest_reads(memory, page) == content(page)
    assert guest_reads(memory, 3) == b"guest" + content(3)[5:]


def test_a_snapshot_on_a_full_disk_leaves_the_old_one(tmp_path: Path) -> None:
    def act(folder: Path, grow: Callable[[int], None]) -> None:
        with KeptMemory(MOST * PAGE_SIZE) as memory:
            memory.populate(0, content(1) * 30)
            memory.snapshot(folder / "snapshot", KEY)
            before = (folder / "snapshot").read_bytes()
            filled(memory)
            with pytest.raises(OSError, match="No space") as full:
                memory.snapshot(folder / "snapshot", KEY)
            assert full.value.errno == errno.ENOSPC
            assert os.listdir(folder) == ["snapshot"] and (folder / "snapshot").read_bytes() == before
            grow(4 * MOST)
            memory.snapshot(folder / "snapshot", KEY)
        again, _ = KeptMemory.restored(folder / "snapshot", KEY)
        with again:
            assert all(guest_reads(again, page) == content(page) for page in range(MOST))

    on_a_small_disk(tmp_path, act)


def waits(vmm: PlainVmm) -> None:
    """Until it stands in the kernel, and not in a system call: a touch of a page that nobody brings (proc(5))."""
    while not Path(f"/proc/{vmm.process.pid}/syscall").read_text().startswith("-1"):
        assert vmm.process.poll() is None


def test_who_is_stopped_keeps_its_vm_waiting_and_no_more(keeper: RunningKeeper) -> None:
    """The keeper, which is not needed meanwhile; then the pager, which is; then both."""
    with PlainVmm(keeper.socket, (0, PAGES)) as vmm:
        assert vmm.read(0) == content(0)
        (pager,) = children(keeper.process.pid)
        os.kill(keeper.process.pid, signal.SIGSTOP)
        assert vmm.read(40) == content(40)
        for turn, stopped in enumerate(((pager,), (pager, keeper.process.pid))):
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            try:
                vmm.tell("read", 80 + 40 * turn)
                waits(vmm)
            finally:
                for pid in stopped:
                    os.kill(pid, signal.SIGCONT)
            assert vmm.line() == content(80 + 40 * turn).hex()
        os.kill(keeper.process.pid, signal.SIGCONT)
    keeper.heard("left")
    assert keeper.end()["restarts"] == 0


POINTS = range(200) if os.environ.get("PAGEWARDEN_LONG") == "1" else (0, 3, 11)


@pytest.mark.parametrize("point", POINTS)
def test_a_keeper_killed_at_any_point_gives_right_bytes_or_none(folder: Path, point: int) -> None:
    """Its pager goes on by itself, what was removed is zeroes for good; without the pager as well the VM waits."""
    running = RunningKeeper(folder)
    with PlainVmm(running.socket, (0, PAGES)) as vmm:
        assert vmm.read(PAGES - 2) == content(PAGES - 2)
        (pager,) = children(running.process.pid)
        try:
            for step in range(16):
                if step == 5:
                    assert vmm.ask("drop", 150, 160) == "done"
                vmm.tell("read", page := (step * 7 + point * 13) % 140)
                if step == point % 16:
                    os.kill(running.process.pid, signal.SIGKILL)
                assert vmm.line() == content(page).hex()
            assert vmm.read(155) == bytes(PAGE_SIZE)
            os.kill(pager, signal.SIGKILL)
            vmm.tell("read", 170)
            waits(vmm)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pager, signal.SIGKILL)
            running.process.communicate()
