"""`pagewarden compare` by platform, by size, as CSV, and with a design of the user's own."""

import csv
import io
import json
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pagewarden import __version__
from pagewarden.cli import app
from pagewarden.cli.platforms import PLATFORMS
from pagewarden.cost import Cache, load_profile
from pagewarden.cost.names import EVENTS, PRICES
from pagewarden.cost.price import quantities
from pagewarden.designs import DESIGNS
from pagewarden.law import policy_named
from pagewarden.studies.compare.comparison import Setup, counts_of
from pagewarden.vocab import Refused
from verbs import Verb, document


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["compare", *arguments])


def test_a_platform_sets_policy_and_prices_and_what_is_given_wins() -> None:
    snp = json.loads(run("--platform", "sev-snp", "--json").output)
    assert (snp["policy"], snp["profile"]) == ("guest-memfd+sev-snp", "snp-epyc")
    mixed = json.loads(run("--platform", "pkvm", "--profile", "arm64-kunpeng", "--json").output)
    assert (mixed["policy"], mixed["profile"]) == ("pkvm", "arm64-kunpeng")
    assert "did you mean 'sev-snp'" in run("--platform", "sevsnp").stderr


def test_sizes_are_powers_of_two_between_two_and_csv_has_a_row_a_design() -> None:
    found = json.loads(run("--sizes", "4k..64k", "--json").output)
    assert [size["bytes"] for size in found["sizes"]] == [4096, 8192, 16384, 32768, 65536]
    assert all(size["cheapest"] for size in found["sizes"])
    rows = list(csv.DictReader(io.StringIO(run("--sizes", "4k,1m", "--csv").output)))
    assert len(rows) == 14 and {row["bytes"] for row in rows} == {"4096", "1048576"}
    window = next(row for row in rows if row["design"] == "window")
    assert (window["hops"], window["access_syscalls"], window["tlbi"]) == ("8", "0", "1")
    refused = list(csv.DictReader(io.StringIO(run("--policy", "guest-memfd", "--csv").output)))
    assert next(row for row in refused if row["design"] == "splice")["refused"] and refused[2]["hops"] != ""
    for wrong in ("64k..4k", "9q", "0", "4k..", "5g"):
        assert run("--sizes", wrong).exit_code == 2


def test_a_design_of_the_users_own_stands_beside_the_others(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    found = json.loads(run("--plugin", str(root / "examples/own_design.py"), "--design", "polled", "--json").stdout)
    assert [design["name"] for design in found["designs"]] == ["polled"]
    mine = tmp_path / "mine.py"
    for text, said in (("x = 1\n", "no Design and no Policy"), ("\n1 / 0\n", "line 2: ZeroDivisionError")):
        mine.write_text(text)
        assert said in run("--plugin", str(mine)).stderr
    assert "expected a Python file" in run("--plugin", str(tmp_path)).stderr


BAD = """from dataclasses import replace
from pagewarden.designs import DESIGNS, Design, Options


def build(options, policy, write):
    known = DESIGNS["window"](options, policy, write)
    return {}


mine = Design("mine", build)
"""


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("known.step", "{mine}, line 7: AttributeError: 'Procedure' object has no attribute 'step' (design mine)"),
        ("replace(known, seps=())", "{mine}, line 7: TypeError: "),
        ("None", "{mine}: design mine built a NoneType, not a Procedure"),
    ],
)
def test_an_error_of_a_design_is_its_author_s(verb: Verb, returned: str, says: str, tmp_path: Path) -> None:
    (mine := tmp_path / "mine.py").write_text(BAD.format(returned))
    for words in (
        ("compare",), ("compare", "--sizes", "4k"), ("compare", "--explain", "mine"), ("check", "--design", "mine"),
        ("list", "designs"),
    ):  # fmt: skip
        said = verb(*words, "--plugin", str(mine), code=2).stderr
        assert f"pagewarden: --plugin {says.format(mine=mine)}" in said and said.count("\n") == 1


def test_other_processes_know_a_design_of_the_users_own(verb: Verb, tmp_path: Path) -> None:
    (grid := tmp_path / "grid.toml").write_text('sizes = ["4k"]\n')
    rows, mine = tmp_path / "rows.csv", tmp_path / "mine.py"
    mine.write_text(BAD.format("replace(known, name='mine')"))
    verb("sweep", str(grid), "--out", str(rows), "--plugin", str(mine))
    costs = {row["design"]: row["low_ns"] for row in csv.DictReader(io.StringIO(rows.read_text()))}
    assert costs["mine"] == costs["window"] != ""
    mine.write_text(BAD.format("known.step"))
    said = verb("sweep", str(grid), "--out", str(rows), "--plugin", str(mine), code=2).stderr
    assert f"--plugin {mine}, line 7: AttributeError: " in said and said.count("\n") == 1


def test_a_design_of_the_users_own_has_a_name_everywhere(verb: Verb) -> None:
    own = ("--plugin", str(Path(__file__).parents[2] / "examples/own_design.py"))
    listed = verb("compare", *own, "--explain", "polled").stdout
    assert listed.startswith("polled, 4,096 bytes") and "rings the doorbell" not in listed
    assert document(verb, "list", "designs", *own)["kinds"]["designs"][-1]["name"] == "polled"
    assert "leave it out" in verb("list", "drivers", *own, code=2).stderr
    for words in (("check", *own, "--design", "pold"), ("compare", *own, "--explain", "pold")):
        said = verb(*words, code=2).stderr
        assert "did you mean 'polled'" in said and "bounce" in said


CACHES: tuple[Cache, ...] = ("warm", "cold")
PREPARED = "the pages are there before the first request"
UNCOUNTED = {
    "allocations": PREPARED, "faults": PREPARED,
    "scrubs": "no page leaves the guest", "hyp_copies": "no page moves", "injections": "no host access is stopped",
    "io_pte_clear": "no device has a mapping of its own", "io_pte_clear_range": "no device has a mapping of its own",
}  # fmt: skip
"""Prices that no design of any platform counts, and why."""
NO_TABLE = "guest_memfd maps nothing for the host, and this CPU has no table of owners"
ONE_VIEW = "the guest's entry stays when a page is shared"
ALONE = "the hypervisor converts by itself"
NO_ENTRIES = {name: NO_TABLE for name in PRICES if name.startswith("hyp_pte_")}
NOBODY_ELSE = {
    "access_syscalls": ALONE, "notifications": ALONE, "guest_pte_set": ONE_VIEW, "guest_pte_clear": ONE_VIEW,
    "syscall_mprotect": "no design calls it",
}  # fmt: skip
BESIDES = {"vmx": NO_ENTRIES, "svm": NO_ENTRIES, "pkvm": NOBODY_ELSE, "proposal": NOBODY_ELSE}


@pytest.mark.parametrize("name", PLATFORMS)
def test_every_price_of_a_platform_is_counted_by_a_design_or_says_why_not(name: str) -> None:
    """A platform is a policy and a profile that speak of the same machine: of SNP's RMPUPDATE, of TDX's SEAMCALLs."""
    setup = Setup(policy_named(PLATFORMS[name].policy), load_profile(PLATFORMS[name].profile))
    paid = set()
    for design, cache, write in product(DESIGNS.values(), CACHES, (True, False)):
        with suppress(Refused):
            counts = counts_of(setup, design, 4, write).as_dict()
            paid |= {price for price, n in quantities(counts, setup.profile, cache).items() if n}
    expected = (UNCOUNTED | BESIDES.get(name, {})).keys() & setup.profile.prices.keys()
    assert setup.profile.prices.keys() - paid == expected


@pytest.mark.parametrize(("platform", "dearest"), [("sev-snp", 3400), ("tdx", 16600)])
def test_a_conversion_costs_the_table_of_owners_too(platform: str, dearest: float) -> None:
    """A page shared and taken back: an entry cleared, an entry set, of the profile's own prices."""
    lines = json.loads(run("--platform", platform, "--explain", "window", "--json").output)["lines"]
    paid = {
        line["step"].split(":")[0]: line for line in lines if {"hyp_pte_set", "hyp_pte_clear"} & line["counts"].keys()
    }
    assert paid["share"]["counts"] == {"hyp_pte_clear": 1} and paid["unshare_commit"]["counts"] == {"hyp_pte_set": 1}
    assert len(paid) == 2 and all(line["ns_range"][1] >= dearest for line in paid.values())
    found = json.loads(run("--platform", platform, "--set", "hyp_pte_set_ns=100000", "--json").output)
    window = next(design for design in found["designs"] if design["name"] == "window")
    assert window["ns_by_price"]["hyp_pte_set"] == [100000, 100000] and found["notes"] == []


@pytest.mark.parametrize(
    ("policy", "profile", "said"),
    [
        ("guest-memfd", "snp-epyc", "--policy guest-memfd+sev-snp"),
        ("guest-memfd-inplace", "tdx-xeon", "--policy guest-memfd-inplace+tdx"),
        ("guest-memfd+sev-snp", "snp-epyc", ""), ("guest-memfd", "svm-epyc", ""), ("hybrid", "snp-epyc", ""),
    ],
)  # fmt: skip
def test_a_policy_without_the_table_that_its_profile_prices_is_said(policy: str, profile: str, said: str) -> None:
    for more in ((), ("--sizes", "4k")):
        notes = json.loads(run("--policy", policy, "--profile", profile, *more, "--json").output)["notes"]
        assert len(notes) == bool(said) and all(note.endswith(f"give {said}") for note in notes)


@pytest.mark.parametrize("more", [(), ("--sizes", "4k,8k")])
def test_a_price_that_nothing_is_paid_by_is_said(more: tuple[str, ...]) -> None:
    given = ("--platform", "svm", "--set", "hyp_pte_set_ns=100000", "--set", "tlbi_ns=9", *more)
    note = "hyp_pte_set_ns is set and changes nothing: no design here counts any (warm caches)"
    assert json.loads(run(*given, "--json").output)["notes"] == [note]
    printed = " ".join(run(*given).output.split())
    assert f"note: {note}" in printed and "tlbi_ns is set" not in printed


DMA = (
    "dd-172 [000] d..1. 3.256421: dma_map_page: 0000:00:1a.0 dir=FROM_DEVICE dma_addr=7d004000 size=4096 "
    "phys_addr=3f23000 attrs=\n"
    "dd-172 [000] d..1. 3.256521: dma_unmap_page: 0000:00:1a.0 dir=FROM_DEVICE dma_addr=7d004000 size=4096 attrs=\n"
)
JOBS = "[global]\ndirect=1\n[small]\nrw=randread\nbs=4k\nsize=256m\n[large]\nstonewall\nrw=write\nbs=1m\nsize=1m\n"
COLD = ("--platform", "proposal", "--set", "cache=cold")


def test_a_job_that_is_open_is_not_settled_by_the_sum_of_all(tmp_path: Path) -> None:
    """65,536 requests of 4 KiB outweigh one of 1 MiB: their sum is settled, and the one is not."""
    (file := tmp_path / "jobs.fio").write_text(JOBS)
    found = json.loads(run(*COLD, "--decide", "--json", str(file)).output)
    assert (found["cheapest"], found["rivals"], found["independent"]) == ("bounce", [], True)
    assert [(job["name"], job["cheapest"], job["rivals"]) for job in found["jobs"]] == [
        ("small", "bounce", []), ("large", "splice", ["remap"]),
    ]  # fmt: skip
    asked = [each["setting"] for each in found["jobs"][1]["measure"]]
    first, *rest = run(*COLD, "--decide", str(file)).output.splitlines()
    assert first == "Open in 1 of 2 jobs." and asked and any(line.startswith(asked[0]) for line in rest)
    assert [line.strip() for line in rest[:2]] == [
        "small: Settled: bounce, at every price of the profile.", "large: Open between splice and remap.",
    ]  # fmt: skip
    answer, *lines = run(*COLD, str(file)).output.splitlines()
    assert "at every price" not in answer and "large: open between splice and remap." in lines
    alone = run(*COLD, "--decide", "--section", "small", str(file)).output
    assert alone.startswith("Settled: bounce, at every price of the profile.")


def test_jobs_that_run_at_once_are_decided_together_as_well(tmp_path: Path) -> None:
    (file := tmp_path / "jobs.fio").write_text(
        JOBS.replace("stonewall\n", "").replace("[small]", "filename=disk\n[small]")
    )
    found = json.loads(run(*COLD, "--decide", "--json", str(file)).output)
    assert not found["independent"] and len(found["jobs"]) == 2
    said = run(*COLD, "--decide", str(file)).output
    assert "  all together: Settled: bounce, at every price of the profile." in said.splitlines()


def test_what_costs_the_same_is_not_marked_as_open(tmp_path: Path) -> None:
    """Without direct I/O a buffer of the page cache costs what bouncing does, whatever the prices are."""
    (file := tmp_path / "jobs.fio").write_text(JOBS.replace("direct=1\n", ""))
    printed = run("--platform", "sev-snp").output
    assert printed.startswith("Answer: dma-buffer (bounce costs the same)")
    marks = {line.split()[1]: line[0] for line in printed.splitlines() if line[:1] in "*=~" and "  " in line[:3]}
    assert marks == {"dma-buffer": "*", "bounce": "="} and "~" not in printed and "= costs the same" in printed
    found = json.loads(run(*COLD, "--json", str(file)).output)
    assert [(job["cheapest"], job["ties"], job["contenders"]) for job in found["jobs"]] == [
        ("dma-buffer", ["bounce"], ["dma-buffer", "bounce"]), ("splice", [], ["remap", "splice"]),
    ]  # fmt: skip
    whole = run(*COLD, str(file)).output
    assert "splice~" in whole and whole.count("~ another one is cheaper at some prices of the profile") == 1


def test_a_design_that_does_not_apply_has_no_numbers_in_any_form(tmp_path: Path) -> None:
    (file := tmp_path / "jobs.fio").write_text(JOBS)
    found = json.loads(run(*COLD, "--json", str(file)).output)
    for designs in (found["designs"], *(job["designs"] for job in found["jobs"])):
        why = {design["name"]: design["not_applicable"] for design in designs if design["not_applicable"]}
        assert why == {"dma-buffer": "the job is direct I/O, without a page cache"}
    assert all(size["against"] == "bounce" for size in found["break_even"])
    rows = list(csv.DictReader(io.StringIO(run(*COLD, "--csv", str(file)).output)))
    assert [(row["job"], row["design"]) for row in rows] == [
        (job, design) for job in ("", "small", "large") for design in DESIGNS
    ]  # fmt: skip
    for row in rows:
        beside = row["design"] == "dma-buffer"
        assert (row["not_applicable"] != "", row["hops"] == "", row["low_ns_per_request"] == "") == (beside,) * 3
    assert {row["job"]: row["design"] for row in rows if row["cheapest"] == "1"} == {
        "": "bounce", "small": "bounce", "large": "splice",
    }  # fmt: skip
    assert [row["design"] for row in rows if row["rival"] == "1"] == ["remap"] and {row["tie"] for row in rows} == {"0"}


@pytest.mark.parametrize("more", [(), ("--sizes", "4k"), ("--decide",), ("--explain", "window")])
def test_every_form_says_what_was_set_and_by_which_program(verb: Verb, more: tuple[str, ...], tmp_path: Path) -> None:
    words = ("compare", *more, "--set", "tlbi_ns=500", "--set", "batch=false", "--set", "cache=cold")
    with_them = "profile vmx-skylake with tlbi_ns=500, batch=false, cold caches"
    assert with_them in " ".join(verb(*words).stdout.split())
    known, plain = document(verb, *words), document(verb, "compare", *more)
    assert known["command"] == ["pagewarden", *words, "--json"] and known["version"] == __version__
    assert known["settings"] == {"tlbi_ns": "500", "batch": "false", "cache": "cold"} and known["cache"] == "cold"
    assert (plain["settings"], plain["cache"]) == ({}, "warm")
    changed = {key for key, price in known["prices"].items() if price != plain["prices"][key]}
    assert changed == {"tlbi_ns"} and known["prices"]["tlbi_ns"] == [500, 500]
    if "--explain" not in more:
        page = tmp_path / "page.html"
        verb(*words, "--html", str(page))
        body = page.read_text().partition("<script")[0]
        assert with_them in body
        assert (
            f"Made by pagewarden {__version__} with <code>pagewarden compare" in body
            and "--set cache=cold --html" in body
        )
    if not {"--explain", "--decide"} & {*more}:
        (row, *_) = csv.DictReader(io.StringIO(verb(*words, "--csv").stdout))
        assert (row["version"], row["cache"]) == (__version__, "cold")
        assert row["settings"] == "tlbi_ns=500, batch=false, cache=cold"


def test_a_pair_that_is_no_machine_is_said(verb: Verb) -> None:
    said = (
        "no machine is both: policy guest-memfd+sev-snp is of AMD SEV-SNP on an EPYC, profile tdx-xeon is of Intel TDX"
    )
    odd = document(verb, "compare", "--platform", "sev-snp", "--profile", "tdx-xeon")["notes"]
    assert any(note.startswith(said) for note in odd)
    for one in ("sev-snp", "tdx", "pkvm", "proposal"):
        assert "no machine" not in str(document(verb, "compare", "--platform", one)["notes"])


def test_a_trace_that_is_mostly_left_out_says_so_first(verb: Verb, tmp_path: Path) -> None:
    lines = ["time,op,offset,size", "1,R,0,4096", "4,W,0,4096", *[f"{time},X,0,4096" for time in (5, 6, 7)]]
    (trace := tmp_path / "trace.csv").write_text("\n".join(lines) + "\n")
    words = ("compare", "--columns", "time,op,offset,size", str(trace))
    first, *rest = verb(*words, "--html", str(tmp_path / "page.html")).stdout.splitlines()
    assert first == "60% of the lines are left out: 3 x x." and rest[0].startswith("Answer: ")
    assert not any("left out" in line for line in rest)
    assert f'facts">{first} 2 requests' in (tmp_path / "page.html").read_text()
    assert f"note: {first}" in verb(*words, "--decide").stdout
    trace.write_text("\n".join([*lines[:2], *[f"{time},W,0,4096" for time in range(20)], lines[3]]) + "\n")
    first, *rest = verb(*words).stdout.splitlines()
    assert first.startswith("Answer: ") and "left out of the workload: 1 x x" in rest


def test_pool_and_sweep_say_it_too(verb: Verb, tmp_path: Path) -> None:
    lines = ["fio version 2 iolog", "/d add", "/d open", "/d read 0 4096", "/d write 0 4096", *["/d sync 0 0"] * 3]
    (tmp_path / "trace.log").write_text("\n".join(lines) + "\n")
    (tmp_path / "grid.toml").write_text('workloads = ["trace.log"]\ndesigns = ["bounce", "window"]\n')
    for words, begin in (
        (("pool", str(tmp_path / "trace.log")), ""),
        (("sweep", str(tmp_path / "grid.toml")), "trace.log: "),
    ):
        said = f"{begin}60% of the lines are left out: 3 x sync."
        assert f"note: {said}" in verb(*words).stdout.splitlines()
        assert said in document(verb, *words)["notes"]


def test_counts_of_a_csv_are_of_a_request_as_those_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "jobs.fio").write_text("[a]\nrw=write\nbs=4k\nsize=64k\n")
    given = (str(tmp_path / "jobs.fio"), "--design", "window", "--policy", "guest-memfd")
    (row,) = csv.DictReader(io.StringIO(run(*given, "--csv").output))
    (same,) = json.loads(run(*given, "--json").output)["designs"]
    assert same["total"]["hops"] == 16 * int(row["hops"])
    assert {key: float(row[key]) for key in EVENTS} == pytest.approx({key: same["per_request"][key] for key in EVENTS})


def test_numbers_of_a_csv_are_such_as_a_person_writes() -> None:
    text = run("--platform", "sev-snp", "--sizes", "4k,1m", "--csv").output
    rows = list(csv.DictReader(io.StringIO(text)))
    costs = [row[end] for row in rows for end in ("low_ns_per_request", "high_ns_per_request") if row[end]]
    assert costs and all(len(cost.replace(".", "").lstrip("0")) <= 6 or cost.isdigit() for cost in costs)
    first = json.loads(run("--platform", "sev-snp", "--json").output)["designs"][0]
    assert float(rows[0]["low_ns_per_request"]) == pytest.approx(first["ns_per_request_range"][0], rel=1e-5)


def test_every_count_that_has_a_price_is_in_csv_and_wide() -> None:
    given = ("--platform", "sev-snp", "--design", "iommu")
    total = json.loads(run(*given, "--json").output)["designs"][0]["total"]
    (row,) = csv.DictReader(io.StringIO(run(*given, "--csv").output))
    priced = (*EVENTS, "guest_copy_bytes", "host_copy_bytes", "hops")
    assert {key: row[key] for key in priced} == {key: str(total[key]) for key in priced}
    assert total["guest_pte_set"] and total["io_pte_set"] and total["pins"]
    wide = run(*given, "--wide").output
    assert all(name in wide for name in ("guest PTE set", "I/O PTE set", "pins", "hyp PTE set"))


def test_a_refusal_is_said_once_and_in_plain_words() -> None:
    printed = run("--policy", "guest-memfd").output
    lines = [line for line in printed.splitlines() if "requests fail" in line]
    assert len(lines) == 1 and lines[0].startswith("pread, splice: 1 of 1 requests fail. EINVAL: ")
    assert "the file of this memory has no read, write or splice" in printed.replace("\n", " ")
    assert "mail of 5 April" not in printed and "--explain pread shows the step" in printed
    explained = run("--policy", "guest-memfd", "--explain", "pread").output
    assert "guest_memfd_test.c test_file_read_write" in explained


@pytest.mark.parametrize("width", [50, 60, 120])
def test_text_is_folded_once_at_the_real_width(width: int, tmp_path: Path) -> None:
    """A line ends where the next word has no room: twice folded, a word stands alone on its line."""
    (file := tmp_path / "jobs.fio").write_text(JOBS)
    made = CliRunner().invoke(app, ["compare", "--policy", "guest-memfd", str(file)], env={"COLUMNS": str(width)})
    lines = made.output.splitlines()
    most = min(width, 80)
    text = [line for line in lines if not line.startswith((" ", "*", "=")) and "  " not in line]
    assert text and max(map(len, text)) <= most
    start = next(n for n, line in enumerate(lines) if "requests fail" in line)
    assert lines[start + 1] and len(lines[start]) + 1 + len(lines[start + 1].split()[0]) > most


def test_mistakes_are_said_once_and_lead_on(verb: Verb, tmp_path: Path) -> None:
    (trace := tmp_path / "dma.txt").write_text(DMA)
    assert run(str(trace)).exit_code == 0
    said = run("--platform", "sev-snp", str(trace)).stderr
    assert "counted and not priced" in said and "pagewarden pool FILE" in said and len(said.splitlines()) == 1
    assert run("--set", "tlbi=1").stderr == "pagewarden: no setting is called 'tlbi'; did you mean 'tlbi_ns'?\n"
    assert (
        verb("compare", "--html", str(tmp_path), code=2).stderr
        == f"pagewarden: {tmp_path}: Is a directory; name a file\n"
    )
