"""What one matrix says that another did not, for people, for programs and for whoever runs kernel tests."""

import json
import re
from pathlib import Path

import pytest
import typer
from msgspec import to_builtins
from msgspec.structs import replace
from typer.testing import CliRunner
from typer.testing import Result as Run

from pagewarden.cli.probe import probe
from pagewarden.probe.catalogue import PATHS
from pagewarden.probe.registry import Direction
from pagewarden.probe.trial import State, TrialResult, TrialVerdict
from pagewarden.report import tap
from pagewarden.report.documents.probe import Probed
from pagewarden.report.probe import probed, verdict
from pagewarden.studies.probe.changes import Ending, TrialKey, compare
from pagewarden.studies.probe.expected import Expected
from pagewarden.studies.probe.isolation import Isolation, MatrixColumn, TrialRow
from pagewarden.vocab import UserMistake

LEAK, REFUSED, ALLOWED = Ending(TrialResult.LEAK), Ending(TrialResult.REFUSED, "EFAULT"), Ending(TrialResult.ALLOWED)
UNTRIED, SILENT = Ending(TrialResult.UNTRIED), Ending(TrialResult.TIMEOUT)


def key(path: str, state: str = "private") -> TrialKey:
    return TrialKey("memfd", False, path, "read", state)


@pytest.mark.parametrize(
    ("state", "before", "now", "kind", "good"),
    [
        ("private", LEAK, REFUSED, "fixed", True),
        ("private", Ending(TrialResult.HANG), ALLOWED, "fixed", True),
        ("private", REFUSED, LEAK, "worse", False),
        ("private", ALLOWED, Ending(TrialResult.TORN), "worse", False),
        ("shared", ALLOWED, REFUSED, "worse", False),
        ("private", ALLOWED, REFUSED, "other", True),
        ("private", REFUSED, Ending(TrialResult.REFUSED, "EINVAL"), "other", True),
        ("private", LEAK, Ending(TrialResult.TORN), "other", True),
        ("private", LEAK, UNTRIED, "silent", True),
        ("private", LEAK, SILENT, "silent", False),
        ("private", UNTRIED, SILENT, "other", True),
        ("private", UNTRIED, LEAK, "worse", False),
    ],
)
def test_a_change_is_of_one_kind(state: str, before: Ending, now: Ending, kind: str, good: bool) -> None:
    found = compare({key("x", state): before}, {key("x", state): now})
    assert {name: len(getattr(found, name)) for name in ("fixed", "worse", "other", "silent")} == {
        name: int(name == kind) for name in ("fixed", "worse", "other", "silent")
    }
    assert found.good is good


def test_what_only_one_has_is_counted() -> None:
    found = compare({key("a"): LEAK, key("b"): LEAK}, {key("b"): LEAK, key("c"): LEAK, key("d"): LEAK})
    assert (found.added, found.gone) == (2, 1) and found.good and not found.worse


# -- by the verb -------------------------------------------------------------------------------------------------------


def cli(*arguments: str) -> Run:
    app = typer.Typer()
    app.command()(probe)
    return CliRunner().invoke(app, arguments)


WORDS = ("--backing", "memfd", "--path", "load")


def earlier(tmp_path: Path, result: str) -> str:
    """A document of an earlier kernel on which a private page gave that result."""
    document = json.loads(cli(*WORDS, "--json").output)
    document["kernel"] = "9.8"
    for trial in document["matrix"]:
        if trial["state"] == "private":
            trial["result"], trial["errno"] = result, "SIGBUS" if result == "refused" else None
    (tmp_path / f"{result}.json").write_text(json.dumps(document))
    return str(tmp_path / f"{result}.json")


def test_what_got_worse_makes_the_status_1_though_the_law_expects_it(tmp_path: Path) -> None:
    run = cli(*WORDS, "--baseline", earlier(tmp_path, "refused"))
    assert run.exit_code == 1
    first, *lines = run.output.splitlines()
    assert first == "FAIL: beside Linux 9.8, 1 got worse."
    assert "worse: memfd, load, read, private: refused (SIGBUS) -> LEAK" in lines


def test_a_leak_that_closed_is_a_success_though_the_law_does_not_know_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = earlier(tmp_path, "TORN")
    run = cli(*WORDS, "--baseline", before)
    assert run.exit_code == 0 and "PASS: beside Linux 9.8, 1 otherwise different." in run.output
    monkeypatch.setattr("pagewarden.probe.trial.shows", lambda seen, canary: False)  # a kernel that shows nothing
    run = cli(*WORDS, "--baseline", before)
    assert run.exit_code == 0, run.output
    assert "PASS: beside Linux 9.8, 2 harm less." in run.output.splitlines()[0]
    assert "fixed: memfd, load, read, private: TORN -> allowed" in run.output
    document = json.loads(cli(*WORDS, "--baseline", before, "--json").output)
    assert document["disagreements"] == 2 and document["baseline"]["good"] and document["baseline"]["kernel"] == "9.8"
    assert [change["state"] for change in document["baseline"]["fixed"]] == ["private", "again-private"]


def test_a_baseline_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"kernel": "6.1", "matrix": [{"backing": 7}]}')
    failed = cli(*WORDS, "--baseline", str(tmp_path / "x")).exception
    assert isinstance(failed, UserMistake) and "no document of `probe --json`" in str(failed)
    other = cli("--backing", "memfd", "--path", "store", "--baseline", earlier(tmp_path, "refused")).exception
    assert isinstance(other, UserMistake) and "none of these trials" in str(other)
    missing = cli(*WORDS, "--baseline", str(tmp_path / "none")).exception
    assert isinstance(missing, FileNotFoundError) and missing.filename == str(tmp_path / "none")


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        ([0, 1, 2, 3], "FAIL: 1 of 2 trials are not what the law says, 0 of them leaks; 1 gave no answer in time; "
         "1 could not be tried."),
        ([0, 3], "FAIL: all of 1 trials are what the law says; 1 gave no answer in time."),
        ([0, 2], "PASS: all of 1 trials are what the law says; 1 could not be tried. "
         "1 leaks are known weaknesses: the law expects them of that memory."),
        ([2], "SKIP: nothing could be judged; 1 could not be tried."),
    ],
)  # fmt: skip
def test_the_first_line_counts_what_was_not_judged_apart(trials: list[int], said: str) -> None:
    rows = isolation_of_each_kind().rows
    found = probed(Isolation("9.9", tuple(rows[each] for each in trials)), [])
    assert verdict(found) == said


@pytest.mark.parametrize(
    "words",
    [
        "--tap --json",
        "--modules /tmp",
        "--kernels --explain load",
        "--isolated --backing memfd",
        "--explain load --tap",
    ],
)
def test_an_option_without_effect_is_a_mistake(words: str) -> None:
    assert isinstance(cli(*words.split()).exception, UserMistake)


# -- KTAP --------------------------------------------------------------------------------------------------------------

RESULT = re.compile(r"(?P<indent> *)(?P<ok>ok|not ok) (?P<number>\d+) (?P<name>[^ #]+)(?: # (?P<directive>[A-Z]+)?.*)?")


def matrix() -> Probed:
    return probed(isolation_of_each_kind(), [])


def isolation_of_each_kind() -> Isolation:
    """A memory with one trial of each kind."""
    leak = Expected(TrialResult.LEAK)
    kinds = {
        "load": (TrialVerdict(TrialResult.LEAK), leak), "mremap": (TrialVerdict(TrialResult.REFUSED, "EFAULT"), leak),
        "fork": (TrialVerdict(TrialResult.UNTRIED, reason="no fork here"), leak),
        "mlock": (TrialVerdict(TrialResult.TIMEOUT, reason="no answer in 1 s"), leak),
    }  # fmt: skip
    column = MatrixColumn("uffd-window", True)
    rows = [TrialRow(column, PATHS[name, Direction.READ], State.PRIVATE, *kind) for name, kind in kinds.items()]
    return Isolation("9.9", tuple(rows))


def test_ktap_is_what_its_document_says() -> None:
    lines = list(tap.lines(matrix()))
    assert lines[:4] == ["KTAP version 1", "1..1", "  KTAP version 1", "  1..4"]
    found = [match for line in lines[4:] if (match := RESULT.fullmatch(line))]
    assert len(found) == len(lines) - 4
    inner = [(m["ok"], m["name"].split("-read")[0], m["directive"]) for m in found if m["indent"]]
    assert inner == [
        ("ok", "load", "XFAIL"), ("not ok", "mremap", None), ("ok", "fork", "SKIP"), ("not ok", "mlock", "TIMEOUT"),
    ]  # fmt: skip
    assert [int(m["number"]) for m in found] == [1, 2, 3, 4, 1]
    assert (found[-1]["ok"], found[-1]["name"]) == ("not ok", "uffd-window-isolated")


def test_ktap_beside_a_baseline_fails_what_got_worse_alone(tmp_path: Path) -> None:
    document = to_builtins(matrix())
    document["matrix"] = document["matrix"][:1]
    document["matrix"][0]["result"] = "refused"
    (tmp_path / "x").write_text(json.dumps(document))
    run = cli(*WORDS, "--baseline", earlier(tmp_path, "refused"), "--tap")
    assert run.exit_code == 1
    assert [line.split(" #")[0] for line in run.output.splitlines()[4:]] == [
        "  not ok 1 load-read-private", "  ok 2 load-read-shared", "  ok 3 load-read-again-private", "not ok 1 memfd",
    ]  # fmt: skip
    assert run.output.splitlines()[4].split(" # ")[1] == "LEAK, was refused (SIGBUS)"
    passed = list(tap.lines(replace(matrix(), matrix=matrix().matrix[:1])))
    assert passed[-1] == "ok 1 uffd-window-isolated"
