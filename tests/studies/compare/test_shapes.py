"""Requests that repeat are summed by shape: the same counts as one after the other, for every design."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewarden.cost import load_profile
from pagewarden.designs import DESIGNS, Options
from pagewarden.law import POLICIES
from pagewarden.sim import Machine
from pagewarden.studies.compare import comparison
from pagewarden.studies.compare.comparison import Setup, compare, requests, simulate
from pagewarden.studies.compare.shapes import Unsettled, run, run_each
from pagewarden.vocab import PageRange, Refused
from pagewarden.workload import Workload

PROFILE = load_profile("vmx-skylake")


def workload(pairs: list[tuple[int, bool]]) -> Workload:
    lengths, writes = zip(*pairs, strict=True)
    return Workload("w", "drawn", np.array(writes), np.zeros(len(pairs), np.uint64), np.array(lengths, np.uint32))


@settings(max_examples=60)
@given(
    pairs=st.lists(st.tuples(st.integers(1, 70_000), st.booleans()), min_size=1, max_size=60),
    name=st.sampled_from(sorted(DESIGNS)),
    policy=st.sampled_from(sorted(POLICIES)),
    in_flight=st.integers(1, 40),
    batch=st.booleans(),
    pool=st.sampled_from([None, 1, 8]),
)
def test_by_shape_is_one_by_one(
    pairs: list[tuple[int, bool]], name: str, policy: str, in_flight: int, batch: bool, pool: int | None
) -> None:
    setup = Setup(POLICIES[policy], PROFILE, Options(batch=batch), in_flight=in_flight, pool_pages=pool, ring_entries=8)
    wanted, procedures = requests(setup, workload(pairs)), setup.procedures(DESIGNS[name])

    def fresh() -> Machine:
        made = setup.machine(wanted.pages)
        made.prepare(procedures[0], PageRange(0, made.count))
        return made

    try:
        each = run_each(fresh(), procedures, wanted)
    except Refused:
        return  # the policy does not get to where the design starts
    try:
        found, once = run(fresh(), procedures, wanted)
    except Unsettled:
        return
    assert found.as_dict() == each.as_dict()
    assert (found.completed, found.failed) == (each.completed, each.failed)
    if not found.failed:
        assert (once.events >= 0).all() and (once.events <= found.events).all()


def test_first_touches_are_told_apart_and_do_not_grow_with_the_requests() -> None:
    """Shared pages in place fault once when the host first touches them; nothing else of a bounce is paid once."""
    setup = Setup(POLICIES["guest-memfd-inplace"], PROFILE)
    for count in (1, 33, 2000):
        load = workload([(8192, True)] * count)
        (bounce,) = compare(setup, load, [DESIGNS["bounce"]]).results
        assert {key: n for key, n in bounce.once.items() if n and isinstance(n, int)} == {
            "host_pte_set": 2,
            "faults": 2,
        }
        assert bounce.per_request["faults"] == 0 and bounce.per_request["guest_copies"] == 1
        assert bounce.total["faults"] == 2 and bounce.once_ns and bounce.once_ns.low > 0
    (window,) = compare(Setup(POLICIES["hybrid"], PROFILE), workload([(4096, True)]), [DESIGNS["window"]]).results
    assert window.steady == window.total and window.once_ns == (0, 0)


def test_what_settles_is_not_run_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even looked at one by one: the designs of the mail leave every page as they found it."""

    def never(*_: object) -> None:
        raise AssertionError("one after the other")

    monkeypatch.setattr(comparison, "run_each", never)
    setup = Setup(POLICIES["hybrid"], PROFILE)
    load = workload([(4096 * (1 + i % 7), i % 3 == 0) for i in range(1000)])
    for design in DESIGNS.values():
        assert simulate(setup, load, design)[0].completed == 1000


def test_a_lazy_design_is_run_one_by_one() -> None:
    setup = Setup(POLICIES["hybrid"], PROFILE, Options(lazy=4))
    load = workload([(4096, True)] * 10)
    lazy, _ = simulate(setup, load, DESIGNS["window"])
    eager, _ = simulate(replace(setup, options=Options()), load, DESIGNS["window"])
    assert lazy.hops.total() < eager.hops.total()
