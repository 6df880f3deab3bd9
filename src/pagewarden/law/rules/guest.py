"""The guest, and KVM's side of the store: look-up, stage-2 entries, memslots."""

from typing import Any

from pagewarden.law.ops import Op
from pagewarden.law.page import PRIVATE, Data, Home, Owner, Page, Reach, View, flavour, stale
from pagewarden.law.policy import Guard, Policy
from pagewarden.law.rules import by_address, cut_off, elsewhere, fetched, found, let_go, moving, present, rule, written
from pagewarden.law.step import Outcome, Step, done, refused
from pagewarden.vocab import Event


def _guest_access(policy: Policy, page: Page, **changes: Any) -> Step:
    if page.owner is Owner.POISON:
        return refused(page, Outcome.GUEST_KILLED)
    if page.guest is View.NONE:
        return refused(page, Outcome.GUEST_FAULT, Event.FAULTS)
    if not present(page) and not elsewhere(policy, page):
        return done(page)  # a translation to a frame that is no longer the page's
    return done(page, reached=True, **changes)


_FAULTS = "mail of 1 April 2022: a page that is not mapped faults to the host, which maps it"


@rule(Op.GUEST_LOAD, _FAULTS, pkvm="mem_protect.c __pkvm_vcpu_in_poison_fault: EFAULT from KVM_RUN, again and again")
def guest_load(policy: Policy, page: Page) -> Step:
    """A vCPU reads the page. What is poisoned ends KVM_RUN with EFAULT: the VMM decides whether the guest is dead."""
    return _guest_access(policy, page)


@rule(Op.GUEST_STORE, _FAULTS, pkvm="mem_protect.c __pkvm_vcpu_in_poison_fault: EFAULT from KVM_RUN, again and again")
def guest_store(policy: Policy, page: Page) -> Step:
    """A vCPU writes the page: a secret while it is private."""
    data = Data.SECRET if page.owner in PRIVATE else Data.PUBLIC
    return _guest_access(policy, page, data=data, home=written(page))


@rule(
    Op.KVM_GET,
    "guest_memfd.c kvm_gmem_get_pfn: the reference is dropped before KVM maps the page; EFAULT without a file",
    shmem="kvm_main.c hva_to_pfn: by the host's mapping, EFAULT where there is none",
    uffd="kvm_main.c hva_to_pfn: by a mapping of the VMM's own, EFAULT where there is none",
    secret="kvm_main.c hva_to_pfn: GUP is refused",
    pkvm=("arm64/kvm/mmu.c pkvm_mem_abort: a long-term pin by hva", "mail of 1 April 2022: the same"),
    v5="patch series v5: KVM asks the store, which has nothing where nothing was allocated",
    exclusive="thread of April 2022: exclusive references: KVM or user space, and taking one may fail",
)
def kvm_get(policy: Policy, page: Page) -> Step:
    """KVM looks the page up: in the store, or by GUP on the VMM's mapping. Some objects let it keep a reference."""
    if not found(policy, page) or (not policy.has("gets-pfn") and policy.has("gup-blocked")):
        return refused(page, Outcome.EFAULT)
    if by_address(policy) and policy.guard is Guard.STAGE1 and page.host is not Reach.LIVE:
        return refused(page, Outcome.EFAULT, Event.FAULTS)
    if page.notify or moving(page):
        return refused(page, Outcome.EAGAIN)
    if page.kvm or (policy.has("exclusive") and (page.mapped or page.pins)):
        return refused(page, Outcome.EBUSY)
    if page.home is Home.SWAPPED or (page.home is Home.HOLE and policy.has("punch-shares") and page.owner in PRIVATE):
        return refused(page, Outcome.ENOENT)
    keeps = policy.has("long-term-pin") or policy.has("exclusive")
    if elsewhere(policy, page):
        return done(page, Event.PINS)
    return done(page, Event.PINS, *fetched(page), home=Home.RESIDENT, kvm=keeps)


@rule(
    Op.KVM_PUT,
    "guest_memfd.c kvm_gmem_get_pfn: elsewhere KVM has none to drop",
    pkvm="pkvm.c pkvm_pgtable_stage2_unmap: unpinned when the guest's page is reclaimed",
    exclusive="thread of April 2022: exclusive references: KVM drops its reference when the guest shares",
)
def kvm_put(policy: Policy, page: Page) -> Step:
    """KVM drops its reference, once the page is not the guest's alone any more."""
    if not page.kvm:
        return refused(page, Outcome.EINVAL)
    free = page.owner is Owner.HOST or (policy.has("exclusive") and page.owner is Owner.SHARED)
    return done(let_go(policy, page)) if free else refused(page, Outcome.EBUSY)


@rule(
    Op.GUEST_MAP,
    "x86/kvm/mmu/mmu.c is_page_fault_stale: a fault that races an invalidation is tried again",
    pkvm="mem_protect.c __pkvm_host_donate_guest: the guest's entry is set as the page changes hands",
)
def guest_map(policy: Policy, page: Page) -> Step:
    """KVM or the hypervisor gives the guest its stage-2 entry. Without a memslot KVM_RUN ends with EFAULT, and says why
    (KVM_EXIT_MEMORY_FAULT); a shared page's touch is a device's then (KVM_EXIT_MMIO)."""
    if not found(policy, page):
        return refused(page, Outcome.EFAULT)
    if page.owner not in (Owner.GUEST, Owner.OFFERED, Owner.SHARED, Owner.LENT):
        return refused(page, Outcome.EAGAIN if page.owner is Owner.LEAVING else Outcome.EPERM)
    if page.notify or (page.home is not Home.RESIDENT and not elsewhere(policy, page)):
        return refused(page, Outcome.EAGAIN)
    if not page.kvm and not policy.has("emulated") and _needs_reference(policy, page):
        return refused(page, Outcome.EFAULT)
    view = flavour(page.owner) if policy.has("two-flavours") else View.PRIVATE
    if page.guest is view:
        return done(page)
    if page.guest is not View.NONE and policy.has("tlb-flushed"):
        return refused(page, Outcome.EBUSY)
    return done(page, Event.GUEST_PTE_SET, guest=view)


def _needs_reference(policy: Policy, page: Page) -> bool:
    """Whether the guest may have the page only while KVM holds it. Of secretmem, KVM never even gets the address."""
    if not policy.has("gets-pfn") and policy.has("gup-blocked"):
        return True
    return policy.has("long-term-pin") or (policy.has("exclusive") and page.owner is not Owner.SHARED)


@rule(
    Op.GUEST_ZAP,
    "guest_memfd.c __kvm_gmem_invalidate_start: KVM zaps what the store tells it to",
    shmem="mmu_notifier.h mmu_notifier_invalidate_range_start: KVM zaps what it is told of",
    pkvm="pkvm.rst: there are no MMU notifiers",
)
def guest_zap(policy: Policy, page: Page) -> Step:
    """The guest's entry goes; its TLB may have it still. KVM does it because it was told."""
    if not page.notify:
        return refused(page, Outcome.EINVAL)
    if page.guest not in (View.PRIVATE, View.SHARED):
        return done(page)
    return done(page, Event.GUEST_PTE_CLEAR, guest=stale(page.guest))


@rule(
    Op.GUEST_TLBI,
    "guest_memfd.c __kvm_gmem_invalidate_start: one remote flush, and only if something was unmapped",
    pkvm="pgtable.c kvm_pgtable_stage2_unmap: what is unmapped is invalidated",
)
def guest_tlbi(policy: Policy, page: Page) -> Step:
    """Invalidate the guest's TLB entry."""
    if page.guest not in (View.STALE_PRIVATE, View.STALE_SHARED) or not policy.has("tlb-flushed"):
        return done(page)
    return done(page, Event.TLBI, guest=View.NONE)


@rule(
    Op.SLOT_DELETE,
    "kvm_main.c kvm_invalidate_memslot: KVM zaps and flushes the slot",
    "kvm_main.c kvm_set_memory_region: EINVAL where there is none",
    pkvm="pkvm.rst: EPERM once the guest has run",
)
def slot_delete(policy: Policy, page: Page) -> Step:
    """The VMM deletes the memslot: the guest loses the mapping, the store keeps the bytes."""
    if policy.has("long-term-pin") or policy.has("exclusive"):
        return refused(page, Outcome.EPERM)
    if not page.slot:
        return refused(page, Outcome.EINVAL)
    return done(page, *cut_off(page, guest=True), guest=View.NONE, slot=False)


@rule(
    Op.SLOT_ADD,
    "kvm_main.c kvm_set_memory_region: EEXIST where there is one",
    gmem_inplace="guest_memfd.c kvm_gmem_commit_memory_region: EEXIST for what is bound already",
    exclusive="thread of April 2022: exclusive references: a page that user space maps makes it fail",
)
def slot_add(policy: Policy, page: Page) -> Step:
    """The VMM binds the memory to a memslot."""
    if page.slot:
        return refused(page, Outcome.EEXIST)
    if page.closed:
        return refused(page, Outcome.EBADF)
    return refused(page, Outcome.EBUSY) if page.mapped else done(page, slot=True)
