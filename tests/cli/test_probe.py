"""`probe`: what it says of trials, of a difference from the law, and of what hinders it."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner
from typer.testing import Result as Run

from columns import ISOLATED, WINDOW
from live import require
from pagewarden.cli.probe import probe
from pagewarden.kernel.kvm import Vcpu
from pagewarden.lab import fetch, packages, qemu
from pagewarden.law import Op
from pagewarden.probe.registry import Direction
from pagewarden.probe.stages import Here
from pagewarden.probe.trial import State, TrialResult, TrialVerdict
from pagewarden.studies.probe.expected import SCRIPTS
from pagewarden.studies.probe.isolation import isolation
from pagewarden.vocab import UserMistake

READ, WRITE = Direction.READ, Direction.WRITE


def cli(*arguments: str) -> Run:
    app = typer.Typer()
    app.command()(probe)
    return CliRunner().invoke(app, arguments)


def test_the_verb_says_it_in_a_table_and_by_its_status() -> None:
    run = cli("--backing", "memfd", "--path", "load")
    assert run.exit_code == 0, run.output
    assert "L + L" in run.output and "memfd leaks by load" in run.output
    assert "3 trials, 2 leaks, 0 disagreements" in run.output


def test_a_difference_from_the_law_makes_the_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCRIPTS, ("load", READ), (Op.GUP_PIN,))
    run = cli("--backing", "memfd", "--path", "load")
    assert run.exit_code == 1
    assert "L! + L!" in run.output
    assert "DISAGREES memfd, load, read, private: LEAK, the law says allowed" in run.output
    document = json.loads(cli("--backing", "memfd", "--path", "load", "--json").output)
    assert document["disagreements"] == 2


@pytest.mark.usefixtures("vm")
def test_a_kvm_without_a_vcpu_is_a_row_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Vcpu, argument: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(Vcpu, "set_sregs", refuse)
    found = isolation(["memfd", "guest-memfd"], ["load", "kvm-memslot*"])
    for tried in found.rows:
        if tried.path.name.startswith("kvm") or tried.memory.backing == "guest-memfd":
            assert tried.verdict.result is TrialResult.UNTRIED and tried.agrees is None
        else:
            assert tried.verdict.result is not TrialResult.UNTRIED
    assert any("makes no vCPU" in reason for reason in found.lacks)
    run = cli("--backing", "memfd", "--path", "kvm-memslot")
    assert (
        run.exit_code == 0 and "not tried, 6 trials of memfd" in run.output and "6 not tried, 0 without" in run.output
    )


def test_direct_io_on_a_file_system_in_memory_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    require(os.path.ismount("/dev/shm"), "no file system in memory at /dev/shm")
    monkeypatch.setenv("TMPDIR", "/dev/shm")
    found = isolation(["memfd", "uffd-window"], ["o_direct*", "aio*"])
    assert {tried.verdict.result for tried in found.rows} == {TrialResult.UNTRIED}
    assert any("STATX_DIOALIGN" in reason for reason in found.lacks)


def test_a_host_side_needs_no_way_to_tmpdir_for_what_it_is_handed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    require(os.geteuid() == 0, "only root's untrusted host side is another user")
    tmp_path.chmod(0o700)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found = isolation(["uffd-window"], ["write-file"])
    rows = {tried.memory: tried for tried in found.rows if tried.state is State.SHARED}
    require(rows[WINDOW].verdict.result is not TrialResult.UNTRIED, str(found.lacks))
    assert rows[ISOLATED].verdict == TrialVerdict(TrialResult.ALLOWED, touched=True)


def test_no_answer_in_time_is_neither_yes_nor_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Here, "page", lambda self: signal.pause())
    run = cli("--backing", "memfd", "--path", "load", "--timeout", "0.5")
    assert run.exit_code == 1
    assert "? ? ?" in run.output and "0 disagreements with the law; 0 not tried, 3 without an answer" in run.output
    assert "no answer in 0.5 s" in run.output
    document = json.loads(cli("--backing", "memfd", "--path", "load", "--timeout", "0.5", "--json").output)
    assert {(row["result"], row["agrees"]) for row in document["matrix"]} == {("TIMEOUT", None)}
    assert (document["timeouts"], document["untried"], document["disagreements"]) == (3, 0, 0)


def test_the_probe_of_another_kernel_is_booted_with_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def boot(
        kernel: fetch.Kernel,
        command: list[str],
        seconds: float,
        environment: object,
        say: packages.Tell,
        progress: object,
    ) -> qemu.CommandEnd:
        asked.append(command)
        inside = cli(*command[4:])
        return qemu.CommandEnd("9.9", inside.exit_code, inside.output, "")

    monkeypatch.setattr(fetch, "kernel", lambda name, say, modules: fetch.Kernel(name, Path("/vmlinuz"), None))
    monkeypatch.setattr(qemu, "run", boot)
    words = ("--backing", "memfd", "--path", "load")
    run = cli("--kernel", "debian:9.9", *words)
    assert run.exit_code == 0 and "under QEMU" in run.output and "L + L" in run.output
    assert asked[0][4:] == ["--json", "--timeout", "120.0", *words]
    document = json.loads(cli("--kernel", "debian:9.9", *words, "--json").output)
    assert (document["where"], document["disagreements"]) == ("qemu", 0)
    assert isinstance(cli("--kernel", "debian:9.9", "--path", "lod").exception, UserMistake)
    assert len(asked) == 2, "a wrong name boots nothing"


def test_kernels_are_listed_with_what_hinders(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [fetch.Offer("debian:6.12", "6.12.117+deb12", True), fetch.Offer("debian:7.3", "7.3.4+deb13", False)]
    monkeypatch.setattr(fetch, "offers", lambda say: known)
    monkeypatch.setattr(qemu, "lack", lambda: "apt-get install qemu-system-x86")
    run = cli("--kernels")
    assert run.exit_code == 0 and "6.12.117+deb12  in the cache" in run.output and "debian:7.3" in run.output
    assert "no kernel can be booted here: apt-get install qemu-system-x86" in run.output


def test_the_first_line_says_pass_or_fail_and_why() -> None:
    command = [sys.executable, "-m", "pagewarden", "probe", "--backing", "memfd", "--path", "load"]
    printed = subprocess.run(command, capture_output=True, text=True)
    first = printed.stdout.splitlines()[0]
    assert printed.returncode == 0 and first.startswith("PASS: all of 3 trials are what the law says.")
    assert "2 leaks are known weaknesses" in first
