"""`probe`: what the law expects of each path, the whole matrix for real, and that a difference is seen and told."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from msgspec import convert, to_builtins
from typer.testing import CliRunner
from typer.testing import Result as Run

from live import require
from pagewarden.cli.probe import probe
from pagewarden.kernel.kvm import Vcpu
from pagewarden.lab import fetch, packages, qemu
from pagewarden.law import EVERY, POLICIES, Op, Owner, policy_named
from pagewarden.memory.isolated.replace import Replacing
from pagewarden.probe.capabilities import Capability
from pagewarden.probe.catalogue import PATHS
from pagewarden.probe.registry import Direction
from pagewarden.probe.stages import Here
from pagewarden.probe.trial import State, TrialResult, TrialVerdict
from pagewarden.report.probe import probed
from pagewarden.studies.probe.elsewhere import judged
from pagewarden.studies.probe.expected import SCRIPTS, TURN, Expected, expected
from pagewarden.studies.probe.isolation import (
    MEMORIES,
    Isolation,
    MatrixColumn,
    TrialRow,
    chosen_paths,
    isolation,
    law_of,
)
from pagewarden.studies.probe.said import SaidMatrix
from pagewarden.vocab import UserMistake
from waits import SOON

READ, WRITE = Direction.READ, Direction.WRITE
MEMFD, WINDOW, ISOLATED = (
    MatrixColumn("memfd", False),
    MatrixColumn("uffd-window", False),
    MatrixColumn("uffd-window", True),
)
HARM = (TrialResult.LEAK, TrialResult.TORN)


def cli(*arguments: str) -> Run:
    app = typer.Typer()
    app.command()(probe)
    return CliRunner().invoke(app, arguments)


def test_every_path_has_one_script_of_operations_and_nothing_else_has() -> None:
    assert SCRIPTS.keys() == PATHS.keys()
    for key, script in SCRIPTS.items():
        assert (TURN in script) is key[0].endswith(("-before", "-in-flight"))
        assert script.count(TURN) <= 1


def test_what_a_path_needs_is_handed_to_an_untrusted_host_side() -> None:
    """Its room refuses by the filter (EPERM), flags that pin pages too; what it lets through, the page decides."""
    found = isolation(["uffd-window"], ["*-file", "*-socket", "p*v", "splice*", "msg_*", "o_direct*", "aio*"])
    rows = [row for row in found.rows if row.memory == ISOLATED]
    by_device = [row for row in rows if row.path.name.startswith(("o_direct", "aio"))]
    for row in by_device:
        require(row.verdict.result is not TrialResult.UNTRIED, row.verdict.reason or "")
    assert not [(row.path.name, row.verdict) for row in rows if row.agrees is not True]
    shared = {row.path.name: row.verdict for row in rows if row.state is State.SHARED}
    through = {name for name, verdict in shared.items() if verdict.result is TrialResult.ALLOWED}
    files = {"write-file", "read-file", "pwritev", "preadv", "o_direct-write", "o_direct-read"}
    assert through == files | {"write-socket", "read-socket"}
    assert {shared[name].error for name in shared.keys() - through if name.startswith("msg")} == {"EPERM"}
    kept = {row.path.name: row.verdict.error for row in rows if row.state is State.AGAIN}
    assert {kept[name] for name in through} == {"EFAULT"}


@pytest.mark.parametrize("name", [name for name in EVERY if name != "memfd-secret"])  # no guest ever gets a page
def test_the_law_answers_for_every_path(name: str) -> None:
    policy = policy_named(name)
    converts = not (policy.has("fixed") and policy.starts is Owner.GUEST)
    results = {
        (key, state): expected(policy, script, key[1], state).result
        for key, script in SCRIPTS.items()
        for state in (State if converts else (State.PRIVATE,))
    }
    assert set(results.values()) <= {TrialResult.REFUSED, TrialResult.ALLOWED, *HARM}
    harmed = {key[0] for (key, state), result in results.items() if result in HARM and state is not State.SHARED}
    if name in ("hybrid", "uffd-window+isolated", "patch-v5", "guest-memfd"):  # two windows are of other memory
        assert not harmed
    elif name.startswith("guest-memfd"):
        assert harmed == {"madvise-remove"}
    if name == "memfd":
        assert harmed == {name for name, _ in SCRIPTS} - {"mincore", "pagemap"}


def test_the_law_tells_refusals_by_their_last_operation() -> None:
    window = POLICIES["uffd-window"]
    assert expected(window, (Op.HOST_LOAD,), READ, State.PRIVATE) == Expected(
        TrialResult.REFUSED, "SIGBUS", Op.HOST_LOAD
    )
    assert expected(window, (Op.HOST_LOAD,), READ, State.SHARED) == Expected(TrialResult.ALLOWED)
    held = (Op.GUP_PIN, TURN, Op.KMAP_READ)
    assert expected(window, held, READ, State.PRIVATE) == Expected(TrialResult.REFUSED, "EFAULT", Op.GUP_PIN)
    assert expected(window, held, READ, State.AGAIN) == Expected(TrialResult.LEAK)
    assert expected(policy_named("uffd-window+isolated"), held, READ, State.AGAIN) == Expected(TrialResult.ALLOWED)
    assert expected(POLICIES["hybrid"].without("gup-blocked"), held, READ, State.AGAIN).error == "EAGAIN"


def test_a_sandboxed_call_is_refused_before_the_law_is_asked() -> None:
    mremap = PATHS["mremap", READ]
    assert law_of(ISOLATED, mremap, State.SHARED) == Expected(TrialResult.REFUSED, "EPERM")
    assert law_of(WINDOW, mremap, State.PRIVATE).result is TrialResult.LEAK


@pytest.fixture(scope="module")
def matrix() -> Isolation:
    return isolation(seconds=SOON)


def rows_of(matrix: Isolation, memory: MatrixColumn) -> list[TrialRow]:
    rows = [row for row in matrix.rows if row.memory == memory]
    tried = [row for row in rows if row.verdict.result is not TrialResult.UNTRIED]
    require(bool(tried), next((row.verdict.reason or "" for row in rows), "no rows"))
    return tried


def test_the_whole_matrix_agrees_with_the_law(matrix: Isolation) -> None:
    assert len(matrix.rows) == len(PATHS) * len(MEMORIES) * len(State)
    assert not [(row.memory.name, row.path.name, row.state, row.verdict, row.law) for row in matrix.disagreements]
    assert not matrix.ended(TrialResult.TIMEOUT), "what had no answer in time was not compared"


@pytest.mark.parametrize("memory", MEMORIES, ids=lambda memory: memory.name)
def test_paths_get_at_a_shared_page(matrix: Isolation, memory: MatrixColumn) -> None:
    touched = {row.path.name for row in rows_of(matrix, memory) if row.verdict.touched and row.state is State.SHARED}
    least = 15 if memory.isolated else 30 if memory.backing == "memfd-secret" else 40
    assert len(touched) >= least, "a refusal means little otherwise"


def test_nothing_leaks_to_an_untrusted_host_side(matrix: Isolation) -> None:
    rows = rows_of(matrix, ISOLATED)
    assert len({row.path.name for row in rows}) >= 40
    assert not [row for row in rows if row.verdict.result in HARM]
    refused = {row.path.name: row.verdict.error for row in rows if row.state is State.AGAIN}
    assert {refused[name] for name in ("vmsplice-before", "tee-before", "fork-before")} == {
        "EPERM"
    }  # none of its calls
    assert refused["msg_zerocopy-before"] == "EPERM"  # its connection is handed in, but no flag that pins pages


def test_a_plain_memfd_leaks_by_every_reading_path(matrix: Isolation) -> None:
    silent = {"mincore", "pagemap", "madvise-remove"}
    for row in rows_of(matrix, MEMFD):
        if row.path.direction is READ and row.state is not State.SHARED and row.path.name not in silent:
            assert row.verdict.result is TrialResult.LEAK, row.path.name


def test_the_json_document(matrix: Isolation) -> None:
    document = to_builtins(probed(matrix, [Capability("x", True, "")]))
    assert list(document) == [
        "schema",
        "verb",
        "kernel",
        "where",
        "capabilities",
        "matrix",
        "leaks",
        "disagreements",
        "untried",
        "timeouts",
        "baseline",
    ]
    assert (document["schema"], document["verb"]) == (1, "probe") and document["kernel"]
    keys = "backing isolated path state direction result errno law law_errno agrees reason since guest then"
    assert all(list(row) == keys.split() for row in document["matrix"])
    assert len(document["matrix"]) == len(matrix.rows)
    assert document["leaks"] == sum(row["result"] == "LEAK" for row in document["matrix"]) > 0
    assert document["disagreements"] == sum(row["agrees"] is False for row in document["matrix"])
    assert all(list(row) == ["name", "available", "reason"] for row in document["capabilities"])


def row(result: TrialResult, error: str | None, law: Expected) -> TrialRow:
    return TrialRow(WINDOW, PATHS["load", READ], State.PRIVATE, TrialVerdict(result, error), law)


def test_agreement() -> None:
    sigbus = Expected(TrialResult.REFUSED, "SIGBUS", Op.HOST_LOAD)
    assert row(TrialResult.REFUSED, "SIGBUS", sigbus).agrees
    assert not row(TrialResult.REFUSED, "SIGSEGV", sigbus).agrees, "the wrong signal"
    assert not row(TrialResult.LEAK, None, sigbus).agrees
    for unanswered in (TrialResult.UNTRIED, TrialResult.TIMEOUT):
        assert row(unanswered, None, sigbus).agrees is None, "it was not compared"
    assert row(TrialResult.REFUSED, "EIO", Expected(TrialResult.REFUSED, "EFAULT", Op.GUP_PIN)).agrees, (
        "a caller's own errno"
    )


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


def test_a_memory_that_forgets_to_close_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Here, "unshare", lambda self: None)
    found = isolation(["uffd-window"], ["load", "store"])
    cooperating = [row for row in found.disagreements if row.memory == WINDOW]
    if all(row.verdict.result is TrialResult.UNTRIED for row in found.rows if row.memory == WINDOW):
        require(False, str(found.lacks))
    assert {(row.path.name, row.state, row.verdict.result) for row in cooperating} == {
        ("load", State.AGAIN, TrialResult.LEAK),
        ("store", State.AGAIN, TrialResult.TORN),
    }


def test_an_isolated_memory_that_does_not_replace_pages_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Replacing, "replace", lambda self, offset, length: None)
    found = isolation(["uffd-window"], ["load", "write-pipe"])
    rows = [row for row in found.rows if row.memory == ISOLATED and row.state is State.AGAIN]
    require(rows[0].verdict.result is not TrialResult.UNTRIED, rows[0].verdict.reason or "")
    assert [(row.verdict.result, row.agrees) for row in rows] == [(TrialResult.LEAK, False)] * 2


def test_names_that_nothing_bears() -> None:
    with pytest.raises(UserMistake, match="uffd-window"):
        isolation(["uffd"])
    with pytest.raises(UserMistake, match="no path is called 'lod'"):
        isolation(patterns=["lod"])
    assert {path.name for path in chosen_paths(["mremap*"])} >= {"mremap", "mremap-dup"}


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


def test_a_document_of_another_kernel_is_judged_by_the_law_as_it_is_here(
    matrix: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = to_builtins(probed(matrix, []))
    found = judged(convert(document, SaidMatrix), "qemu")
    assert to_builtins(probed(found, [])) == {**document, "where": "qemu"}
    monkeypatch.setitem(SCRIPTS, ("load", READ), (Op.GUP_PIN,))  # another law than the one inside
    assert {row.path.name for row in judged(convert(document, SaidMatrix), "qemu").disagreements} == {"load"}


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
