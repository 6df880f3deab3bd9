"""An errno, two, or a lack of memory at every system call of the zygote and of a host side that starts: an error by
name or a host side whose room is what it says, nothing open that is private, nothing left, and the next one starts.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import struck_servants
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, Refused, Unavailable
from pagewarden.memory.isolated import zygote
from pagewarden.memory.isolated.messages import MessageKind
from pagewarden.memory.isolated.process import HostProcess
from pagewarden.memory.isolated.room import Part
from spawn_faults import ERRNOS, descendants, descriptors, settled
from struck_servants import MEMORY, Plan, Role

PATIENCE = 20.0
"""Seconds: no fault is found out by waiting that long."""
PAYLOAD = b"".join(bytes([65 + page]) * PAGE_SIZE for page in range(3))
MOST = max(map(len, ERRNOS.values()))
NAMESPACES = {
    "net": Part.NETWORK,
    "ipc": Part.IPC,
    "uts": Part.UTS,
    "cgroup": Part.CGROUP,
    "mnt": Part.EMPTY_ROOT,
    "pid": Part.PID,
    "user": Part.OWN_USER,
}


class Trials:
    """One memory whose second page is shared; host sides of it under fault."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.processes = plan, descendants(os.getpid())
        self.memory = PrivateMemory(len(PAYLOAD), isolated=True)
        self.memory.populate(0, PAYLOAD)
        self.memory.share(PageRange(1, 2))
        self.spawned()
        self.open = descriptors()

    def spawned(self) -> None:
        """One without a fault, which ends."""
        host = self.memory.spawn(struck_servants.stay, patience=PATIENCE)
        self.judge(host, "no fault")
        host.kill()

    def judge(self, host: HostProcess, where: str) -> None:
        """The kernel's word on what runs: its page table, and its room."""
        heard = host.receive(PATIENCE)
        if heard is None or heard.kind is not MessageKind.REPORT:  # it dies
            return
        proc, lacking = Path("/proc", str(host.pid)), {lack.part for lack in host.missing}
        with open(proc / "pagemap", "rb") as file:
            file.seek(host.address // PAGE_SIZE * 8)
            entries = file.read(24)
        assert not entries[7] >> 7, where
        assert not entries[23] >> 7, where
        lines = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
        assert lines["Seccomp"] == "2", where
        assert lines["NoNewPrivs"] == "1", where
        assert Part.NOBODY in lacking or lines["Uid"].split() == ["65534"] * 4, where
        assert Part.OOM in lacking or (proc / "oom_score_adj").read_text() == "1000\n", where
        for kind in ("Inh", "Prm", "Eff", "Amb"):
            assert not int(lines[f"Cap{kind}"], 16), f"{where}: {kind}"
        assert Part.BOUNDING in lacking or not int(lines["CapBnd"], 16), where
        for kind, part in NAMESPACES.items():
            apart = os.readlink(proc / "ns" / kind) != os.readlink(f"/proc/self/ns/{kind}")
            assert apart or part in lacking, f"{where}: {part}"
        assert Part.EMPTY_ROOT in lacking or not os.listdir(proc / "root"), where

    def struck(self, role: Role, fatal: int, gap: int, which: int) -> bool:
        """One trial; False when there is no such call."""
        where = f"{role.name} call {fatal} and {gap} later, errno {which}"
        self.plan.strike(role, fatal, gap, which)
        before = time.monotonic()
        try:
            host = self.memory.spawn(struck_servants.stay, patience=PATIENCE)
        except (Refused, Unavailable):
            pass
        else:
            self.judge(host, f"{where}: {self.plan.struck(role)}")
            with suppress(Refused):  # who could tell how it ended may be dead
                host.kill()
        assert time.monotonic() - before < PATIENCE, f"{where}: {self.plan.struck(role)} was found out by waiting"
        reached = self.plan.made(role) >= fatal
        self.plan.rest()
        return reached

    def after(self) -> None:
        """All goes on, and nothing is left."""
        self.spawned()
        self.memory.share(PageRange(0, 1))
        self.memory.unshare(PageRange(0, 1))
        assert self.memory.private_read(0, len(PAYLOAD)) == PAYLOAD
        servants = descendants(os.getpid()) - self.processes
        assert len(servants) <= 2, servants
        assert descriptors() == self.open
        self.memory.close()
        assert not settled(self.processes)


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trials]:
    if os.geteuid() != 0:
        pytest.skip("only root may ask for another process's page table")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    tmp_path.chmod(0o755)
    for each in zygote._current:
        each.kill()  # it knows of no plan
    made = Trials(Plan(struck_servants.path()))
    yield made
    made.memory.close()
    monkeypatch.undo()


def every(trials: Trials, role: Role, which: int, gap: int = 0) -> int:
    fatal = 1
    while trials.struck(role, fatal, gap, which):
        fatal += 1
    trials.after()
    return fatal


@pytest.mark.parametrize("which", [MEMORY, *range(MOST)])
def test_in_the_zygote(trials: Trials, which: int) -> None:
    assert every(trials, Role.ZYGOTE, which) > 8


@pytest.mark.parametrize("gap", [1, 2])
def test_twice_in_the_zygote(trials: Trials, gap: int) -> None:
    assert every(trials, Role.ZYGOTE, 0, gap) > 8


@pytest.mark.parametrize("which", [MEMORY, *range(MOST)])
def test_in_the_host_side(trials: Trials, which: int) -> None:
    assert every(trials, Role.HOST, which) > 50


def test_twice_in_the_host_side(trials: Trials) -> None:
    assert every(trials, Role.HOST, 0, 1) > 50
