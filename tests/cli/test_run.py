"""`pagewarden run` as a user meets it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pagewarden.designs import DESIGNS
from pagewarden.studies.run import measure
from pagewarden.studies.run.measure import predict
from verbs import Verb, document
from waits import SOON

COMMAND = [sys.executable, "-m", "pagewarden", "run"]
KEYS = {
    "exits",
    "doorbells",
    "hypercalls",
    "access_syscalls",
    "host_copies",
    "host_copy_bytes",
    "hyp_pte_set",
    "hyp_pte_clear",
    "tlbi",
}


def run(*arguments: str, code: int = 0) -> str:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if code == 2 else done.stdout


def test_a_run_says_what_it_was_and_what_it_cost() -> None:
    printed = run("--backing", "uffd-window", "--requests", "16", "--verify")
    for words in (
        "window",
        "unicorn",
        "emulated",
        "uffd-window",
        "requests/s",
        "hyp_pte_set",
        "a temporary file",
        "all right",
        "last buffers are right",
        "0 found",
    ):
        assert words in printed


def test_json_has_the_documented_keys() -> None:
    found = json.loads(run("--backing", "uffd-window", "--requests", "16", "--design", "iommu", "--json"))
    assert (found["schema"], found["verb"]) == (1, "run")
    assert set(found["total"]) == set(found["per_request"]) == set(found["start_and_end"]) == KEYS
    assert found["requests"] == 16 and found["good"] and found["failures"] == 0 and found["differs"] is None
    assert found["sight"]["leaks"] == 0 and found["sight"]["bytes"] > 0
    assert found["cpu"] == "unicorn" and found["level"] and found["backing_why"]


def test_no_protection_is_status_1() -> None:
    assert "LEAK" in run("--backing", "memfd", "--requests", "4", code=1)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--design", "teleport"], "no design"),
        (["--design", "dmb"], "no guest has it yet"),
        (["--cpu", "z80"], "no CPU"),
        (["--backing", "tape"], "no backing"),
        (["--backing", "guest-memfd"], "converts no page"),
        (["--disk", "/no/such/file"], "cannot be the disk"),
        (["--isolated", "--design", "remap"], "needs the fd"),
        (["--cpu", "kvm", "--backing", "memfd-secret"], "kvm|KVM"),
        (["--all-designs", "--check-counts"], "ask for one of them"),
        (["/no/such/workload"], "cannot be read"),
    ],
)
def test_mistakes_are_one_message(arguments: list[str], why: str, verb: Verb) -> None:
    _, printed, said = verb("run", *arguments, code=2)
    assert not printed
    assert any(word in said for word in why.split("|")) and said.count("\n") == 1


def test_all_designs_live_and_modelled(verb: Verb) -> None:
    arguments = ["--all-designs", "--cpu", "interpreted", "--requests"]
    found = document(verb, "run", *arguments, "6")
    assert found["good"]
    assert found["mode"] == "all-designs" and [row["name"] for row in found["designs"]] == list(DESIGNS)
    for row in found["designs"]:
        assert row["live"]["per_request"]["tlbi"] == row["model"]["per_request"]["tlbi"]
        assert row["live"]["per_request"]["exits"] == row["model"]["per_request"]["hops_by_edge"]["guest>hyp"]
    printed = verb("run", *arguments, "4", "--backing", "memfd-secret").stdout
    assert "splice: not to be had on this backing" in printed
    words = " ".join(printed.split())
    assert "Counts are to be compared, times are not" in words and "An exit is there and back" in words


def test_check_counts(verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    found = document(verb, "run", "--check-counts", "--cpu", "interpreted")
    assert found["mode"] == "check-counts" and found["good"] and len(found["results"]) == len(DESIGNS)
    assert all(line["source"] == "law" for result in found["results"] for line in result["counts"])
    printed = verb("run", "--check-counts", "--cpu", "interpreted", "--requests", "4").stdout
    assert "All counts are as predicted" in printed
    monkeypatch.setattr(measure, "predict", lambda _, design, requests: predict("memfd", design, requests))
    printed = verb("run", "--check-counts", "--cpu", "unicorn", "--backing", "uffd-window", code=1).stdout
    assert "Counts DIFFER" in printed


def children(pid: int) -> set[int]:
    return {
        int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()
    }


@pytest.mark.parametrize("isolated", [False, True])
def test_interrupted_it_leaves_nothing(isolated: bool, tmp_path: Path) -> None:
    """Ctrl-C once the guest has written something: status 130, no process, no file."""
    disk, temporary = tmp_path / "disk", tmp_path / "temporary"
    temporary.mkdir()
    with disk.open("wb") as file:
        file.truncate(16 << 20)
    os.utime(disk, (0, 0))
    arguments = ["--requests", "200000", "--backing", "uffd-window", "--disk", str(disk)]
    started = subprocess.Popen(
        [*COMMAND, *arguments, *(["--isolated"] if isolated else [])],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    while disk.stat().st_mtime_ns == 0:
        assert started.poll() is None, started.communicate()
        time.sleep(0.01)  # between looks; what is waited for is the guest's first write
    family = {inner for child in children(started.pid) for inner in children(child)}
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=SOON)
    assert started.returncode == 130 and "Traceback" not in said
    assert list(temporary.iterdir()) == [] and bool(family) is isolated
    for pid in family:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
