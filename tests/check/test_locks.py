"""Locks and order: what no table of one page decides, because it needs two who are at work at once."""

from functools import cache

import pytest

from pagewarden.check.explain import listing, tell
from pagewarden.check.page.strangers import stranger_named
from pagewarden.check.page.system import STALE, Setting
from pagewarden.check.verdict import Report, Verdict, check
from pagewarden.designs import PROCEDURES
from pagewarden.designs.steps import Lock, walk
from pagewarden.law import LOCKING, LOCKS, POLICIES, Op, Outcome, Owner, Page, Policy, apply, sources
from pagewarden.law.page import MAX_INVALIDATIONS
from pagewarden.law.properties import DEADLOCK, PROGRESS

KERNEL = ("invalidate-lock", "mmu-lock", "sequence-compared", "gup-fast", "refusal-ends")
INPLACE = POLICIES["guest-memfd-inplace"]
LOCKED = INPLACE.with_(*KERNEL)
READS = "host-never-reads-private"


@cache
def report(policy: Policy, strangers: str, search: str = "apart", vcpus: int = 2) -> Report:
    setting = Setting(policy, pages=1, vcpus=vcpus, strangers=stranger_named(strangers))
    return check(setting, (READS, STALE, DEADLOCK, PROGRESS), search=search)


def verdict(name: str, *asked: object) -> Verdict:
    return next(each for each in report(*asked).verdicts if each.name == name)


def ending(policy: Policy, name: str, vcpus: int = 2) -> list[str]:
    """What the listing says of the end, where no stranger acts."""
    asked = policy, "none", "apart", vcpus
    lines = [line.strip() for line in listing(report(*asked), verdict(name, *asked))]
    return lines[next(number for number, line in enumerate(lines) if line.startswith("here it goes wrong")) :]


def said(policy: Policy, strangers: str) -> dict[str, tuple[str, int]]:
    return {each.name: (each.verdict, len(each.path)) for each in report(policy, strangers).verdicts}


def test_zap_then_check_holds_against_gup_fast() -> None:
    assert set(said(LOCKED, "o-direct").values()) == {("holds", 0)}


def test_check_then_zap_leaks_to_gup_fast() -> None:
    late = LOCKED.without("unmaps-first")
    assert said(late, "o-direct")[READS] == ("fails", 22)
    steps = tell(report(late, "o-direct"), verdict(READS, late, "o-direct"))
    ops = [step.move.op for step in steps]
    checked, pinned, zapped = (
        ops.index(Op.UNSHARE_BEGIN),
        len(ops) - 1 - ops[::-1].index(Op.GUP_PIN),
        ops.index(Op.HOST_ZAP),
    )
    assert checked < pinned < zapped and ops[-1] is Op.KMAP_READ
    assert said(late.without("gup-fast"), "o-direct")[READS] == ("holds", 0)  # what hid it: a pin refused meanwhile


def test_a_retried_fault_compares_the_sequence() -> None:
    """One vCPU looks a page up, the other converts it from beginning to end, the first maps what it had found."""
    blind = LOCKED.without("sequence-compared")
    assert said(blind, "none")[STALE] == ("fails", 13)
    lines = "\n".join(listing(report(blind, "none"), verdict(STALE, blind, "none")))
    assert "what it looked up has changed" in lines
    assert "     rule: KVM maps what it had looked up. [x86/kvm/mmu/mmu.c is_page_fault_stale]" in lines
    assert verdict(STALE, blind, "none", "apart", 1).verdict == "holds"
    assert said(LOCKED, "none")[STALE] == ("holds", 0)


def test_a_notifier_that_takes_the_lock_of_its_caller() -> None:
    itself = LOCKED.with_("notifier-locks")
    found = verdict(DEADLOCK, itself, "none", "apart", 1)
    assert (found.verdict, len(found.path)) == ("fails", 1)  # alone, and for ever
    end = ending(itself, DEADLOCK, vcpus=1)
    lock = "filemap_invalidate_lock"
    assert end[1] == f"vCPU 0 (holds {lock}), before notify_begin, wants {lock}, held by itself"
    assert end[2].startswith(f"rule: Procedures take {lock}") and "kvm_gmem_punch_hole" in end[2]
    assert len(end) == 3  # nothing that is missing would help


def test_a_fault_under_the_lock_that_it_takes() -> None:
    end = ending(LOCKED.with_("faults-under-lock"), DEADLOCK, vcpus=1)
    assert end[1] == "vCPU 0 (holds mmu_lock), before guest_map, wants mmu_lock, held by itself"


def test_two_component_locks_in_two_orders() -> None:
    pkvm = POLICIES["pkvm"].with_("component-locks")
    assert said(pkvm, "none")[DEADLOCK] == ("fails", 2)
    first, second = "guest component", "host component"
    assert ending(pkvm, DEADLOCK)[1:3] == [
        f"vCPU 0 (holds {first}), before share, wants {second}, held by vCPU 1",
        f"vCPU 1 (holds {second}), before unshare_begin, wants {first}, held by vCPU 0",
    ]
    assert ending(pkvm, DEADLOCK)[4:] == [f"missing: locks-ordered: {LOCKING['locks-ordered']}"]
    assert verdict(DEADLOCK, pkvm, "none", "apart", 1).verdict == "holds"
    assert said(pkvm.with_("locks-ordered"), "none")[DEADLOCK] == ("holds", 0)


def test_a_payload_looked_up_under_the_lock_that_a_fault_waits_for() -> None:
    kernel = LOCKED.with_("mmap-lock")
    assert set(said(kernel, "payload").values()) == {("holds", 0)}
    late = kernel.with_("gup-under-lock")
    assert verdict(DEADLOCK, late, "payload", "apart", 1).verdict == "fails"
    lines = "\n".join(listing(report(late, "payload"), verdict(DEADLOCK, late, "payload")))
    assert "vCPU 0 (holds mmap_lock), before host_load, wants filemap_invalidate_lock, held by the stranger" in lines
    assert "the stranger (holds filemap_invalidate_lock), before populate, wants mmap_lock, held by vCPU 0" in lines
    assert said(LOCKED.with_("gup-under-lock"), "payload")[DEADLOCK] == ("holds", 0)  # nobody speaks of mmap_lock


def test_a_page_is_lent_to_the_hypervisor_under_two_locks() -> None:
    ordered = POLICIES["pkvm"].with_("component-locks", "locks-ordered")
    assert said(ordered, "lend-hyp")[DEADLOCK] == ("holds", 0)
    lends = PROCEDURES["lend-hyp"]
    taken = [line.name for line in walk(lends(ordered).steps) if isinstance(line, Lock)]
    assert taken == ["host component", "hyp component"] * 2
    plain, busy = (check(Setting(POLICIES["pkvm"], pages=1, strangers=stranger_named(it)), (DEADLOCK,), search="apart")
                   for it in ("none", "lend-hyp"))  # fmt: skip
    assert plain.states == busy.states  # who does not speak of locks counts as before
    assert report(ordered, "lend-hyp").states > report(ordered, "none").states


def test_without_the_lock_two_conversions_meet() -> None:
    """One of them ends the invalidation of the other, whose page stays half-converted for ever."""
    assert said(INPLACE, "none")[PROGRESS][0] == "fails"
    assert ending(INPLACE, PROGRESS)[2:] == [f"missing: invalidate-lock: {LOCKING['invalidate-lock']}"]
    assert said(LOCKED, "none")[PROGRESS] == ("holds", 0)


def test_a_refused_change_that_does_not_end_its_invalidation() -> None:
    hybrid = POLICIES["hybrid"].with_("mmu-lock", "sequence-compared", "refusal-ends")
    assert said(hybrid, "migrate,punch")[PROGRESS] == ("holds", 0)
    assert said(hybrid.without("refusal-ends"), "migrate,punch")[PROGRESS][0] == "fails"


@pytest.mark.parametrize("policy", [LOCKED, LOCKED.without("unmaps-first", "sequence-compared")])
def test_together_judges_as_apart(policy: Policy) -> None:
    apart, together = report(policy, "o-direct"), report(policy, "o-direct", "together")
    assert together.together and not apart.together
    for one, other in zip(apart.verdicts, together.verdicts, strict=True):
        assert (one.name, one.verdict, len(one.path)) == (other.name, other.verdict, len(other.path))
        assert tell(together, other) is not None


def test_invalidations_are_counted() -> None:
    page = Page(owner=Owner.SHARED)
    for count in range(1, MAX_INVALIDATIONS + 1):
        page = apply(LOCKED, page, Op.NOTIFY_BEGIN).page
        assert page.notify == count
    assert apply(LOCKED, page, Op.NOTIFY_BEGIN).outcome is Outcome.HOST_RETRY
    for count in reversed(range(MAX_INVALIDATIONS)):
        assert apply(LOCKED, page, Op.GUEST_MAP).outcome is Outcome.EAGAIN
        page = apply(LOCKED, page, Op.NOTIFY_END).page
        assert page.notify == count


def test_locks_have_a_source_and_are_given_back() -> None:
    for lock in LOCKS.values():
        assert lock.mechanism in LOCKING and all(sources.link(each.partition(":")[0]) for each in lock.sources)
    taken = {line.name for line in walk(PROCEDURES["punch"](LOCKED).steps) if isinstance(line, Lock)}
    assert taken == {"filemap_invalidate_lock", "mmu_lock"}
    assert not [line for line in walk(PROCEDURES["punch"](INPLACE).steps) if isinstance(line, Lock)]
