"""The JSON Schemas that are published are those of what each verb prints, in each of its modes."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from live import require
from pagewarden.lab import fetch, qemu
from pagewarden.report.docs import WHOLE
from pagewarden.report.documents.schemas import DOCUMENTS
from pagewarden.studies.calibrate import prediction_runs
from pagewarden.studies.probe import elsewhere
from pagewarden.studies.probe.isolation import isolation
from verbs import Ended, Verb, document, validate

ROOT = Path(__file__).parents[2]
ONE = ("--pages", "1", "--vcpus", "1", "--stranger", "strace")
JOBS = "[global]\nsize=64k\nbs=4k\nrw=write\n[a]\n[b]\niodepth=4\n"
BAD = ("--policy", "pkvm-2022", *ONE)
PRINTED: dict[str, list[tuple[str, ...]]] = {
    "list": [("list",), ("list", "policies")],
    "explain": [("compare", "--explain", name, "--policy", "guest-memfd") for name in ("window", "splice", "swap-in")],
    "law": [("law",), ("law", "--policy", "pkvm-2022", "--op", "kmap_read")],
    "compare": [
        ("compare",),
        ("compare", "--policy", "guest-memfd"),  # refuses some designs
        ("compare", "--set", "cache=cold", "JOBS"),
    ],
    "compare-mappings": [("compare", "--driver", "linux-virtio-blk")],
    "compare-sizes": [("compare", "--sizes", "4k..16k")],
    "compare-decide": [("compare", "--decide"), ("compare", "--decide", "--size", "64k")],
    "sweep": [("sweep", "GRID", "--out", "ROWS")],
    "pool": [("pool", "JOBS"), ("pool", "JOBS", "--slots", "128", "--depth", "64")],
    "serve": [],  # waits for QEMU: tests/cli/test_serve.py
    "keep": [],  # waits for a VMM: tests/keep/test_keeper.py
    "keep-seal": [("keep", "seal", "MEM", "SEALED", "--key", "KEY")],
    "migrate": [],  # waits for another process: tests/cli/test_migrate.py
    "check": [("check", *ONE), ("check", *BAD), ("check", *ONE, "--search", "apart"), ("check", "--max-seconds", "0")],
    "check-matrix": [("check", "--matrix", *ONE), ("check", "--matrix", *ONE, "--max-seconds", "0")],
    "check-bugs": [("check", "--bugs")],
    "check-protocol": [("check", "--protocol", "keeper", "--without", "removals-told")],
    "check-minimal": [
        ("check", "--minimal", "--policy", "memfd", *ONE, "--property", "host-never-reads-private", *limit)
        for limit in ((), ("--max-seconds", "0"))
    ],
    "probe": [("probe", "--path", "load"), ("probe", "--backing", "memfd", "--path", "store")],
    "probe-isolated": [("probe", "--isolated")],
    "probe-kernels": [],  # asks an archive: see below
    "run": [
        ("run", "--requests", "8", "--verify", "--cpu", "unicorn"),
        ("run", "--requests", "8", "--cpu", "interpreted"),
        ("run", "--requests", "8", "--isolated", "--cpu", "unicorn"),
        ("run", "--requests", "8", "--cpu", "unicorn", "--backing", "memfd"),  # leaks
    ],
    "run-all-designs": [("run", "--all-designs", "--requests", "4", "--cpu", "unicorn")],
    "run-check-counts": [("run", "--check-counts", "--requests", "2", "--cpu", cpu) for cpu in ("unicorn", "auto")],
    "predict": [],  # takes its time: see below
    "calibrate": [
        ("calibrate", "--seconds", "0.2", "--out", "OUT"),
        ("calibrate", "--seconds", "0.2", "--out", "OUT", "--no-busy", "--cpu", "none"),
    ],
}


def test_each_document_has_a_schema_and_a_section() -> None:
    assert {path.stem for path in (ROOT / "docs" / "schema").glob("*.json")} == set(DOCUMENTS) == set(PRINTED)
    assert all(f"docs/schema/{name}.json" in WHOLE for name in DOCUMENTS) and "docs/json.md" in WHOLE


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(("name", "arguments"), [(name, each) for name, calls in PRINTED.items() for each in calls])
def test_what_is_printed_is_as_the_schema_says(
    verb: Verb, name: str, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "jobs.fio").write_text(JOBS)
    (tmp_path / "mem").write_bytes(bytes(4095) + b"x")
    (tmp_path / "grid.toml").write_text('sizes = ["4k"]\npolicies = ["hybrid", "pkvm"]\nworkloads = ["jobs.fio"]\n')
    files = {"GRID": "grid.toml", "ROWS": "rows.csv", "OUT": "prices.toml", "JOBS": "jobs.fio"}
    files |= {"MEM": "mem", "SEALED": "sealed", "KEY": "key"}
    places = {word: str(tmp_path / name) for word, name in files.items()}
    words = [*(places.get(word, word) for word in arguments), "--json"]
    if name == "run":  # which searches its own process for a secret, and dumps it
        command = [sys.executable, "-m", "pagewarden", *words]
        process = subprocess.run(command, capture_output=True, text=True)
        done = Ended(process.returncode, process.stdout, process.stderr)
    else:
        done = verb(*words, code=None)
    require(done.status != 2 or bool(done.stdout), done.stderr)
    assert done.status in (0, 1, 2), done.stderr
    validate(name, json.loads(done.stdout))


@pytest.mark.parametrize("lack", ["", "qemu-system-x86_64 is not installed"])
def test_kernels_are_as_the_schema_says(verb: Verb, lack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "offers", lambda say: [fetch.Offer("debian:6.12", "6.12.1", True)])
    monkeypatch.setattr(qemu, "lack", lambda: lack)
    kernels = document(verb, "probe", "--kernels")
    validate("probe-kernels", kernels)
    assert kernels["lack"] == (lack or None)
    assert kernels["kernels"] == [{"name": "debian:6.12", "version": "6.12.1", "there": True}]


def test_another_kernel_is_as_the_schema_says(verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    found = replace(isolation(["memfd"], ["load"]), where="qemu")
    monkeypatch.setattr(elsewhere, "isolation_in", lambda *_: (found, []))
    monkeypatch.setattr(fetch, "kernel", lambda *_: fetch.Kernel("it", Path("/vmlinuz"), None))
    other = document(verb, "probe", "--kernel", "debian:6.12")
    validate("probe", other)
    assert other["where"] == "qemu"


def test_predictions_are_as_the_schema_says(verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_runs, "SIZES", (1,))
    monkeypatch.setattr(prediction_runs, "ROUNDS", 1)
    short = partial(prediction_runs.predict_runs, seconds=0.05, designs=("window", "bounce"))
    monkeypatch.setattr(prediction_runs, "predict_runs", short)
    validate("predict", document(verb, "run", "--predict", "--cpu", "unicorn", code=None))
