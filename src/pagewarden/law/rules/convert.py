"""Conversion between private and shared, and the donation that makes a page the guest's."""

from pagewarden.law.ops import Op
from pagewarden.law.page import PRIVATE, Data, Home, Owner, Page, Reach, View
from pagewarden.law.policy import Guard, Policy
from pagewarden.law.rules import entered, leave_frame, rule, scrubbed
from pagewarden.law.step import Outcome, Step, done, refused
from pagewarden.vocab import Event

_GUARDED = (Guard.STAGE1, Guard.STAGE2)
"""The levels at which the warden sets and clears an entry for the host: the window's own PTE, or the hypervisor's."""


def _zapped(policy: Policy, page: Page) -> bool:
    """With two views of a gpa, the old one goes before the page changes flavour."""
    return page.guest is View.NONE or not policy.has("two-flavours")


def _asked_again(policy: Policy, page: Page) -> bool:
    """The page is private already, and asking for that once more is done and changes nothing."""
    return policy.has("idempotent") and page.owner in PRIVATE


@rule(Op.OFFER, "mail of 5 April 2022: virtual IOMMU, the guest shares by writing an I/O page-table entry")
def offer(policy: Policy, page: Page) -> Step:
    """The guest writes an I/O page-table entry; the hypervisor has not seen it yet."""
    if page.owner is not Owner.GUEST or page.home is not Home.RESIDENT:
        return refused(page, Outcome.EPERM)
    return done(page, Event.IO_PTE_SET, owner=Owner.OFFERED)


def _unheld(policy: Policy, page: Page) -> bool:
    """KVM has not taken the reference that a private page takes."""
    return not page.kvm and (policy.has("long-term-pin") or policy.has("exclusive"))


def _guests_own(policy: Policy, page: Page) -> Outcome:
    """What pKVM says to its guest of a page that the guest has no entry for."""
    if not policy.has("long-term-pin"):
        return Outcome.DONE
    if page.owner is Owner.POISON:
        return Outcome.EHWPOISON
    return Outcome.ENOENT if page.guest is View.NONE else Outcome.DONE


_ATTRIBUTES = "kvm_main.c kvm_vm_set_mem_attributes: what is so already is left alone; no page need be there"
_MADE_SHARED = (
    "x86/coco/sev/core.c __set_pages_state: SNP: PVALIDATE before the guest asks; RMPUPDATE when the frame goes",
    "x86/kvm/vmx/tdx.c tdx_sept_remove_leaf_spte: TDX: TDH.MEM.RANGE.BLOCK, TRACK, PAGE.REMOVE",
)
_MADE_PRIVATE = (
    "x86/kvm/svm/sev.c sev_gmem_make_private: SNP: RMPUPDATE, unless the frame is the guest's still; then PVALIDATE",
    "x86/kvm/vmx/tdx.c tdx_mem_page_aug: TDX: TDH.MEM.PAGE.AUG, and the guest's TDG.MEM.PAGE.ACCEPT",
)
_SERIES = "in-place conversion series: __kvm_gmem_set_attributes: what is so already is done; no page need be there"


@rule(
    Op.SHARE,
    "mail of 5 April 2022: the hypervisor records the page as shared",
    pkvm="mem_protect.c __pkvm_guest_share_host: ENOENT where the guest has no entry, EHWPOISON where that is poisoned",
    gmem=(_ATTRIBUTES, *_MADE_SHARED),
    inplace=_SERIES,
    v5="patch series v5: punched = shared, so the bytes are lost",
    exclusive="thread of April 2022: exclusive references: the guest asks the hypervisor",
)
def share(policy: Policy, page: Page) -> Step:
    """The page becomes shared; the host's entry is the next step."""
    if policy.has("fixed"):
        return done(page) if page.owner is Owner.SHARED else refused(page, Outcome.EOPNOTSUPP)
    if (known := _guests_own(policy, page)) is not Outcome.DONE:
        return refused(page, known)
    if page.owner is Owner.SHARED and policy.has("idempotent"):
        return done(page)
    if page.owner in (Owner.SHARED, Owner.LEAVING):
        return refused(page, Outcome.EPERM) if policy.has("state-checked") else done(page, owner=Owner.SHARED)
    if page.owner not in PRIVATE:
        return refused(page, Outcome.EPERM)
    if page.home is not Home.RESIDENT and not (page.home is Home.HOLE and policy.has("idempotent")):
        return refused(page, Outcome.ENOENT if page.home is Home.HOLE else Outcome.EAGAIN)
    if not _zapped(policy, page):
        return refused(page, Outcome.EBUSY)
    if policy.has("in-place"):
        data = Data.PUBLIC if page.data is Data.SECRET else page.data
        return done(page, *entered(policy, Event.HYP_PTE_CLEAR), owner=Owner.SHARED, data=data)
    return _other_frame(policy, page)


def _other_frame(policy: Policy, page: Page) -> Step:
    """Shared memory is other memory, with its own bytes. The private frame is kept, or freed by the same call."""
    new = leave_frame(policy, page)._replace(owner=Owner.SHARED, data=page.beside)
    named = entered(policy, Event.HYP_PTE_CLEAR)
    if policy.has("keeps-both"):
        return done(new, *named, beside=page.data)
    return done(new, *named, *scrubbed(policy, page), home=Home.HOLE, beside=Data.ZERO)


@rule(
    Op.HOST_MAP,
    "mail of 5 April 2022: the hypervisor adds a PTE",
    pkvm="mem_protect.c __host_set_page_state_range: the host's stage 2 gets its entry with the state",
    uffd="ioctl_userfaultfd(2): UFFDIO_CONTINUE, or UFFDIO_RWPROTECT with its mode cleared",
)
def host_map(policy: Policy, page: Page) -> Step:
    """The host gets its entry. Where its touch of a shared page maps it (demand), nothing is done ahead."""
    if policy.has("state-checked") and page.owner is not Owner.SHARED:
        return refused(page, Outcome.EPERM)
    if policy.guard not in _GUARDED or policy.has("demand") or page.host is Reach.LIVE:
        return done(page)
    return done(page, Event.HYP_PTE_SET, host=Reach.LIVE)


@rule(
    Op.UNSHARE_BEGIN,
    "mail of 5 April 2022: uses are torn down first, it may fail",
    pkvm="mem_protect.c __pkvm_guest_unshare_host: host pins are not looked at",
    gmem=_ATTRIBUTES,
    inplace="in-place conversion series: __kvm_gmem_set_attributes: takes filemap_invalidate_lock",
    exclusive="thread of April 2022: exclusive references: the VMM unmaps, then KVM tries to take the reference",
)
def unshare_begin(policy: Policy, page: Page) -> Step:
    """From here on nobody gets a new reference by a fault. Refused while the host holds one, where that is looked at
    first, and while a device has an entry."""
    if _asked_again(policy, page) or (policy.has("fixed") and page.owner in PRIVATE):
        return done(page)
    if policy.has("fixed"):
        return refused(page, Outcome.EOPNOTSUPP)
    if (known := _guests_own(policy, page)) is not Outcome.DONE:
        return refused(page, known)
    if page.owner is not Owner.SHARED:
        return refused(page, Outcome.EPERM)
    if policy.has("refs-checked") and not policy.has("unmaps-first") and page.pins:
        return refused(page, Outcome.EAGAIN)
    if policy.has("iommu-guarded") and page.dma is Reach.LIVE:
        return refused(page, Outcome.EAGAIN)
    if policy.has("exclusive") and _unheld(policy, page):
        return refused(page, Outcome.EBUSY)
    late = policy.has("unmaps-first")
    return done(page, owner=Owner.LEAVING) if late or _zapped(policy, page) else refused(page, Outcome.EBUSY)


@rule(
    Op.UNSHARE_CHECK,
    "in-place conversion series: kvm_gmem_is_safe_for_conversion: EAGAIN and the offset of the page that is held",
    "guest_memfd_conversions_test.c elevated_refcount: EAGAIN",
    exclusive="thread of April 2022: exclusive references: the guest must handle failure",
)
def unshare_check(policy: Policy, page: Page) -> Step:
    """Whether anybody holds the page, now that nothing maps it: then it cannot become private."""
    if _asked_again(policy, page):
        return done(page)
    if page.owner is not Owner.LEAVING or not policy.has("unmaps-first"):
        return refused(page, Outcome.EPERM)
    return refused(page, Outcome.EAGAIN) if policy.has("refs-checked") and page.pins else done(page)


@rule(Op.UNSHARE_ABORT, "in-place conversion series: __kvm_gmem_set_attributes: out, the lock goes, nothing was stored")
def unshare_abort(policy: Policy, page: Page) -> Step:
    """The page stays shared; the host's next touch maps it again."""
    late = policy.has("unmaps-first") and page.owner is Owner.LEAVING
    return done(page, owner=Owner.SHARED) if late else refused(page, Outcome.EPERM)


@rule(
    Op.DONATE_BEGIN,
    "mem_protect.c __pkvm_host_donate_guest: the host owns it, or EPERM",
    "thread of April 2022: exclusive references, EBUSY if held",
)
def donate_begin(policy: Policy, page: Page) -> Step:
    """The host gives the page up for the guest."""
    if page.owner is not Owner.HOST or page.home is not Home.RESIDENT:
        return refused(page, Outcome.EPERM)
    if _unheld(policy, page):
        return refused(page, Outcome.EINVAL)
    if (policy.has("refs-checked") and page.pins) or (policy.has("iommu-guarded") and page.dma is Reach.LIVE):
        return refused(page, Outcome.EBUSY)
    return done(page, owner=Owner.LEAVING)


@rule(
    Op.HOST_ZAP,
    "mail of 5 April 2022: PTE removed",
    uffd="madvise(2): MADV_DONTNEED, or UFFDIO_RWPROTECT",
    pkvm="mem_protect.c host_stage2_set_owner_metadata_locked: the entry is replaced by the owner's name",
    inplace="in-place conversion series: unmap_mapping_pages",
)
def host_zap(policy: Policy, page: Page) -> Step:
    """The host's entry goes; its TLB may have it still."""
    if _asked_again(policy, page):
        return done(page)
    if page.owner is not Owner.LEAVING:
        return refused(page, Outcome.EPERM)
    if policy.guard not in _GUARDED or page.host is not Reach.LIVE:
        return done(page)
    return done(page, Event.HYP_PTE_CLEAR, host=Reach.STALE)


@rule(
    Op.HOST_TLBI,
    "mail of 5 April 2022: TLBI",
    pkvm="pgtable.c kvm_pgtable_stage2_annotate: what was valid is invalidated",
)
def host_tlbi(policy: Policy, page: Page) -> Step:
    """Invalidate what the host's CPUs have cached of a removed entry: the guard's own, or a mapping's. A conversion
    that removes none of the host's entries flushes none."""
    quiet = page.owner is Owner.LEAVING or _asked_again(policy, page)
    if not policy.has("tlb-flushed") or (quiet and page.host is not Reach.STALE):
        return done(page)
    return done(page, Event.TLBI, host=Reach.NONE if page.host is Reach.STALE else page.host)


@rule(
    Op.UNSHARE_COMMIT,
    "thread of April 2022: in a destructive conversion an old pinned page lives on",
    pkvm="mem_protect.c __pkvm_guest_unshare_host",
    gmem=(_ATTRIBUTES, *_MADE_PRIVATE),
    inplace=_SERIES,
    v5="patch series v5: allocated = private",
)
def unshare_commit(policy: Policy, page: Page) -> Step:
    """The page is private and the caller is told so. Refused while a translation that should be gone is there."""
    if _asked_again(policy, page):
        return done(page)
    if page.owner is not Owner.LEAVING:
        return refused(page, Outcome.EPERM)
    if policy.guard in _GUARDED and policy.has("tlb-flushed") and page.host is not Reach.NONE:
        return refused(page, Outcome.EBUSY)
    if (policy.has("iommu-guarded") and page.dma is not Reach.NONE) or not _zapped(policy, page):
        return refused(page, Outcome.EBUSY)
    named = entered(policy, Event.HYP_PTE_SET)
    held = page.pins or page.dma is not Reach.NONE
    stays = not policy.has("replaces") or (policy.has("protnone") and not held)
    if policy.has("in-place") and stays:
        return done(page, *named, owner=Owner.GUEST)
    new = leave_frame(policy, page)._replace(owner=Owner.GUEST)
    if policy.has("in-place"):
        return done(new, *named, Event.ALLOCATIONS, Event.HYP_COPIES)
    new = new._replace(data=page.beside, beside=page.data)
    if policy.has("keeps-both"):
        return done(new, *named)
    return done(new, *named, Event.ALLOCATIONS, home=Home.RESIDENT)
