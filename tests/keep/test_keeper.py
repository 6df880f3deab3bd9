"""A keeper and VMMs in processes of their own: right bytes, zeroes for what was removed, and no other bytes ever."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from keeper_kit import PAGES, RunningKeeper, children
from kept_kit import content, kept
from pagewarden.keep.handover import HandOver
from pagewarden.keep.keeper import MOST_COMING
from pagewarden.keep.plain import seal_plain
from pagewarden.keep.seal import SLOT
from pagewarden.keep.snapshot import KEY
from pagewarden.kernel.uffd import Userfault
from pagewarden.vocab import PAGE_SIZE, Refused
from plain_vmm import FEATURES, PlainVmm, hand_over


def test_pages_come_from_the_snapshot_and_removed_ones_are_zeroes(keeper: RunningKeeper) -> None:
    with PlainVmm(keeper.socket, (0, 50), (50, PAGES - 50)) as vmm, PlainVmm(keeper.socket, (100, 50)) as other:
        for page in (0, 49, 50, 199, 120, 51):
            assert vmm.read(page) == content(page)
        assert other.read(120) == content(120)
        assert vmm.ask("drop", 48, 50) == "done"  # one that came, and one that did or did not
        assert vmm.ask("drop", 150, 160) == "done"  # some that never came
        assert [vmm.read(page) for page in (48, 49, 150, 159)] == [bytes(PAGE_SIZE)] * 4
        assert vmm.ask("write", 155) == "done"
        assert vmm.read(155)[:6] == b"guest\0"
        assert vmm.read(160) == content(160) and other.read(149) == content(149)
    document = keeper.end()
    assert (document["vms"], document["ended"], document["restarts"]) == (2, 0, 0)
    assert document["pages_removed"] == 12 and document["faults"] >= 9
    assert not keeper.socket.exists()


def test_a_pager_that_is_killed_is_replaced_and_knows_what_was_removed(keeper: RunningKeeper) -> None:
    with PlainVmm(keeper.socket, (0, PAGES)) as vmm:
        assert vmm.read(0) == content(0)
        assert vmm.ask("drop", 60, 70) == "done"
        assert vmm.read(80) == content(80)  # the removal is not only read by now, but written down
        for turn in range(1, 4):
            (pager,) = children(keeper.process.pid)
            os.kill(pager, signal.SIGSTOP)
            vmm.tell("read", 60 + turn)  # nobody answers: it waits
            vmm.tell("read", 100 + 20 * turn)
            os.kill(pager, signal.SIGKILL)
            assert vmm.line() == bytes(PAGE_SIZE).hex()
            assert vmm.line() == content(100 + 20 * turn).hex()
            keeper.heard("taken over", turn)
    assert keeper.end()["restarts"] == 3


def test_a_pager_killed_at_any_point_gives_right_bytes_or_no_vm(keeper: RunningKeeper) -> None:
    """Killed while a page is asked for, wherever it is: at rest, reading, copying."""
    kills = 90 if os.environ.get("PAGEWARDEN_LONG") == "1" else 12
    asked = 0
    for _ in range(kills // 6):  # VMs that may come to an end, each by its own
        with PlainVmm(keeper.socket, (0, PAGES)) as vmm:
            for page in range(0, 6 * 17, 17):
                told = keeper.told()
                killed = [pager for pager in children(keeper.process.pid) if not _zombie(pager)]
                vmm.tell("read", page)
                for pager in killed:
                    with suppress(ProcessLookupError):  # that of the VM before, at its end
                        os.kill(pager, signal.SIGKILL)
                line = vmm.line()
                asked += 1
                if not line:
                    assert vmm.process.wait() == -signal.SIGKILL and len(keeper.heard("ended")) > _count(told, "ended")
                    break
                assert line == content(page).hex()
    assert asked >= kills // 6
    assert keeper.end()["restarts"] > 0


def _zombie(pid: int) -> bool:
    try:
        return ") Z" in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


def _count(told: list[dict[str, Any]], event: str) -> int:
    return sum(each["event"] == event for each in told)


def test_a_removal_that_may_be_lost_ends_the_vm(folder: Path) -> None:
    """A pager that dies while it reads messages: who would go on could bring bytes back that the VM removed."""
    script = (
        "import os, sys; from pagewarden.kernel.uffd import Userfault\n"
        "def dies(self, most=64): os.read(self.fd, 32 * most); os.kill(os.getpid(), 9)\n"
        "Userfault.messages = dies\n"
        "from pagewarden.cli import main; main()"
    )
    place, events = folder / "socket", folder / "events"
    with subprocess.Popen(
        [sys.executable, "-c", script, "keep", "--socket", place, "--snapshot", folder / "mem",
         "--json-events", events],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None and "keeping" in process.stderr.readline()
        with PlainVmm(place, (0, PAGES)) as vmm:
            vmm.tell("read", 5)
            assert vmm.process.wait() == -signal.SIGKILL
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    told = events.read_text()
    assert "may be lost" in told and "taken over" not in told


def test_a_recorded_set_is_replayed(folder: Path) -> None:
    recorded = folder / "set"
    touched = [180, 3, 90, 40, 41]
    first = RunningKeeper(folder, "--record", recorded)
    with PlainVmm(first.socket, (0, PAGES)) as vmm:
        for page in touched:
            vmm.read(page)
    first.heard("left")
    assert first.end()["pages_ahead"] == 0
    assert list(map(int, recorded.read_text().split())) == touched[:-1]  # the last came along with the one before it
    second = RunningKeeper(folder, "--replay", recorded, "--metrics", folder / "metrics")
    with PlainVmm(second.socket, (0, PAGES)) as vmm:
        while "pages_ahead_total" not in (text := _text(folder / "metrics")) or _ahead(text) < 4:
            pass
        assert [vmm.read(page) for page in touched[:-1]] == [content(page) for page in touched[:-1]]
    document = second.end()
    assert (document["pages_ahead"], document["faults"]) == (4, 0)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _ahead(text: str) -> int:
    return next((int(line.split()[1]) for line in text.splitlines() if "pages_ahead_total{" in line), 0)


def test_a_sealed_snapshot_is_kept_and_a_changed_page_is_poison(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(bytes(range(KEY)))
    with kept(tmp_path / "swap", pages=PAGES) as mem:
        mem.populate(0, b"".join(map(content, range(PAGES - 5))))
        mem.snapshot(tmp_path / "mem", key.read_bytes())
    data = bytearray((tmp_path / "mem").read_bytes())
    data[PAGE_SIZE + 100 * SLOT] ^= 1
    (tmp_path / "mem").write_bytes(data)
    running = RunningKeeper(tmp_path, "--key", key)
    with PlainVmm(running.socket, (0, PAGES)) as vmm:
        assert [vmm.read(page) for page in (0, 90, 101)] == [content(0), content(90), content(101)]
        assert vmm.read(PAGES - 1) == bytes(PAGE_SIZE)
        vmm.tell("read", 100)
        assert vmm.process.wait() == -signal.SIGBUS
    assert running.end()["pages_refused"] == 1


def test_over_the_limit_only_what_is_asked_for_comes(folder: Path) -> None:
    """From a plain snapshot that was sealed; on a terminal, and for Prometheus."""
    key, metrics = folder / "key", folder / "metrics"
    key.write_bytes(bytes(range(KEY)))
    seal_plain(folder / "mem", folder / "mem", key.read_bytes())
    assert content(3)[:64] not in (folder / "mem").read_bytes()
    ours, theirs = os.openpty()
    running = RunningKeeper(folder, "--key", key, "--limit", "64k", "--metrics", metrics, terminal=(ours, theirs))
    with PlainVmm(running.socket, (0, PAGES)) as vmm:
        for page in (0, 100, 101, 150):
            assert vmm.read(page) == content(page)
        assert vmm.ask("drop", 0, 15) == "done"  # which makes room
        assert vmm.read(160) == content(160)
        while _sample(metrics, "pages_total") != 19 + 13:
            assert running.process.poll() is None
        assert _sample(metrics, "resident_bytes") == 17 * PAGE_SIZE
    running.heard("left")
    shown = os.read(ours, 1 << 16).decode()
    assert "resident 68 KiB" in shown and "set hit rate 0%" in shown
    assert running.end()["faults"] == 5
    lines = metrics.read_text().splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    assert len(names) == len(set(names)) > 8  # one group a name, and each sample in its own
    assert all(line.startswith(("# TYPE ", "pagewarden_keep_")) for line in lines)


def _sample(metrics: Path, name: str) -> int:
    found = re.search(rf"^pagewarden_keep_{name}{{vm=\"1\",pid=\"\d+\"}} (\d+)$", _text(metrics), re.MULTILINE)
    return int(found[1]) if found else -1


GOOD = {"base_host_virt_addr": 1 << 30, "size": 4 * PAGE_SIZE, "offset": 0, "page_size": PAGE_SIZE}


@pytest.mark.parametrize(
    "message",
    [
        b"[]", b"{}", b"[1]", b"\xff\xfe", b"[" * 3000, b"x" * 70000,
        *(json.dumps([{**GOOD, **wrong}]).encode() for wrong in (
            {"size": 0}, {"size": -PAGE_SIZE}, {"size": 100}, {"size": 1 << 62}, {"offset": PAGES * PAGE_SIZE},
            {"offset": 3}, {"page_size": 12}, {"page_size": 2 << 20}, {"base_host_virt_addr": (1 << 47) - PAGE_SIZE},
            {"base_host_virt_addr": "0"}, {"size": 1 << 70},
        )),
        json.dumps([GOOD, GOOD]).encode(),
        json.dumps([GOOD] * 65).encode(),
    ],
    ids=lambda message: f"{len(message)} bytes",
)  # fmt: skip
def test_a_hostile_hand_over_is_refused_and_leaves_nothing(message: bytes) -> None:
    _refused(message, [_a_userfault()])


@pytest.mark.parametrize(("kind", "count"), [("a userfaultfd", 0), ("a userfaultfd", 2), ("a file", 1), ("a file", 30)])
def test_one_userfaultfd_comes_along(kind: str, count: int, tmp_path: Path) -> None:
    number = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR) if kind == "a file" else _a_userfault()
    _refused(json.dumps([GOOD]).encode(), count * [number])
    if not count:
        os.close(number)


def _a_userfault() -> int:
    fault = Userfault(FEATURES)
    number = os.dup(fault.fd)
    fault.close()
    return number


def _read_whole(coming: HandOver) -> None:
    while coming.read(PAGES * PAGE_SIZE) is None:
        pass


def _refused(message: bytes, fds: list[int]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    before = len(os.listdir("/proc/self/fd"))
    with ours, theirs:
        socket.send_fds(theirs, [message[:60000]], fds)
        theirs.sendall(message[60000:])
        theirs.shutdown(socket.SHUT_WR)
        coming = HandOver(ours)
        with pytest.raises(Refused, match="not Firecracker"):
            _read_whole(coming)
        coming.close()
        assert len(os.listdir("/proc/self/fd")) == before - 1  # the connection as well
    for fd in set(fds):
        os.close(fd)


def test_who_says_nothing_is_not_waited_for_and_the_next_is_served(keeper: RunningKeeper) -> None:
    with ExitStack() as silent:
        for _ in range(MOST_COMING + 2):
            silent.enter_context(hand_over(str(keeper.socket), b"[", [0]))
        with PlainVmm(keeper.socket, (0, PAGES)) as vmm:
            assert vmm.read(7) == content(7)
        assert [each["why"][:7] for each in keeper.told() if each["event"] == "refused"] == 3 * ["nothing"]
        assert keeper.end()["hand_overs_refused"] == MOST_COMING + 2
