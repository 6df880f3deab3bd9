"""What every operation costs, in every state under every policy, against a counter that looks at the page only."""

from collections import Counter

import pytest

from pagewarden.law import (
    EVERY,
    POLICIES,
    Home,
    Op,
    Outcome,
    Page,
    Policy,
    Reach,
    View,
    apply,
    policy_named,
    start,
    tabulate,
)
from pagewarden.vocab import Event
from slow_counter import owed
from statements import DONATED, LET_GO

LOOSE = [
    *(POLICIES["hybrid"].without(name) for name in ("tlb-flushed", "notifies", "scrubs", "injects", "gup-blocked")),
    POLICIES["uffd-window"].without("notifies"),
    policy_named("guest-memfd+sev-snp"),
]


@pytest.mark.parametrize("policy", [*EVERY.values(), *LOOSE], ids=lambda policy: policy.name)
def test_events_are_what_the_page_shows(policy: Policy) -> None:
    table = tabulate(policy)
    wrong: dict[str, str] = {}
    for state, page in enumerate(table.pages):
        for op in Op:
            step = table.step(state, op)
            expected = owed(policy, page, op, step.outcome, step.page)
            if Counter(step.events) != expected:
                told, due = ([event.key for event in events] for events in (step.events, expected.elements()))
                wrong[op.key] = f"{page} {step.outcome.name}: {told}, not {due}"
    assert not wrong


@pytest.mark.parametrize("machine", ["sev-snp", "tdx"])
def test_a_table_of_owners_costs_an_entry_a_conversion_and_changes_nothing_else(machine: str) -> None:
    """Linux 7.3: svm/sev.c sev_gmem_make_private, coco/sev/core.c __set_pages_state, vmx/tdx.c tdx_mem_page_aug and
    tdx_sept_remove_leaf_spte."""
    plain, tabled = tabulate(POLICIES["guest-memfd"]), tabulate(policy_named(f"guest-memfd+{machine}"))
    assert plain.pages == tabled.pages
    assert (plain.next == tabled.next).all() and (plain.outcome == tabled.outcome).all()
    more = tabled.events.astype(int) - plain.events
    dearer = {(Op(op).key, Event(event).key) for _, op, event in zip(*more.nonzero(), strict=True)}
    assert dearer == {
        ("share", "hyp_pte_clear"), ("unshare_commit", "hyp_pte_set"), ("reclaim", "hyp_pte_clear"),
    }  # fmt: skip
    assert set(more[more != 0].tolist()) == {1}


def reached(policy: Policy, *ops: Op) -> Page:
    """The page after operations, where those that a policy has no need of may be refused."""
    page = start(policy)
    for op in ops:
        page = apply(policy, page, op).page
    return page


SHARED = (*DONATED, *LET_GO, Op.SHARE, Op.HOST_MAP, Op.HOST_LOAD, Op.NOTIFY_END)


@pytest.mark.parametrize("name", ["uffd-window", "uffd-window+isolated", "guest-memfd-shared", "guest-memfd-inplace"])
def test_a_punch_of_a_page_that_the_host_maps_costs_a_clear_and_a_flush(name: str) -> None:
    policy = policy_named(name)
    page = reached(policy, *SHARED)
    assert page.host is Reach.LIVE and page.guest is View.NONE
    step = apply(policy, page, Op.PUNCH)
    assert step.outcome is Outcome.DONE
    assert sorted(step.events) == [Event.HOST_PTE_CLEAR, Event.TLBI]


@pytest.mark.parametrize("name", ["guest-memfd-shared", "guest-memfd-inplace"])
@pytest.mark.parametrize("op", [Op.HOST_LOAD, Op.HOST_STORE, Op.UACCESS_READ, Op.UACCESS_WRITE, Op.GUP_PIN])
def test_a_touch_that_fills_a_hole_takes_a_frame(name: str, op: Op) -> None:
    policy = policy_named(name)
    hole = reached(policy, *SHARED)._replace(host=Reach.NONE, home=Home.HOLE)
    step = apply(policy, hole, op)
    assert step.outcome is Outcome.DONE and step.page.home is Home.RESIDENT
    pinned = [Event.PINS] if op is Op.GUP_PIN else []
    assert sorted(step.events) == sorted([Event.FAULTS, Event.HOST_PTE_SET, Event.ALLOCATIONS, *pinned])


def test_a_host_that_drops_its_entry_pays_a_clear_and_a_flush() -> None:
    policy = POLICIES["uffd-window"]
    step = apply(policy, reached(policy, *SHARED), Op.HOST_DROP)
    assert step.page.host is Reach.NONE and sorted(step.events) == [Event.HOST_PTE_CLEAR, Event.TLBI]
    assert apply(policy, step.page, Op.HOST_DROP).events == ()


def test_a_conversion_flushes_what_it_removed_and_nothing_else() -> None:
    hybrid, window = POLICIES["hybrid"], POLICIES["uffd-window"]
    leaving = (Op.ALLOCATE, Op.KVM_GET, Op.DONATE_BEGIN, Op.HOST_ZAP)
    assert apply(hybrid, reached(hybrid, *leaving), Op.HOST_TLBI).events == (Event.TLBI,)
    assert apply(window, reached(window, *leaving), Op.HOST_TLBI).events == (), "the window had no entry yet"


def test_a_force_reclaim_maps_for_the_host_what_it_takes_from_the_guest() -> None:
    policy = POLICIES["pkvm"]
    step = apply(policy, reached(policy, *DONATED, Op.GUEST_STORE), Op.FORCE_RECLAIM)
    assert sorted(step.events) == [Event.HYP_PTE_SET, Event.GUEST_PTE_CLEAR, Event.TLBI, Event.SCRUBS]
