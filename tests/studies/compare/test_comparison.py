"""Break-even in closed form and by search over the machine; workloads as requests."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewarden.cost import Interval, difference, load_profile, search, shipped_profiles
from pagewarden.designs import DESIGNS, Design, Hop, Options, Procedure
from pagewarden.law import POLICIES, Policy
from pagewarden.studies.compare.comparison import BASELINES, Setup, break_even, compare, counts_of, requests, simulate
from pagewarden.vocab import Event, UserMistake
from pagewarden.workload import Workload, single

LIMIT = 4096


def setup(profile: str = "vmx-skylake", options: Options | None = None) -> Setup:
    return Setup(POLICIES["hybrid"], load_profile(profile), options or Options())


@pytest.mark.parametrize("profile", [profile.name for profile in shipped_profiles()])
@pytest.mark.parametrize("design", [name for name in DESIGNS if name not in BASELINES])
def test_closed_form_agrees_with_a_search_over_the_machine(profile: str, design: str) -> None:
    made = setup(profile)
    prices = {key: (price.value.low + price.value.high) / 2 for key, price in
              ((p.setting, p) for p in made.profile.prices.values())}  # fmt: skip
    for cache in ("warm", "cold"):
        exact = Setup(made.policy, made.profile.with_settings(prices), cache=cache)

        def measured(pages: int, exact: Setup = exact) -> Interval:
            mine, theirs = (counts_of(exact, DESIGNS[name], pages).as_dict() for name in (design, "bounce"))
            return difference(mine, theirs, exact.profile, exact.cache)

        formula, found = break_even(exact, DESIGNS[design], DESIGNS["bounce"]), search(measured, LIMIT)
        assert formula.exact and found.exact
        beyond = formula.best.units is not None and formula.best.units > LIMIT
        assert found.best.kind == "never" if beyond else found == formula


def workload(lengths: list[int], writes: list[bool]) -> Workload:
    count = len(lengths)
    columns = np.array(writes, bool), np.zeros(count, np.uint64), np.array(lengths, np.uint32)
    return Workload("test", "generated", *columns)


mixed = st.lists(st.tuples(st.integers(1, 1 << 18), st.booleans()), min_size=1, max_size=60)


@given(mixed, st.sampled_from(sorted(DESIGNS)))
def test_a_workload_costs_the_sum_of_its_requests(drawn: list[tuple[int, bool]], name: str) -> None:
    made = setup()
    load = workload([length for length, _ in drawn], [write for _, write in drawn])
    total, _ = simulate(made, load, DESIGNS[name])
    alone = [simulate(made, single(length, write), DESIGNS[name])[0] for length, write in drawn]
    assert (total.events == sum(one.events for one in alone)).all()
    assert total.hops.total() == sum(one.hops.total() for one in alone)
    assert total.completed == len(drawn) and total.failed == 0


@given(mixed, st.integers(0, 9))
def test_buffers_in_flight_do_not_overlap(drawn: list[tuple[int, bool]], lazy: int) -> None:
    load = workload([length for length, _ in drawn], [write for _, write in drawn])
    wanted = requests(setup(), load, lazy)
    which = wanted.which
    assert (which == 2).sum() == (-(-len(drawn) // lazy) if lazy else 0)
    group = 0
    for kind, first, count, size in zip(which, wanted.firsts, wanted.counts, wanted.sizes, strict=True):
        if kind == 2:
            assert (first, count, size) == (0, group, 0), "the deferred unshare covers what was shared"
            group = 0
        else:
            assert first in (0, group) and count == -(-size // 4096)
            group = first + count


def test_copying_designs_need_no_conversion_and_the_others_no_guest_copy() -> None:
    found = compare(setup(), single(65536))
    totals = {result.name: result.total for result in found.results}
    for name, total in totals.items():
        assert (total[Event.HYP_PTE_SET.key] == 0) == (name in BASELINES) == (total[Event.GUEST_COPIES.key] == 1)


def test_a_warm_small_copy_beats_every_conversion() -> None:
    for profile in shipped_profiles():
        found = compare(setup(profile.name), single(4096))
        assert set(found.contenders) == set(BASELINES), profile.name


def _polled(options: Options, policy: Policy, write: bool) -> Procedure:
    """The window design, but the host is not rung for: it polls."""
    known = DESIGNS["window"](options, policy, write)
    steps = tuple(
        step for step in known.steps if not isinstance(step, Hop) or step.hypercall or step.edge == "hyp>guest"
    )
    return replace(known, name="polled", steps=steps)


def test_a_design_of_ones_own_is_an_argument() -> None:
    mine = Design("polled", _polled)
    found = compare(setup(), single(4096), [DESIGNS["bounce"], DESIGNS["window"], mine])
    hops = {result.name: result.total["hops"] for result in found.results}
    assert hops["polled"] == hops["window"] - 3 and "polled" not in DESIGNS  # type: ignore[operator]
    assert [(c.design, c.against) for c in found.crossovers] == [("window", "bounce"), ("polled", "bounce")]


def test_two_designs_of_one_name_are_a_mistake() -> None:
    with pytest.raises(UserMistake, match="two designs are called 'window'"):
        compare(setup(), single(4096), [DESIGNS["window"], DESIGNS["window"]])
