"""`pagewarden list`, `--version`, and names as they may be spelled."""

import dataclasses
import json
import sys

import pytest

from pagewarden import __version__
from pagewarden.cli import main
from pagewarden.cli.names import KINDS
from pagewarden.cli.options import ABOUT, setup
from pagewarden.cost import load_profile
from pagewarden.designs import Options
from pagewarden.law import policy_named
from pagewarden.studies.compare.comparison import Setup
from pagewarden.vocab import UserMistake


def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["pagewarden", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    return capsys.readouterr().out


def test_every_kind_is_listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.loads(said(capsys, monkeypatch, "list", "--json"))
    assert found["kinds"] == {
        kind: [{"name": name, "about": about} for name, about in names().items()] for kind, names in KINDS.items()
    }
    assert all(each["about"] for names in found["kinds"].values() for each in names)
    printed = said(capsys, monkeypatch, "list", "designs", "policies")
    assert "  window " in printed and "  hybrid " in printed and "profiles" not in printed


def test_the_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(capsys, monkeypatch, "--version") == f"pagewarden {__version__}\n"


def test_every_option_is_one_that_can_be_set() -> None:
    others = {"policy", "profile", "options", "settings", "notes"}
    machine = {field.name for field in dataclasses.fields(Setup)} - others
    known = {field.name for field in dataclasses.fields(Options)} | machine
    assert {name.replace("-", "_") for name in ABOUT} == known


@pytest.mark.parametrize("spelled", ["in_place", "in-place"])
def test_one_spelling_is_as_good_as_the_other(spelled: str) -> None:
    made = setup(policy_named("pkvm_2022"), load_profile("vmx_skylake"), [f"{spelled}=true", "tlbi-ns=7"])
    assert made.options.in_place and made.profile.prices["tlbi"].value.low == 7
    assert made.policy.without("state_checked").name == "pkvm-2022-state-checked"


@pytest.mark.parametrize("setting", ["retries=101", "retries=500", f"lazy={'9' * 5000}", "pool-pages=0"])
def test_a_number_has_its_limits(setting: str) -> None:
    with pytest.raises(UserMistake, match="expected a whole number"):
        setup(policy_named("hybrid"), load_profile("vmx-skylake"), [setting])
