"""`pagewarden compare` and `pagewarden law` as a user meets them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pagewarden.cost import load_profile
from pagewarden.designs import DESIGNS
from pagewarden.law import POLICIES
from pagewarden.studies.compare.comparison import Setup, compare
from pagewarden.studies.compare.explain import explain, procedure_named
from pagewarden.vocab import EDGES, Event
from pagewarden.workload import single
from verbs import Verb, document

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def test_json_has_the_documented_keys(verb: Verb) -> None:
    found = document(verb, "compare", str(EXAMPLES / "randrw.iolog"))
    assert {key: found[key] for key in ("schema", "verb", "backend")} == {
        "schema": 1, "verb": "compare", "backend": "model"}  # fmt: skip
    assert [design["name"] for design in found["designs"]] == list(DESIGNS)
    keys = {"hops", "hops_by_edge", "syscalls", "ranges", *(event.key for event in Event)}
    for design in found["designs"]:
        assert set(design["per_request"]) == set(design["total"]) == keys
        assert set(design["total"]["hops_by_edge"]) == set(EDGES)
        assert isinstance(design["total"]["hops"], int)
        assert design["total"]["hops"] == sum(design["total"]["hops_by_edge"].values())
        assert design["per_request"]["hops"] * found["workload"]["requests"] == design["total"]["hops"]
        assert design["ns_per_request_range"][0] <= design["ns_per_request"] <= design["ns_per_request_range"][1]
    assert found["cheapest"] in found["contenders"] and found["break_even"]


@pytest.mark.parametrize("example", ["randrw.iolog", "sequential.iolog", "mixed.fio", "ext4.blkparse"])
def test_every_example_gives_the_table(verb: Verb, example: str) -> None:
    printed = verb("compare", str(EXAMPLES / example)).stdout
    assert all(name in printed for name in DESIGNS) and "cheaper for requests of" in printed
    assert printed.startswith("Answer: ") and max(map(len, printed.splitlines()[3:20])) <= 80


def test_copies_are_counted_by_the_byte(verb: Verb) -> None:
    found = document(verb, "compare", str(EXAMPLES / "randrw.iolog"), "--design", "bounce")
    total = found["designs"][0]["total"]
    assert total["guest_copy_bytes"] == total["host_copy_bytes"] == found["workload"]["bytes"]
    assert found["break_even"] == []


def test_exact_prices_give_one_winner_and_never_is_null(verb: Verb) -> None:
    prices = {f"hop_{edge.replace('>', '_')}": 0 for edge in EDGES} | {
        "copy_warm": 0, "tlbi": 1000, "hyp_pte_set": 1, "hyp_pte_clear": 1, "access_syscalls": 100, "syscall_mmap": 100,
        "syscall_munmap": 100, "guest_copies": 0, "host_copies": 0,
    }  # fmt: skip
    settings = [f"--set={name}_ns{'_per_byte' * (name == 'copy_warm')}={value}" for name, value in prices.items()]
    found = document(verb, "compare", "--profile", "svm-epyc", *settings)
    assert found["designs"][0]["mib_per_s"] is None, "for nothing: no finite rate"
    assert found["cheapest"] == "dma-buffer"
    window = next(entry for entry in found["break_even"] if entry["design"] == "window")
    assert window["bytes"] is None and window["kinds"] == ["never", "never"]


def test_options_change_the_counts(verb: Verb) -> None:
    hops = {
        setting: document(verb, "compare", "--design", "window", "--size", "65536", "--set", setting)["designs"][0][
            "total"
        ]
        for setting in ("batch=true", "batch=false", "sync_notify=true", "in_place=true", "page_size=2m")
    }
    assert [hops[setting]["hops"] for setting in hops] == [8, 68, 10, 8, 8]
    assert hops["in_place=true"]["host_copies"] == 0 and hops["page_size=2m"]["hyp_pte_set"] == 1


def test_lazy_unshare_is_one_call_for_many(verb: Verb) -> None:
    found = document(verb, "compare", str(EXAMPLES / "randrw.iolog"), "--design", "window", "--set", "lazy=16")
    requests, total = found["workload"]["requests"], found["designs"][0]["total"]
    flushes = -(-requests // 16)
    assert total["hops"] == 6 * requests + 2 * flushes and total["tlbi"] == flushes
    assert total["hyp_pte_set"] == total["hyp_pte_clear"]


def test_a_design_that_a_policy_refuses_says_why(verb: Verb) -> None:
    printed = verb("compare", "--policy", "pkvm-2022", "--design", "pread", "--design", "window").stdout
    assert "pread: 1 of 1 requests fail" in printed and "EINVAL" in printed
    assert (
        document(verb, "compare", "--policy", "pkvm-2022", "--design", "pread")["designs"][0]["ns_per_request"] is None
    )


def test_explain_prints_the_listing(verb: Verb) -> None:
    printed = verb("compare", "--explain", "window").stdout
    transitions = [line for line in printed.splitlines() if "***" in line]
    assert len(transitions) == 8 and "rings the doorbell" in printed
    found = document(verb, "compare", "--explain", "strace", "--policy", "pkvm-2022", code=1)
    assert found["lines"][-1]["step"] == "no fix-up: the host dies" and "PANIC" in found["refused"]


REFUSING = ("--policy", "guest-memfd")


@pytest.mark.parametrize("name", ["splice", "pread", "swap-in"])
def test_a_listing_ends_where_the_law_refuses(verb: Verb, name: str) -> None:
    printed, told = (verb("compare", "--explain", name, *REFUSING, *more, code=1) for more in ((), ("--json",)))
    assert printed.stderr == told.stderr == ""
    *_, refused, verdict = printed.stdout.splitlines()
    found = json.loads(told.stdout)
    assert refused == f"REFUSED: {found['refused']}" and "does not work here" in verdict
    assert not found["works"] and found["refused"].split(":")[0] == ("ENOTSUP" if name == "swap-in" else "EINVAL")
    assert name == "swap-in" or "fd_get" in found["lines"][-1]["step"]


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("policy", ["guest-memfd", "patch-v5", "hybrid"])
def test_a_design_that_is_explained_works_where_it_is_compared(name: str, policy: str) -> None:
    """The listing and the comparison ask the same law."""
    made = Setup(POLICIES[policy], load_profile("vmx-skylake"))
    found = explain(made, procedure_named(made, name), 4096)
    compared = compare(made, single(4096), [DESIGNS[name]]).results[0]
    assert (found.refusal is None) == (compared.ns is not None)
    assert str(found.refusal) == str(compared.refusal)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["compare", "no-such-file"], "no-such-file"),
        (["compare", "--design", "windw"], "window"),
        (["compare", "--policy", "hybird"], "hybrid"),
        (["compare", "--profile", "vmx-skylak"], "vmx-skylake"),
        (["compare", "--set", "batch"], "key=value"),
        (["compare", "--set", "batch=perhaps"], "true"),
        (["compare", "--set", "tlbi=5"], "tlbi_ns"),
        (["compare", "--set", "pool_pages=-1"], "whole number"),
        (["compare", "--explain", "windw"], "migrate-page"),
        (["law", "--op", "gup"], "gup_pin"),
        (["law", "--without", "scrub"], "scrubs"),
    ],
)
def test_a_mistake_is_one_clear_message(verb: Verb, arguments: list[str], expected: str) -> None:
    message = verb(*arguments, code=2).stderr
    assert expected in message and len(message.splitlines()) <= 3


def test_bad_input_names_the_line_and_prints_nothing(verb: Verb, tmp_path: Path) -> None:
    bad = tmp_path / "bad.iolog"
    bad.write_text("fio version 2 iolog\n/dev/x add\n/dev/x open\n/dev/x write 0 4096\n/dev/x wrote 0 4096\n")
    done = verb("compare", str(bad), code=2)
    assert done.stdout == "" and "5" in done.stderr and "wrote" in done.stderr


def test_law_prints_cases_and_json(verb: Verb) -> None:
    printed = verb("law", "--policy", "hybrid", "--op", "gup_pin").stdout
    assert "EFAULT" in printed and "vma_is_secretmem" in printed and "\n  asks for gup-blocked\n" in printed
    assert "unmaps-first (not here)" in verb("law", "--policy", "pkvm", "--op", "unshare_check").stdout
    printed = verb("law", "--policy", "guest-memfd", "--op", "unshare_commit").stdout
    for field in ("beside   where shared pages are other memory", "LEAVING: on its way to private"):
        assert printed.count(field) == 1
    found = document(verb, "law", "--policy", "pkvm", "--op", "kmap_read")
    cases = found["ops"][0]["cases"]
    assert sum(case["states"] for case in cases) == found["states"]
    assert any(case["changes"].get("owner") == "POISON" for case in cases)


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m pagewarden law | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == "" and done.stdout.startswith("hybrid")


def test_the_answer_comes_first_and_every_job_has_its_own(verb: Verb, tmp_path: Path) -> None:
    text = "[global]\ndirect=1\n[small]\nrw=randread\nbs=4k\nsize=1m\n[large]\nstonewall\nrw=write\nbs=1m\nsize=64m\n"
    (tmp_path / "job.fio").write_text(text)
    printed = verb("compare", str(tmp_path / "job.fio")).stdout
    assert printed.startswith("Answer: ") and "experiments of their own" in printed
    assert "dma-buffer does not apply: the job is direct I/O" in printed
    found = document(verb, "compare", str(tmp_path / "job.fio"))
    assert [(job["name"], job["requests"], job["depth"]) for job in found["jobs"]] == [
        ("small", 256, 1),
        ("large", 64, 1),
    ]
    assert found["workload"]["requests"] == 320 and found["notes"] and found["depth"] == 1
    assert found["cheapest"] != "dma-buffer" and len(found["jobs"][0]["designs"]) == len(DESIGNS)
    alone = document(verb, "compare", str(tmp_path / "job.fio"), "--section", "large")
    assert alone["workload"]["requests"] == 64 and alone["jobs"] == []
    together = [design["total"]["hops"] for design in found["designs"]]
    assert together == [sum(job["designs"][i]["total"]["hops"] for job in found["jobs"]) for i in range(len(DESIGNS))]


def test_fio_s_command_line_and_what_has_no_effect(verb: Verb) -> None:
    command = ["compare", "--json", "--", "fio", "--name=a", "--rw=randread", "--size=1m", "--bs=4k"]
    assert json.loads(verb(*command).stdout)["workload"]["requests"] == 256
    said = verb("compare", "--size", "8192", str(EXAMPLES / "mixed.fio"), code=2).stderr
    assert "have no effect on a workload" in said
    assert "one workload at a time" in verb("compare", "a.fio", "b.fio", code=2).stderr
    assert "no column is called 'x'" in verb("compare", "--columns", "x", str(EXAMPLES / "mixed.fio"), code=2).stderr


def test_wide_shows_every_count(verb: Verb) -> None:
    assert "hyp PTE set" in verb("compare", "--wide").stdout and "hyp PTE set" not in verb("compare").stdout
