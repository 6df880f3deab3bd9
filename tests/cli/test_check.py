"""`pagewarden check` as a user meets it."""

import json
from pathlib import Path

import pytest

from pagewarden.check.minimal import Minimal
from pagewarden.report.check import print_minimal
from pagewarden.report.console import console
from verbs import Verb, document

SMALL = ("--pages", "1", "--vcpus", "1", "--stranger", "strace,touch")
KEYS = {
    "schema", "version", "command", "verb", "policy", "design", "pages", "vcpus", "symmetry", "states",
    "states_by_depth", "transitions", "depth", "seconds", "exhausted", "stopped", "absent", "properties", "notes",
}  # fmt: skip


def test_json_has_the_documented_keys(verb: Verb, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    found = document(verb, "check", "--policy", "pkvm-2022", *SMALL, "--trace", str(trace), code=1)
    assert set(found) == KEYS
    assert (found["schema"], found["verb"], found["symmetry"], found["exhausted"]) == (1, "check", True, True)
    verdicts = {entry["name"]: entry for entry in found["properties"]}
    for entry in found["properties"]:
        assert set(entry) == {"name", "kind", "promise", "verdict", "trace", "ways"}
        assert (entry["promise"] is None) == (entry["kind"] == "sometimes")
        assert entry["kind"] in ("always", "sometimes") and entry["verdict"] in ("holds", "fails", "open")
        assert all(set(step) == {"actor", "action", "effect", "rule"} for step in entry["trace"])
    panic = verdicts["host-never-panics"]
    assert panic["verdict"] == "fails" and "kmap_read" in panic["trace"][-1]["action"]
    assert "host-never-panics fails" in {event["name"] for event in json.loads(trace.read_text())["traceEvents"]}
    (way,) = panic["ways"]
    assert (way["actors"], way["steps"]) == (["strace"], len(panic["trace"])) and way["trace"] == panic["trace"]
    assert any(each.startswith("gup-blocked with gets-pfn (step ") for each in way["missing"])


KCORE = ("--pages", "1", "--vcpus", "1", "--stranger", "kcore", "--property", "host-never-reads-private")


@pytest.mark.parametrize(
    ("policy", "encrypted"), [("guest-memfd", True), ("guest-memfd+sev-snp", True), ("memfd", False)]
)
def test_what_encryption_changes_in_a_verdict_is_said_with_it(verb: Verb, policy: str, encrypted: bool) -> None:
    """A guest_memfd beside other memory is what SNP and TDX guests have; ordinary memory is in the clear."""
    found = document(verb, "check", "--policy", policy, *KCORE, code=1)
    assert [entry["verdict"] for entry in found["properties"]] == ["fails"]
    assert [note.startswith("the law has no encryption. On SEV-SNP and TDX") for note in found["notes"]] == [
        True
    ] * encrypted
    printed = verb("check", "--policy", policy, *KCORE, code=1).stdout
    assert ("note: the law has no encryption" in printed) == encrypted


def test_a_failure_that_encryption_does_not_change_has_no_such_note(verb: Verb) -> None:
    asked = ("--pages", "1", "--vcpus", "1", "--stranger", "punch", "--property", "host-never-destroys-private")
    found = document(verb, "check", "--policy", "guest-memfd", *asked, code=1)
    assert found["notes"] == [] and found["properties"][0]["verdict"] == "fails"


def test_a_failure_is_told_as_a_listing(verb: Verb) -> None:
    done = verb("check", "--policy", "pkvm-2022", *SMALL, "--property", "host-never-panics", code=1)
    assert "*** guest -> hypervisor" in done.stdout and "process_vm_readv()" in done.stdout
    assert "the host kernel dies" in done.stdout and "here it goes wrong: host-never-panics" in done.stdout


def test_what_holds_is_status_0(verb: Verb) -> None:
    done = verb("check", "--policy", "pkvm-2022", "--with", "gup-blocked", *SMALL, "--property", "host-never-panics")
    assert "holds" in done.stdout
    assert document(verb, "check", "--policy", "hybrid", *SMALL, "--property", "host-never-panics")["exhausted"]


def test_what_is_not_exhausted_is_status_2(verb: Verb) -> None:
    done = verb("check", "--search", "together", "--max-memory", "8M", "--property", "host-never-panics", code=2)
    assert "not exhausted" in done.stdout and "holds" not in done.stdout


def test_without_symmetry(verb: Verb) -> None:
    with_, without = (
        document(verb, "check", "--policy", "hybrid", *SMALL[2:], flag) for flag in ("--symmetry", "--no-symmetry")
    )
    assert with_["symmetry"] and not without["symmetry"] and with_["pages"] == without["pages"] == 2
    assert with_["states"] < without["states"]
    verdicts = [[(entry["name"], entry["verdict"]) for entry in found["properties"]] for found in (with_, without)]
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--policy", "hybird"), "hybrid"),
        (("--stranger", "strase"), "strace"),
        (("--without", "tlb-flush"), "tlb-flushed"),
        (("--property", "never"), "host-never-panics"),
        (("--max-memory", "lots"), "512M"),
        (("--pages", "0"), "1 to 8"),
        (("--search", "sideways"), "together"),
        (("--matrix", "--executor", "cloud"), "dask://"),
        (("--export", "lisp"), "murphi"),
        (("--export", "spin"), "for spin: promela"),
    ],
)
def test_mistakes_are_one_message(verb: Verb, arguments: tuple[str, ...], word: str) -> None:
    message = verb("check", *arguments, code=2).stderr
    assert word in message and message.count("\n") == 1


HELPED = """from dataclasses import replace
from pagewarden.designs import DESIGNS, Design, Do
from pagewarden.law import Op


def build(options, policy, write):
    known = DESIGNS["window"](options, policy, write)
    kept = [step for step in known.steps if not (isinstance(step, Do) and step.op is Op.HOST_TLBI)]
    return replace(known, name="no-flush", steps=tuple(kept))


mine = Design("no-flush", build)
"""


def test_what_holds_by_a_stranger_s_help_alone_is_said(verb: Verb, tmp_path: Path) -> None:
    (mine := tmp_path / "mine.py").write_text(HELPED)
    one = ("check", "--pages", "1", "--vcpus", "1", "--property", "unshare-succeeds", "--property", "io-completes")
    own = (*one, "--plugin", str(mine), "--design", "no-flush")
    said = " ".join(verb(*own, code=None).stdout.split())
    assert "note: unshare-succeeds, io-completes hold only with the stranger's help" in said
    assert "only with the stranger's help" in str(document(verb, *own, code=None)["notes"])
    for words in (one, (*own, "--stranger", "none")):
        assert "help" not in verb(*words, code=None).stdout
    every = ("check", "--matrix", "--vcpus", "1", "--property", "unshare-succeeds")
    by_policy = {
        words[-1]: [it["helped"] for it in document(verb, *words, code=None)["policies"]]
        for words in (every, (*every, "--plugin", str(mine), "--design", "no-flush"))
    }
    assert ["unshare-succeeds"] in by_policy["no-flush"] and not any(by_policy["unshare-succeeds"])


def test_matrix(verb: Verb) -> None:
    found = document(verb, "check", "--matrix", "--vcpus", "1", "--stranger", "strace,touch,dma")
    lines = {line["policy"]: {entry["name"]: entry["verdict"] for entry in line["properties"]}
             for line in found["policies"]}  # fmt: skip
    assert lines["memfd"]["host-never-reads-private"] == "fails"
    assert lines["pkvm-2022"]["host-never-panics"] == "fails" and lines["pkvm"]["host-never-panics"] == "holds"
    assert "fails" not in {verdict for name, verdict in lines["hybrid"].items() if name.startswith("host-")}


@pytest.mark.parametrize(("kind", "word"), [("murphi", "ruleset p: page_t"), ("promela", "proctype vcpu()")])
def test_export(verb: Verb, kind: str, word: str, tmp_path: Path) -> None:
    file = tmp_path / "model"
    said = verb("check", *SMALL, "--export", kind, str(file)).stdout
    assert (
        said.startswith(f"{file}: ") and said.count("\n") == 1 and {"murphi": "rumur", "promela": "pan"}[kind] in said
    )
    assert word in file.read_text() and "kmap_read" in file.read_text()


def test_minimal(verb: Verb) -> None:
    """What keeps a host alive that straces: today's pKVM takes the page, and could refuse the pin."""
    gone = ("scrubs", "in-place", "state-checked", "moves-checked", "file-io", "punches")
    without = [argument for name in gone for argument in ("--without", name)]
    arguments = ("--policy", "pkvm", "--with", "gup-blocked", "--with", "gets-pfn", *without, *SMALL[:4])
    asked = ("--stranger", "strace", "--property", "host-never-panics", "--property", "host-never-reads-private")
    found = document(verb, "check", "--minimal", *arguments, *asked)
    assert found["sets"] == [["gets-pfn", "gup-blocked"], ["force-reclaim", "injects", "tlb-flushed"]]


def test_a_mechanism_that_is_added_and_taken_away(verb: Verb) -> None:
    said = verb("check", "--policy", "memfd", "--with", "mmu-lock", "--without", "mmu-lock", code=2).stderr
    assert "mmu-lock is given both by --with and by --without" in said and "lacks" not in said


def test_minimal_that_is_interrupted_at_once_heads_no_list(capsys: pytest.CaptureFixture[str]) -> None:
    print_minimal(Minimal([], 393_216, interrupted=True), ("host-never-panics",), console())
    assert (
        capsys.readouterr().out == "interrupted before any set was found that will do: 393,216 sets are not decided\n"
    )
