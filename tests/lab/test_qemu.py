"""Booting: what is said where it cannot be, nothing left behind, and one real kernel with a KVM like hardware's."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernels import SAME_CPU, compile_here
from pagewarden.lab import fetch, qemu
from pagewarden.vocab import Unavailable

ENOUGH = 1800.0
"""Seconds: an emulated machine beside busy neighbours."""


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No file and no process of the lab's outlives a test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert list(tmp_path.glob("pagewarden-lab-*")) == []
    mine = os.fsencode(str(tmp_path))
    for process in Path("/proc").glob("[0-9]*"):
        try:
            assert mine not in (process / "cmdline").read_bytes(), process
        except (FileNotFoundError, ProcessLookupError):
            continue


def test_what_is_lacking_is_said_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "machine", lambda: "riscv64")
    with pytest.raises(Unavailable, match="this is riscv64"):
        qemu.run(fetch.Kernel("mine", Path("/vmlinuz"), None), ["true"], 1)


def test_the_command_inside_is_quoted_and_finds_what_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/a b")
    script = qemu.script(["echo", "a b", "$HOME; rm"], {"X": "it's"})
    said = subprocess.run(["sh"], input=script + "\n", capture_output=True, text=True, check=True).stdout
    assert said == "a b $HOME; rm\n" and "export X='it'\"'\"'s'" in script
    assert "export NUMBA_CACHE_DIR='/a b'" in script


def test_only_file_systems_of_disks_can_be_read_inside() -> None:
    places = qemu.readable_places()
    assert places[0] == "/" and not {"/proc", "/sys", "/dev"} & set(places)


def test_a_kernel_that_does_not_start_is_told_by_its_last_words(kernel: fetch.Kernel, tmp_path: Path) -> None:
    bad = tmp_path / "vmlinuz"
    bad.write_bytes(b"no kernel at all")
    with pytest.raises(Unavailable, match="died before it answered"):
        qemu.run(fetch.Kernel("bad", bad, None), ["true"], ENOUGH)


def test_a_time_limit_ends_it(kernel: fetch.Kernel) -> None:
    with pytest.raises(Unavailable, match=r"not done in 0\.5 s"):
        qemu.run(kernel, ["sleep", "600"], 0.5)


def test_ctrl_c_ends_it(kernel: fetch.Kernel, tmp_path: Path) -> None:
    """SIGINT once the kernel is being booted; the fixture sees what is left."""
    code = (
        "import sys, tempfile; from pathlib import Path; from pagewarden.lab import fetch, qemu\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        f"kernel = fetch.Kernel('k', Path({str(kernel.image)!r}), Path({str(kernel.modules)!r}))\n"
        "qemu.run(kernel, ['sleep', '600'], 600, say=lambda what: print(what, flush=True))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline().startswith(b"booting")
        child.send_signal(signal.SIGINT)
        _, complaint = child.communicate()
    assert b"KeyboardInterrupt" in complaint


def test_the_guest_reads_this_machine_and_cannot_write_it(kernel: fetch.Kernel, tmp_path: Path) -> None:
    """Not even by a second mount of its own, as root, of what virtiofsd serves."""
    (tmp_path / "known").write_text("of the host")
    script = f"""
        cat {tmp_path}/known; uname -r; ulimit -l; df -T "$TMPDIR" | tail -1
        mkdir /mnt/again && busybox mount -t virtiofs root /mnt/again || exit 3
        busybox mount -o remount,rw /mnt/again || exit 4
        echo changed >{tmp_path}/known; cat {tmp_path}/known
        echo changed >/mnt/again{tmp_path}/known; echo status $?; exit 7"""
    answer = qemu.run(kernel, ["/bin/sh", "-c", script], ENOUGH)
    said = answer.stdout.split()
    assert said[:3] == ["of", "the", "host" + answer.kernel] and said[3] == "unlimited" and "ext4" in said
    assert "changed" in said, "its own copy"
    assert "Read-only" in answer.stderr and said[-1] != "0" and answer.status == 7
    assert (tmp_path / "known").read_text() == "of the host"


INSIDE = """
import json, os, sys, tempfile
import pagewarden.cli.run_modes, pagewarden.studies.probe.isolation  # once, for all that are forked
from pagewarden.cli import main

found = []
for words in json.loads(sys.argv[1]):
    with tempfile.TemporaryFile() as said:
        if (pid := os.fork()) == 0:
            os.dup2(said.fileno(), 1)
            sys.argv[1:] = words
            main()
            sys.exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said.seek(0)
        found.append((status, said.read().decode()))
print(json.dumps(found))
"""


def inside(kernel: fetch.Kernel, *commands: list[str]) -> list[tuple[int, str]]:
    """Status and output of each command of this package, one after the other in one boot."""
    answer = qemu.run(kernel, [sys.executable, "-c", INSIDE, json.dumps(commands)], ENOUGH, SAME_CPU)
    assert answer.status == 0, answer.stderr
    return [(status, said or answer.stderr) for status, said in json.loads(answer.stdout)]


def test_kvm_like_hardwares_runs_guests_and_counts_as_the_model_says(kernel: fetch.Kernel) -> None:
    """kvm_amd on an emulated SVM: a run, the memslot rows, and the counts of every design, exactly."""
    run = ["run", "--cpu", "kvm", "--requests", "6", "--json"]
    check = ["run", "--check-counts", "--cpu", "kvm", "--requests", "6", "--json"]
    probe = ["probe", "--backing", "memfd", "--backing", "uffd-window", "--path", "kvm-memslot*", "--json"]
    for command in (run, check):
        compile_here("-m", "pagewarden", *command)
    ran, counted, probed = inside(kernel, run, check, [*probe, "--timeout", "120"])
    assert ran[0] == 0, ran[1]
    assert json.loads(ran[1])["cpu"] == "kvm_amd"
    assert counted[0] == 0, counted[1]
    found = json.loads(counted[1])
    assert found["good"] and {result["cpu"] for result in found["results"]} == {"kvm_amd"}
    assert probed[0] == 0, probed[1]
    matrix = json.loads(probed[1])["matrix"]
    assert matrix and all(row["agrees"] is True for row in matrix if not row["isolated"])
    assert {row["result"] for row in matrix if row["backing"] == "memfd" and row["state"] == "private"} == {
        "LEAK",
        "TORN",
    }
