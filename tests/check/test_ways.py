"""Every independent way to a failure, what it says in the end, and what nothing could break."""

from functools import cache
from typing import Any

import pytest

import pagewarden.check.ways as module
from pagewarden.check.explain import listing, tell
from pagewarden.check.page.strangers import stranger_named
from pagewarden.check.page.system import Setting
from pagewarden.check.stake import at_stake
from pagewarden.check.verdict import Report, check
from pagewarden.check.ways import SECOND, Counterexample, ways
from pagewarden.check.words import missing, wrong
from pagewarden.law import LOCKING, POLICIES, Data, Op, Policy, policy_named
from pagewarden.law.properties import ALWAYS, OF_THE_WHOLE, PROMISES

READS, DESTROYS = "host-never-reads-private", "host-never-destroys-private"


@cache
def found(policy: Policy, strangers: str, vcpus: int = 2) -> tuple[Report, dict[str, list[Counterexample]]]:
    report = check(Setting(policy, pages=1, vcpus=vcpus, strangers=stranger_named(strangers)), search="apart")
    return report, ways(report)


def actors(policy: Policy, strangers: str, name: str) -> list[set[str]]:
    return [set(way.actors) for way in found(policy, strangers)[1][name]]


def test_every_property_has_one_promise() -> None:
    assert set(PROMISES) == {*ALWAYS, *OF_THE_WHOLE}


def test_one_way_does_not_hide_another() -> None:
    """A conversion that counts no references: DMA alone broke it before, and was all that was said."""
    inplace = POLICIES["guest-memfd-inplace"]
    with_, without = (actors(each, "o-direct,dma", READS) for each in (inplace, inplace.without("refs-checked")))
    assert with_ == [{"dma"}, {SECOND, "o-direct"}]
    assert {"dma"} in without and {"o-direct"} in without
    assert len(actors(inplace, "o-direct,dma,vmsplice", READS)) == 3


def test_sets_are_the_smallest() -> None:
    """Whoever maps for a device pins, and whoever reads through the file reads what is pinned: neither is enough."""
    gone = found(POLICIES["pkvm-2022"], "dma,file-io,fork")[1]["host-never-panics"]
    assert [set(way.actors) for way in gone] == [{"dma", "file-io"}]
    several = found(POLICIES["guest-memfd-inplace"], "o-direct")[1]["no-pin-left"]
    assert [set(way.actors) for way in several] == [{SECOND, "o-direct"}]


def test_nobody_is_sought_who_has_no_breaking_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel's own file is read, kcore alone reads: without it there is no way, and nothing to explore."""
    explored: list[Setting] = []

    def noted(setting: Setting, *given: Any, **named: Any) -> Report:
        explored.append(setting)
        return check(setting, *given, **named)

    monkeypatch.setattr(module, "check", noted)
    report = check(
        Setting(POLICIES["guest-memfd"], vcpus=2, strangers=stranger_named("kcore,punch,touch")), search="apart"
    )
    assert {name: [set(way.actors) for way in some] for name, some in ways(report).items()} == {
        READS: [{"kcore"}], DESTROYS: [{"punch"}]
    }  # fmt: skip
    assert explored and max(len(each.strangers) for each in explored) == 1


@pytest.mark.parametrize("policy", ["memfd", "guest-memfd-inplace", "pkvm", "patch-v5"])
def test_last_actors_hide_no_way(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ways are those that are found when anybody may take the last step."""
    some = "kcore,punch,dma,file-io,vmsplice,teardown"
    known = {
        name: [(way.actors, way.steps) for way in each] for name, each in found(policy_named(policy), some)[1].items()
    }
    monkeypatch.setattr(module, "last_actors", lambda checked, name: {None})
    again = ways(found(policy_named(policy), some)[0])
    assert known == {name: [(way.actors, way.steps) for way in each] for name, each in again.items()}


@pytest.mark.parametrize("policy", ["memfd", "pkvm", "patch-v5"])
def test_ways_are_natural(policy: str) -> None:
    """The guest's own data, one vCPU where one will do; and each is told by the law's own function."""
    _, all_ways = found(policy_named(policy), "touch,kcore,reclaim,punch,dma")
    assert all_ways
    for name, some in all_ways.items():
        for way in some:
            told = tell(way.report, way.verdict)
            assert len(told) == way.steps
            assert (len({step.who for step in told if step.who is not None}) > 1) == (SECOND in way.actors)
            if name in (READS, DESTROYS):
                assert told[-1].before.data is Data.SECRET
    assert next(iter(all_ways.values()))[0].actors


def test_the_guest_alone_is_the_only_way() -> None:
    """patch-v5 loses what it converts: whoever else is there adds nothing."""
    assert actors(POLICIES["patch-v5"], "kcore,punch", "nothing-lost") == [set()]


def last_words(policy: str, strangers: str, name: str) -> tuple[str, list[str]]:
    way = found(policy_named(policy), strangers)[1][name][0]
    setting, told = way.report.checked.setting, tell(way.report, way.verdict)
    return wrong(name, told[-1]), [each.names[0] for each in missing(name, setting.policy, setting.design, told)]


def test_loss_and_corruption_are_different_words() -> None:
    words, lack = last_words("pkvm", "reclaim", DESTROYS)
    assert words.startswith("loss: denial of service")
    words, _ = last_words("memfd", "punch", DESTROYS)
    assert words.startswith("loss: ") and "zeroes" in words
    words, lack = last_words("memfd", "o-direct", "host-never-writes-private")
    assert words.startswith("corruption: ") and "gup-blocked" in lack
    words, lack = last_words("pkvm-2022", "strace", "host-never-panics")
    assert words.startswith("denial of service: the host kernel dies") and "gup-blocked" in lack


def test_a_late_mapping_lacks_the_comparison() -> None:
    kernel = ("invalidate-lock", "mmu-lock", "refusal-ends")
    policy = POLICIES["guest-memfd-inplace"].with_(*kernel)
    (way,) = found(policy, "none")[1]["no-stale-translation"]
    told = tell(way.report, way.verdict)
    lack = missing("no-stale-translation", policy, way.report.checked.setting.design, told)
    assert way.actors == {SECOND} and "sequence-compared" in {each.names[0] for each in lack}
    assert "sequence-compared" in LOCKING and "the guest's entry" in wrong("no-stale-translation", told[-1])


@pytest.mark.parametrize(("ability", "what"), [("fork", "a forked child's"), ("mremap", "that mremap moved"),
                                               ("reopen", "a further mapping of the file")])  # fmt: skip
def test_a_listing_says_which_mapping_an_alias_is(ability: str, what: str) -> None:
    way = found(POLICIES["uffd-window"], ability)[1][READS][0]
    lines = listing(way.report, way.verdict)
    assert any(what in line and "alias_load" in line for line in lines)
    numbers = [line.split()[0] for line in lines if line[:3].strip().isdecimal()]
    assert numbers == [str(number) for number in range(1, way.steps + 1)]


def test_what_nothing_could_break() -> None:
    """Nothing swaps there, and no step of memfd's stops the host: what holds is no merit."""
    everything = list(Op)
    assert "swap-is-fresh" not in at_stake(POLICIES["memfd-secret"], ALWAYS, everything)
    assert at_stake(POLICIES["pkvm-2022"], ALWAYS, everything) >= {"host-never-panics", READS, "scrubbed-before-reuse"}
    assert "host-never-panics" not in at_stake(POLICIES["guest-memfd-private"], ["host-never-panics"], everything)
    assert at_stake(POLICIES["hybrid"], [DESTROYS, "swap-is-fresh"], everything) == {DESTROYS, "swap-is-fresh"}
    assert at_stake(POLICIES["hybrid"], ["swap-is-fresh"], [Op.GUEST_LOAD]) == set()
