"""The law of one page, over every state that a page can reach."""

import numpy as np
import pytest

from pagewarden.law import (
    EVERY,
    MECHANISMS,
    NAMES,
    POLICIES,
    SOURCES,
    Data,
    Guard,
    Home,
    Op,
    Outcome,
    Owner,
    Page,
    Policy,
    Reach,
    View,
    apply,
    component_states,
    policy_named,
    reason,
    tabulate,
)  # fmt: skip
from pagewarden.law.page import PRIVATE
from pagewarden.law.properties import ALWAYS, SOMETIMES
from pagewarden.vocab import UserMistake

STATES = {
    "memfd": 908,
    "anonymous": 908,
    "memfd-secret": 22,
    "patch-v5": 2464,
    "guest-memfd": 5024,
    "guest-memfd-private": 64,
    "guest-memfd-shared": 448,
    "guest-memfd-inplace": 1760,
    "exclusive-mmap": 796,
    "exclusive-mprotect": 796,
    "pkvm-2022": 562,
    "pkvm": 1928,
    "pkvm-iommu": 1552,
    "uffd-window": 2752,
    "uffd-rwp": 2752,
    "hybrid": 2608,
    "uffd-window+cooperating": 2752,
    "uffd-rwp+cooperating": 2752,
    "memfd-secret+mprotect": 108,
    "guest-memfd-private+cooperating": 64,
    "guest-memfd-shared+cooperating": 448,
    "uffd-window+isolated": 1968,
    "uffd-rwp+isolated": 1968,
}
every_policy = pytest.mark.parametrize("policy", EVERY.values(), ids=EVERY.keys())


def violations(policy: Policy) -> set[str]:
    return {name for name, hits in tabulate(policy).where(ALWAYS).items() if hits.any()}


@every_policy
def test_number_of_states_is_pinned(policy: Policy) -> None:
    assert len(tabulate(policy).pages) == STATES[policy.name]


@every_policy
def test_table_equals_function_and_refusals_change_nothing(policy: Policy) -> None:
    table = tabulate(policy)
    for state, page in enumerate(table.pages):
        assert table.index[page] == state
        for op in Op:
            step = apply(policy, page, op)
            assert table.pages[table.next[state, op]] == step.page
            assert table.outcome[state, op] == step.outcome
            assert table.reached[state, op] == step.reached
            assert table.events[state, op].sum() == len(step.events)
            assert all(table.events[state, op, event] == step.events.count(event) for event in step.events)
            if step.outcome is not Outcome.DONE:
                assert step.page == page and not step.reached


@every_policy
def test_invariants_of_every_state(policy: Policy) -> None:
    guarded = policy.guard in (Guard.STAGE1, Guard.STAGE2)
    for page in tabulate(policy).pages:
        if guarded and page.owner in PRIVATE:
            assert page.host is Reach.NONE, "private, and the host has a translation"
        if page.guest in (View.PRIVATE, View.SHARED) and policy.has("long-term-pin"):
            assert page.kvm, "mapped for the guest without KVM's pin"
        if not (policy.has("long-term-pin") or policy.has("exclusive")):
            assert not page.kvm, "KVM's reference is dropped before it maps the page"
        if policy.has("exclusive"):
            assert not (page.kvm and page.mapped), "KVM and user space hold it"
        if page.apart:
            assert policy.has("long-term-pin") and page.kvm, "nothing keeps the guest's frame"
        if page.guest is not View.NONE:
            assert page.home is not Home.SWAPPED
        if page.dma is Reach.LIVE:
            assert page.pins, "a device maps what nobody holds"
        if policy.has("refs-checked") and not policy.has("unmaps-first") and page.owner in (*PRIVATE, Owner.LEAVING):
            assert not page.pins, "private, and the host holds it"
        if policy.has("iommu-guarded") and page.owner in PRIVATE:
            assert page.dma is Reach.NONE
        if page.home is Home.HOLE and policy.guard is not Guard.ABSENT:
            assert page.data is Data.ZERO
        if page.owner is Owner.SHARED:
            assert page.data is not Data.SECRET, "shared bytes are declassified"


def test_hybrid_breaks_nothing_and_can_do_everything() -> None:
    hybrid = POLICIES["hybrid"]
    assert violations(hybrid) == set()
    assert all(hits.any() for hits in tabulate(hybrid).where(SOMETIMES).values())


@pytest.mark.parametrize(
    ("mechanism", "broken"),
    [
        ("tlb-flushed", {"no-stale-translation", "host-never-reads-private", "host-never-writes-private"}),
        ("refs-checked", {"no-pin-left", "host-never-panics"}),
        ("iommu-guarded", {"no-stale-translation", "host-never-reads-private", "host-never-writes-private"}),
        ("notifies", {"no-stale-translation"}),
        ("scrubs", {"scrubbed-before-reuse"}),
        ("moves-checked", {"no-stale-translation", "no-pin-left", "no-write-undone"}),
        ("state-checked", {"no-stale-translation"}),
        ("swap-sealed", {"swap-is-fresh", "host-never-reads-private"}),
        ("swap-fresh", {"swap-is-fresh"}),
        ("in-place", {"nothing-lost"}),
        ("injects", {"host-never-panics"}),
    ],
)
def test_hybrid_needs_each_mechanism(mechanism: str, broken: set[str]) -> None:
    assert violations(POLICIES["hybrid"].without(mechanism)) >= broken


def test_pkvm_dies_of_nothing_but_what_the_hypervisor_owns() -> None:
    """Which no user space brings about: mem_protect.c __pkvm_host_donate_hyp looks at no pins, and its callers give
    away pages that nobody else has."""
    table = tabulate(POLICIES["pkvm"])
    panics = (table.outcome == Outcome.PANIC).any(1)
    assert {page.owner for page, dies in zip(table.pages, panics, strict=True) if dies} == {Owner.HYP}


def test_verdicts_of_the_thread() -> None:
    assert "host-never-reads-private" in violations(POLICIES["memfd"])
    assert "host-never-panics" in violations(POLICIES["pkvm-2022"])
    assert "host-never-panics" not in violations(POLICIES["pkvm-2022"].with_("gup-blocked"))
    assert "host-never-destroys-private" in violations(POLICIES["pkvm"])
    assert "host-never-destroys-private" in violations(POLICIES["guest-memfd"]), "the VMM punches"
    assert "nothing-lost" not in violations(POLICIES["pkvm"])
    assert "nothing-lost" not in violations(POLICIES["guest-memfd"]), "each frame keeps its bytes"
    assert "nothing-lost" in violations(POLICIES["patch-v5"])
    assert "host-never-reads-private" not in violations(policy_named("uffd-window+isolated"))


def test_component_states_agree() -> None:
    """Exactly one component owns a page, and a borrower has a lender."""
    for owner in Owner:
        states = component_states(Page(owner=owner))
        assert sum(state in ("OWNED", "SHARED_OWNED") for state in states) == 1
        assert ("SHARED_BORROWED" in states) <= ("SHARED_OWNED" in states)


def test_every_operation_has_a_reason() -> None:
    for op in Op:
        assert SOURCES[op] and len(reason(op)) > 20


def test_mechanisms_are_names() -> None:
    twice = {"second-mapping"}  # what a window is: memory mapped twice
    assert all(policy.mechanisms <= MECHANISMS.keys() | twice for policy in POLICIES.values())
    assert all(policy.mechanisms <= NAMES.keys() for policy in EVERY.values())
    with pytest.raises(UserMistake, match="gup_blokked"):
        policy_named("hybrid").without("gup_blokked")
    with pytest.raises(UserMistake, match="hybrid"):
        policy_named("hybird")


THE_GUESTS = {Owner.GUEST, Owner.OFFERED, Owner.SHARED, Owner.LEAVING, Owner.POISON}
STARTS: dict[Op, tuple[set[Owner], Outcome]] = {  # the owners that a transition starts from, and what others get
    Op.OFFER: ({Owner.GUEST}, Outcome.EPERM),
    Op.SHARE: ({Owner.GUEST, Owner.OFFERED}, Outcome.EPERM),
    Op.HOST_MAP: ({Owner.SHARED}, Outcome.EPERM),
    Op.UNSHARE_BEGIN: ({Owner.SHARED}, Outcome.EPERM),
    Op.UNSHARE_CHECK: ({Owner.LEAVING}, Outcome.EPERM),
    Op.UNSHARE_ABORT: ({Owner.LEAVING}, Outcome.EPERM),
    Op.DONATE_BEGIN: ({Owner.HOST}, Outcome.EPERM),
    Op.HOST_ZAP: ({Owner.LEAVING}, Outcome.EPERM),
    Op.UNSHARE_COMMIT: ({Owner.LEAVING}, Outcome.EPERM),
    Op.RECLAIM: (THE_GUESTS, Outcome.EINVAL),
}
ASKED_AGAIN = {Op.SHARE: {Owner.SHARED}} | dict.fromkeys(
    (Op.UNSHARE_BEGIN, Op.UNSHARE_CHECK, Op.HOST_ZAP, Op.UNSHARE_COMMIT), PRIVATE
)
"""From where a conversion is done and changes nothing, where a state may be asked for twice."""


@every_policy
@pytest.mark.parametrize("op", STARTS, ids=lambda op: op.key)
def test_a_transition_starts_from_its_owners_and_nothing_else(policy: Policy, op: Op) -> None:
    table = tabulate(policy)
    owners, refusal = STARTS[op]
    again = ASKED_AGAIN.get(op, set()) if policy.has("idempotent") else set()
    if policy.has("fixed") and op in (Op.SHARE, Op.UNSHARE_BEGIN):
        owners, refusal = set(), Outcome.EOPNOTSUPP
    if op in (Op.UNSHARE_CHECK, Op.UNSHARE_ABORT) and not policy.has("unmaps-first"):
        owners = set()
    for state, page in enumerate(table.pages):
        outcome = table.outcome[state, op]
        if page.owner in again:
            assert outcome == Outcome.DONE and table.next[state, op] == state
        elif page.owner not in owners:
            told_more = policy.has("long-term-pin") and outcome in (Outcome.ENOENT, Outcome.EHWPOISON)
            assert outcome == refusal or told_more
    starting = [state for state, page in enumerate(table.pages) if page.owner in owners]
    assert not starting or (table.outcome[starting, op] == Outcome.DONE).any()


RESIDENT = (Op.OFFER, Op.DONATE_BEGIN, Op.GUEST_MAP, Op.MIGRATE_BEGIN, Op.SWAP_OUT)


@every_policy
@pytest.mark.parametrize("op", RESIDENT, ids=lambda op: op.key)
def test_only_a_page_that_is_there_is_given_away_mapped_or_moved(policy: Policy, op: Op) -> None:
    """But for one that is other memory while it is shared: that is there."""
    table = tabulate(policy)
    absent = policy.guard is Guard.ABSENT
    elsewhere = np.array([
        page.home is not Home.RESIDENT and not (absent and page.owner is Owner.SHARED) for page in table.pages
    ])  # fmt: skip
    assert not (table.outcome[elsewhere, op] == Outcome.DONE).any()
