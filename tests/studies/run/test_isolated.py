"""The device in a process that is not trusted: it reaches shared pages only, may die at any moment, and may lie."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dying_device
from doorbells import AtDoorbells
from guest_kit import LONG
from live import require
from pagewarden.guest.program import Program
from pagewarden.memory import PAGE_SIZE, PrivateAccess
from pagewarden.memory.isolated.side import HostSide
from pagewarden.studies.run import isolated
from pagewarden.studies.run.device import READY, serve_block
from pagewarden.studies.run.disk import DiskFile, open_disk
from pagewarden.studies.run.isolated import IsolatedDevice
from pagewarden.studies.run.machine import LiveMachine, Meter, machine_for
from pagewarden.studies.run.one import Run, run
from pagewarden.studies.run.plan import RunPlan, default_mix, describe, replayed
from pagewarden.vocab import GuestStopped, UserMistake
from waits import SOON

MIX = default_mix(400 if LONG else 120)
PLAN = RunPlan(isolated=True, verify=True, patience=30)
STEPS = range(1, dying_device.MOST + 1) if LONG else (1, 4, 7)


@contextlib.contextmanager
def ready(plan: RunPlan = PLAN, meter: Meter | None = None) -> Iterator[tuple[LiveMachine, Program, DiskFile]]:
    with open_disk(MIX, None, False) as disk:
        described = describe(plan, MIX, disk, disk.read())
        made = machine_for(plan, described, disk, meter)
        machine = made.__enter__()
        with contextlib.ExitStack() as closing:
            closing.push(made.__exit__)
            assert isinstance(machine, LiveMachine)
            yield machine, described, disk


def ran(plan: RunPlan, look: bool = False) -> Run:
    with open_disk(MIX, None, False) as disk:
        return run(plan, MIX, disk, look)


@pytest.mark.parametrize("cpu", ["unicorn", "kvm"])
@pytest.mark.parametrize("design", ["window", "iommu", "bounce", "dma-buffer"])
def test_the_io_is_right_and_the_process_sees_nothing(design: str, cpu: str) -> None:
    require(os.geteuid() == 0, "the memory of a process that is not dumpable is for root to search")
    found = ran(replace(PLAN, design=design, cpu=cpu, batch=8), look=True)
    assert found.good and found.differs == 0 and found.restarts == 0
    assert found.sight is not None and found.sight.leaks == 0 and found.sight.bytes > 1 << 20
    assert "ways to outlive its warden, 0 of them with success" in found.sight.whose


def completes(plan: RunPlan, least: int, meter: AtDoorbells | None = None) -> None:
    """Nothing is lost, the guest never learns of it, and so many device processes at least were replaced."""
    with ready(plan, meter) as (machine, described, disk):
        wanted = replayed(described, disk, disk.read())
        outcome = machine.run()
        assert outcome.failures == 0 and outcome.requests == len(described.requests)
        assert machine.device.restarts >= least
        assert (disk.read() == wanted).all(), "what the guest was told is written is on the disk"
        assert list(machine.memory.shared_runs()) == [described.layout.shared_pages]


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_the_io_completes(step: int, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 before each step of a device: rings and headers read, data moved, the status, the used index."""
    monkeypatch.setattr(isolated, "serve_block", getattr(dying_device, f"at_{step}"))
    completes(replace(PLAN, batch=batch), least=1)


@pytest.mark.parametrize("doorbells", [(0,), (1, 60, 119)])
@pytest.mark.parametrize("victim", ["device", "zygote"])
def test_killed_between_requests_the_io_completes(
    victim: str, doorbells: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device's process, or the one that starts such processes: with it everything below it dies."""
    made: list[IsolatedDevice] = []
    real = IsolatedDevice.__init__

    def remembered(self: IsolatedDevice, *arguments: Any) -> None:
        real(self, *arguments)
        made.append(self)

    def kill() -> None:
        pid = made[0].pid if victim == "device" else parent_of(made[0].pid)
        death = os.pidfd_open(made[0].pid)
        os.kill(pid, signal.SIGKILL)
        assert select.select([death], [], [], SOON)[0], "it outlives the one that started it"
        os.close(death)

    monkeypatch.setattr(IsolatedDevice, "__init__", remembered)
    completes(PLAN, len(doorbells), AtDoorbells(dict.fromkeys(doorbells, kill)))


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def peeping(host: HostSide, *arguments: Any) -> None:
    """Looks at every page before it serves; says which answered."""
    for page in range(host.size // PAGE_SIZE):
        with contextlib.suppress(PrivateAccess):
            host.read(page * PAGE_SIZE, PAGE_SIZE)
            host.report(page)
    serve_block(host, *arguments)


def test_before_the_guest_shares_no_page_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "serve_block", peeping)
    with ready() as (machine, _, _):
        assert machine.run().failures == 0  # a page that answered would have come before READY


def silent(host: HostSide, *_: Any) -> None:
    host.report(READY)
    time.sleep(1000)


def liar(host: HostSide, *_: Any) -> None:
    """Says that it has served, and has not."""
    host.report(READY)
    while True:
        host.report(host.listen() + 7)


def raiser(host: HostSide, *_: Any) -> None:
    host.report(READY)
    host.listen()
    raise RuntimeError("so much for that")


@pytest.mark.parametrize(
    ("device", "why"), [(silent, "said nothing for 1 s"), (liar, "no progress"), (raiser, "so much for that")]
)
def test_a_device_that_misbehaves_ends_the_run_with_a_report(
    device: Any,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(isolated, "serve_block", device)
    with ready(replace(PLAN, patience=1 if device is liar else SOON)) as (machine, _, _):
        assert isinstance(machine.device, IsolatedDevice)
        machine.device._patience = 1 if device is silent else SOON  # who does answer may take his time
        with pytest.raises(GuestStopped, match=f"(?s){why}"):
            machine.run()


def test_a_process_without_the_fd_cannot_have_every_design() -> None:
    for design in ("remap", "pread", "splice"):
        with pytest.raises(UserMistake, match="needs the fd"):
            RunPlan(design, isolated=True)
    with pytest.raises(UserMistake, match="cannot be isolated"), ready(replace(PLAN, backing="memfd")):
        pass


def test_no_process_is_left() -> None:
    with ready() as (machine, _, _):
        assert isinstance(machine.device, IsolatedDevice)
        pid = machine.device.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
