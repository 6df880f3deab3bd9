"""`pagewarden compare` by platform, by size, as CSV, and with a design of the user's own."""

import csv
import io
import json
from pathlib import Path

from typer.testing import CliRunner, Result

from pagewarden.cli import app


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["compare", *arguments])


def test_a_platform_sets_policy_and_prices_and_what_is_given_wins() -> None:
    snp = json.loads(run("--platform", "sev-snp", "--json").output)
    assert (snp["policy"], snp["profile"]) == ("guest-memfd", "snp-epyc")
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
