"""Bills: each count times its price, ranges where parameters are, shared parameters cancelled."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewarden.cost import Interval, Profile, bill, contenders, difference, difference_bill, load_profile, price
from pagewarden.cost.names import EVENTS, HOPS, PRICES, SYSCALLS, setting
from pagewarden.cost.table import _linked
from pagewarden.vocab import EDGES, Event, InternalError

SVM = load_profile("svm-epyc")
FLAT = SVM.with_settings({setting(n): 10**-6 if "copy_" in n else index + 1 for index, n in enumerate(PRICES)})
"""Every price known and different from all others."""

amounts = st.integers(0, 1 << 20)
counts_strategy = st.fixed_dictionaries(
    {
        "hops_by_edge": st.fixed_dictionaries(dict.fromkeys(EDGES, amounts)),
        **{event.key: amounts for event in Event},
    }
)


def test_every_event_and_hop_is_priced_once() -> None:
    for event in Event:
        counts = {event.key: 3}
        known = 3 * (PRICES.index(event.key) + 1 if event.key in EVENTS else 1e-6)
        if event is Event.HYP_COPIES:
            known += 3 * 4096 * 1e-6
        assert tuple(price(counts, FLAT)) == pytest.approx((known, known)), event
    for edge in EDGES:
        assert price({"hops_by_edge": {edge: 2}}, FLAT).low == 2 * (PRICES.index(HOPS[edge]) + 1)


def test_the_mail_s_bounce_by_hand() -> None:
    """4 hops, two copies of 4 KiB: 1255 ns of guest hops and what the settings say."""
    known = SVM.with_settings(
        {
            "hop_hyp_host_ns": 100,
            "hop_host_hyp_ns": 200,
            "guest_copies_ns": 5,
            "host_copies_ns": 6,
            "copy_warm_ns_per_byte": 0.01,
            "copy_cold_ns_per_byte": 0.25,
        }
    )
    bounce = {
        "hops": 4,
        "hops_by_edge": dict.fromkeys(EDGES, 1),
        "guest_copies": 1,
        "host_copies": 1,
        "guest_copy_bytes": 4096,
        "host_copy_bytes": 4096,
    }
    assert tuple(price(bounce, known)) == pytest.approx((1647.92, 1647.92))
    assert price(bounce, known, "cold") == Interval(3614, 3614)


def test_syscalls_by_name_have_their_own_price_and_the_rest_the_default() -> None:
    profile = SVM.with_settings({"access_syscalls_ns": 1000, "syscall_mmap_ns": 1, "syscall_munmap_ns": 20})
    assert price({"access_syscalls": 4, "syscalls": {"mmap": 1, "munmap": 2}}, profile) == Interval(1041, 1041)
    assert price({"access_syscalls": 2, "syscalls": {"ioctl": 2}}, profile) == Interval(2000, 2000)
    assert price({"access_syscalls": 2}, profile) == Interval(2000, 2000)
    with pytest.raises(InternalError, match="more syscalls by name"):
        price({"access_syscalls": 1, "syscalls": {"mmap": 2}}, profile)


@pytest.mark.parametrize(
    "counts",
    [
        {"tlbis": 1},
        {"tlbi": -1},
        {"tlbi": math.nan},
        {"tlbi": math.inf},
        {"hops": 4},
        {"hops_by_edge": {"guest>hyp": -1}},
        {"hops_by_edge": {"guest>host": 1}},
        {"syscalls": {"mmap": 1}},
    ],
)
def test_counts_that_cannot_be_are_our_bug(counts: dict[str, object]) -> None:
    with pytest.raises(InternalError):
        price(counts, SVM)


@given(counts_strategy, st.sampled_from(["warm", "cold"]))
def test_the_bill_adds_up(counts: dict[str, int], cache: str) -> None:
    for profile in (SVM, FLAT):
        terms = bill(counts, profile, cache)  # type: ignore[arg-type]  # hypothesis gives str
        total = price(counts, profile, cache)  # type: ignore[arg-type]
        assert math.fsum(term.cost.low for term in terms) == total.low
        assert math.fsum(term.cost.high for term in terms) == total.high
        assert all(term.count > 0 and term.price.value.low <= term.price.value.high for term in terms)
        assert total.exact == all(term.cost.exact for term in terms)


@given(counts_strategy, counts_strategy, st.data())
def test_a_difference_holds_every_choice_of_the_parameters_and_no_more(
    a: dict[str, int],
    b: dict[str, int],
    data: st.DataObject,
) -> None:
    interval = difference(a, b, SVM)
    chosen = SVM.with_settings(
        {setting(name): data.draw(st.floats(entry.value.low, entry.value.high)) for name, entry in SVM.prices.items()}
    )
    exact = difference(a, b, chosen)
    slack = 1e-9 * (abs(interval.low) + abs(interval.high) + 1)
    assert interval.low - slack <= exact.low <= exact.high <= interval.high + slack
    lowest = SVM.with_settings(
        {
            term.price.setting: term.price.value.low if term.count > 0 else term.price.value.high
            for term in difference_bill(a, b, SVM)
        }
    )
    assert difference(a, b, lowest).low == pytest.approx(interval.low, rel=1e-9, abs=1e-6)
    mine, theirs = price(a, SVM), price(b, SVM)  # apart they are wider: a parameter may be high in the one only
    assert mine.low - theirs.high - slack <= interval.low and interval.high <= mine.high - theirs.low + slack


@given(counts_strategy)
def test_a_design_does_not_differ_from_itself(a: dict[str, int]) -> None:
    assert difference(a, a, SVM) == Interval(0, 0)
    assert contenders({"one": a, "other": a}, SVM) == ("one", "other")


def test_contenders_are_those_nobody_surely_beats() -> None:
    few, many, unsure = {"tlbi": 1}, {"tlbi": 9}, {"pins": 20}
    assert SVM.prices["tlbi"].value == (780, 3040)
    assert SVM.prices["pins"].value == (20, 143)
    assert contenders({"many": many, "few": few}, SVM) == ("few",)
    assert contenders({"few": few, "unsure": unsure, "many": many}, SVM) == ("few", "unsure")
    assert contenders({"few": few, "unsure": unsure}, SVM.with_settings({"pins_ns": 500})) == ("few",)


def test_names_of_syscalls_are_no_other_prices() -> None:
    assert len(set(PRICES)) == len(PRICES)
    assert not set(SYSCALLS) & set(PRICES)


def test_profiles_are_values() -> None:
    changed: Profile = SVM.with_settings({"tlbi_ns": 7})
    assert SVM.prices["tlbi"].value == (780, 3040)
    assert changed.prices["tlbi"].value == (7, 7)
    assert changed.prices["tlbi"].source == "set by the user"
    assert list(changed.prices) == list(SVM.prices)


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0, 0), "0"),
        (Interval(460, 460), "460"),
        (Interval(0.01, 0.1), "0.01..0.1"),
        (Interval(1776.5, 1776.5), "1,776"),
        (Interval(-3, 12.345), "-3..12.3"),
        (Interval(0.012345, 2), "0.0123..2"),
        (Interval(100, math.inf), "100..inf"),
    ],
)
def test_intervals_are_printed_short(interval: Interval, text: str) -> None:
    assert str(interval) == text


def test_a_source_that_can_be_opened_is_a_link() -> None:
    words = "half of it: kvm, lore:ab-1@mail.org; Linux commit c320dbb7c80d, TUM-DSE/CVM_eval, by hand"
    assert _linked(words).replace("](https://", " ").replace(")", "").replace("[", "") == (
        "half of it: kvm, lore:ab-1@mail.org lore.kernel.org/r/ab-1@mail.org; Linux commit c320dbb7c80d "
        "git.kernel.org/torvalds/c/c320dbb7c80d, TUM-DSE/CVM_eval github.com/TUM-DSE/CVM_eval, by hand"
    )
