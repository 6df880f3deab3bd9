"""What the law expects of each path, the whole matrix for real, and that a difference is seen."""

import pytest
from msgspec import convert, to_builtins

from columns import ISOLATED, MEMFD, WINDOW
from live import require
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
HARM = (TrialResult.LEAK, TrialResult.TORN)


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
    if name.endswith("+isolated") or name in ("hybrid", "patch-v5", "guest-memfd"):  # two windows are of other memory
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
        "version",
        "command",
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


def test_a_document_of_another_kernel_is_judged_by_the_law_as_it_is_here(
    matrix: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = to_builtins(probed(matrix, []))
    found = judged(convert(document, SaidMatrix), "qemu")
    assert to_builtins(probed(found, [])) == {**document, "where": "qemu"}
    monkeypatch.setitem(SCRIPTS, ("load", READ), (Op.GUP_PIN,))  # another law than the one inside
    assert {row.path.name for row in judged(convert(document, SaidMatrix), "qemu").disagreements} == {"load"}
