"""The guest, and KVM's side of the store: references, stage-2 entries, the memslot."""

from typing import Any

from pagewarden.law.ops import Op
from pagewarden.law.page import PRIVATE, Data, Home, Owner, Page, View, flavour, stale
from pagewarden.law.policy import Guard, Policy
from pagewarden.law.rules import cut_off, present, rule, written
from pagewarden.law.step import Outcome, Step, done, refused
from pagewarden.vocab import Event


def _guest_access(policy: Policy, page: Page, **changes: Any) -> Step:
    if page.owner is Owner.POISON:
        return refused(page, Outcome.GUEST_KILLED)
    if page.guest is View.NONE:
        return refused(page, Outcome.GUEST_FAULT, Event.FAULTS)
    if not present(page):
        return done(page)  # a translation to a frame that is no longer the page's
    return done(page, reached=True, **changes)


@rule(
    Op.GUEST_LOAD,
    "mail of 1 April 2022: a page that is not mapped faults to the host, which maps it",
    "mem_protect.c __pkvm_host_force_reclaim_page_guest: poison is fatal",
)
def guest_load(policy: Policy, page: Page) -> Step:
    """A vCPU reads the page."""
    return _guest_access(policy, page)


@rule(
    Op.GUEST_STORE,
    "mail of 1 April 2022: a page that is not mapped faults to the host, which maps it",
    "mem_protect.c __pkvm_host_force_reclaim_page_guest: poison is fatal",
)
def guest_store(policy: Policy, page: Page) -> Step:
    """A vCPU writes the page: a secret while it is private."""
    data = Data.SECRET if page.owner in PRIVATE else Data.PUBLIC
    return _guest_access(policy, page, data=data, home=written(page))


@rule(
    Op.KVM_GET,
    "guest_memfd.c kvm_gmem_get_pfn",
    "mail of 1 April 2022: a long-term pin by hva where the store has no notifier",
)
def kvm_get(policy: Policy, page: Page) -> Step:
    """KVM takes a reference: from the store, or by GUP on the VMM's mapping (memfd_secret refuses that: EFAULT)."""
    if not policy.has("gets-pfn") and policy.has("gup-blocked"):
        return refused(page, Outcome.EFAULT)
    if page.home is not Home.RESIDENT:
        return refused(page, Outcome.EAGAIN if present(page) else Outcome.ENOENT)
    if page.notify or page.kvm:
        return refused(page, Outcome.EAGAIN if page.notify else Outcome.EBUSY)
    return done(page, Event.PINS, kvm=True)


@rule(Op.KVM_PUT, "guest_memfd.c kvm_gmem_punch_hole: the guest's entries go before the invalidation ends")
def kvm_put(policy: Policy, page: Page) -> Step:
    """KVM drops its reference, once nothing of the guest's maps the page."""
    if not page.kvm:
        return refused(page, Outcome.EINVAL)
    return done(page, kvm=False) if page.guest is View.NONE else refused(page, Outcome.EBUSY)


@rule(Op.GUEST_MAP, "mmu.c is_page_fault_stale: a fault that races an invalidation is tried again")
def guest_map(policy: Policy, page: Page) -> Step:
    """KVM or the hypervisor gives the guest its stage-2 entry."""
    if page.owner not in (Owner.GUEST, Owner.OFFERED, Owner.SHARED, Owner.LENT):
        return refused(page, Outcome.EAGAIN if page.owner is Owner.LEAVING else Outcome.EPERM)
    if page.home is not Home.RESIDENT or page.notify:
        return refused(page, Outcome.EAGAIN)
    if not (page.kvm or policy.has("emulated")):
        return refused(page, Outcome.EFAULT)
    view = flavour(page.owner) if policy.has("two-flavours") else View.PRIVATE
    if page.guest is view:
        return done(page)
    if page.guest is not View.NONE and policy.has("tlb-flushed"):
        return refused(page, Outcome.EBUSY)
    return done(page, Event.GUEST_PTE_SET, guest=view)


@rule(Op.GUEST_ZAP, "guest_memfd.c __kvm_gmem_invalidate_begin: KVM zaps what the store tells it to")
def guest_zap(policy: Policy, page: Page) -> Step:
    """The guest's entry goes; its TLB may have it still. KVM does it because it was told."""
    if not page.notify:
        return refused(page, Outcome.EINVAL)
    if page.guest not in (View.PRIVATE, View.SHARED):
        return done(page)
    return done(page, Event.GUEST_PTE_CLEAR, guest=stale(page.guest))


@rule(Op.GUEST_TLBI, "guest_memfd.c __kvm_gmem_invalidate_begin: one remote flush, and only if something was unmapped")
def guest_tlbi(policy: Policy, page: Page) -> Step:
    """Invalidate the guest's TLB entry."""
    if page.guest not in (View.STALE_PRIVATE, View.STALE_SHARED) or not policy.has("tlb-flushed"):
        return done(page)
    return done(page, Event.TLBI, guest=View.NONE)


@rule(
    Op.SLOT_DELETE,
    "pkvm.rst: EPERM after the start",
    "kvm_main.c kvm_invalidate_memslot: elsewhere KVM zaps and flushes the slot",
)
def slot_delete(policy: Policy, page: Page) -> Step:
    """The VMM deletes the memslot: the guest loses the mapping, the store keeps the bytes."""
    if policy.guard is Guard.STAGE2 and not policy.has("notifies"):
        return refused(page, Outcome.EPERM)
    return done(page, *cut_off(page, guest=True), guest=View.NONE, kvm=False)
