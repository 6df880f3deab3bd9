"""Minimal sets of mechanisms, and many checks at once."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from pagewarden.check.many import Budget, Workers, workers
from pagewarden.check.matrix import matrix
from pagewarden.check.minimal import Cubes, condition, fails_alike, judge, minimal_sets, works
from pagewarden.check.page.strangers import stranger_named
from pagewarden.check.page.system import Setting
from pagewarden.check.search.explorer import Limits
from pagewarden.check.verdict import check
from pagewarden.designs import DESIGNS
from pagewarden.law import APART, POLICIES, Policy
from pagewarden.vocab import Unavailable, UserMistake
from waits import SOON

HERE = Workers(1, lambda function, tasks: [function(task) for task in tasks])
FREE = Budget.of(Limits(), HERE)
PANIC = ("host-never-panics",)
ASKED = ("host-never-panics", "host-never-reads-private")
"""A host that reads through a stale translation does not panic: alone, the first asks for nothing."""


def setting(policy: Policy, strangers: str) -> Setting:
    return Setting(policy, DESIGNS["window"], 1, 1, stranger_named(strangers))


def small(*more: str) -> Setting:
    """Today's pKVM with the mechanisms that its answer to strace may rest on, and more."""
    policy = POLICIES["pkvm"].with_(*more)
    kept = ("injects", "force-reclaim", "tlb-flushed", *more)
    return setting(policy.without(*(policy.mechanisms - set(kept))), "strace")


def by_hand(chosen: Setting, names: tuple[str, ...]) -> set[frozenset[str]]:
    """Every subset, smallest first."""
    universe = sorted(chosen.policy.mechanisms)
    found: list[frozenset[str]] = []
    for size in range(len(universe) + 1):
        for each in map(frozenset, combinations(universe, size)):
            if any(known <= each for known in found):
                continue
            candidate = replace(chosen, policy=replace(chosen.policy, name="candidate", mechanisms=each))
            if works(candidate.policy, candidate.design) and holds(candidate, names):
                found.append(each)
    return set(found)


def holds(chosen: Setting, names: tuple[str, ...]) -> bool:
    return all(verdict.verdict == "holds" for verdict in check(chosen, names, search="apart").verdicts)


def test_as_every_subset_says() -> None:
    tried = []
    found = minimal_sets(small(), ASKED, HERE, progress=lambda count, left: tried.append(count)).sets
    assert set(found) == by_hand(small(), ASKED)
    assert tried[-1] < 8
    more = small("gup-blocked", "gets-pfn")
    assert set(minimal_sets(more, ASKED, HERE).sets) == by_hand(more, ASKED)
    assert minimal_sets(small(), PANIC, HERE).sets == [frozenset()]


def test_what_the_mail_asks_for() -> None:
    """The host survives strace when GUP is refused, or when the page is taken from the guest."""
    found = minimal_sets(small("gup-blocked", "gets-pfn"), ASKED, HERE).sets
    assert frozenset({"gup-blocked", "gets-pfn"}) in found
    assert frozenset({"tlb-flushed", "force-reclaim", "injects"}) in found


@pytest.fixture
def scheduler() -> Iterator[str]:
    distributed: Any = pytest.importorskip("distributed", reason="pip install 'pagewarden[cluster]'")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", protocol="tcp"
    ) as cluster:
        yield cluster.scheduler_address


def test_a_dask_cluster_gives_the_same(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagewarden.check.many.PATIENCE", f"{SOON}s")
    with workers(f"dask://{scheduler.removeprefix('tcp://')}") as pool:
        assert set(minimal_sets(small(), ASKED, pool).sets) == set(minimal_sets(small(), ASKED, HERE).sets)


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagewarden.check.many.PATIENCE", "1s")
    pytest.importorskip("distributed", reason="pip install 'pagewarden[cluster]'")
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"), workers("dask://127.0.0.1:1"):
        pass
    with pytest.raises(UserMistake, match="dask://"), workers("cloud"):
        pass


@pytest.mark.parametrize("design", DESIGNS)
def test_hybrid_works_undisturbed(design: str) -> None:
    assert works(POLICIES["hybrid"], DESIGNS[design])
    assert not works(POLICIES["hybrid"].without("gets-pfn"), DESIGNS[design])  # no reference for KVM


def test_designs_need_what_they_use() -> None:
    assert not works(POLICIES["hybrid"].without("file-io"), DESIGNS["pread"])
    assert works(POLICIES["hybrid"].without("file-io"), DESIGNS["window"])


def meets(mechanisms: frozenset[str], condition: Cubes) -> bool:
    return any(mechanisms & asked == there for asked, there in condition)


def test_a_counterexample_is_one_of_others() -> None:
    """Of every third set that it is said to fail, a search of its own says the same."""
    policy = POLICIES["pkvm-2022"]
    report = check(setting(policy, "strace"), PANIC)
    fails = fails_alike(report, report.verdicts[0], policy.mechanisms)
    others = [frozenset(each) for size in (len(policy.mechanisms) - 1, len(policy.mechanisms) - 2)
              for each in combinations(sorted(policy.mechanisms), size)]  # fmt: skip
    alike = [each for each in others if all(meets(each, condition) for condition in fails)]
    assert all(meets(policy.mechanisms, condition) for condition in fails)
    assert 10 < len(alike) < len(others)
    asked = {name for condition in fails for names, _ in condition for name in names}
    assert asked <= policy.mechanisms, "of no others is asked: each doubles the work"
    for each in alike[::3]:
        candidate = replace(policy, mechanisms=each)
        assert judge((setting(candidate, "strace"), PANIC, FREE, policy.mechanisms)).holds is False


def test_a_condition_is_true_of_just_its_sets() -> None:
    policy = small("gup-blocked", "gets-pfn").policy

    def asks(candidate: Policy) -> bool:
        return candidate.has("gup-blocked") if candidate.has("injects") else not candidate.has("gets-pfn")

    found = condition(asks, policy)
    for size in range(len(policy.mechanisms) + 1):
        for each in map(frozenset, combinations(sorted(policy.mechanisms), size)):
            assert meets(each, found) == asks(replace(policy, mechanisms=each))


def test_matrix_has_every_policy() -> None:
    lines = matrix(setting(POLICIES["hybrid"], "strace"), PANIC, HERE).lines
    assert [line.policy.name for line in lines] == list(APART)
    said = {line.policy.name: str(line.cells[PANIC[0]]).partition(" ")[0] for line in lines}
    assert [name for name, verdict in said.items() if verdict == "fails"] == ["pkvm-2022"]
    assert said["hybrid"] == said["pkvm"] == "holds" and said["memfd"] == said["guest-memfd"] == "-"
