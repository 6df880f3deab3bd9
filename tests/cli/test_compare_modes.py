"""`pagewarden compare` by platform, by size, as CSV, and with a design of the user's own."""

import csv
import io
import json
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pagewarden.cli import app
from pagewarden.cli.platforms import PLATFORMS
from pagewarden.cost import Cache, load_profile
from pagewarden.cost.names import PRICES
from pagewarden.cost.price import quantities
from pagewarden.designs import DESIGNS
from pagewarden.law import policy_named
from pagewarden.studies.compare.comparison import Setup, counts_of
from pagewarden.vocab import Refused


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


@pytest.mark.parametrize("more", [(), ("--sizes", "4k,8k")])
def test_a_price_that_nothing_is_paid_by_is_said(more: tuple[str, ...]) -> None:
    given = ("--platform", "svm", "--set", "hyp_pte_set_ns=100000", "--set", "tlbi_ns=9", *more)
    note = "hyp_pte_set_ns is set and changes nothing: no design here counts any (warm caches)"
    assert json.loads(run(*given, "--json").output)["notes"] == [note]
    assert f"note: {note}" in run(*given).output and "tlbi_ns is set" not in run(*given).output
