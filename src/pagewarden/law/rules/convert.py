"""Conversion between private and shared, and the donation that makes a page the guest's."""

from pagewarden.law.ops import Op
from pagewarden.law.page import Data, Home, Owner, Page, Reach, View
from pagewarden.law.policy import Guard, Policy
from pagewarden.law.rules import leave_frame, rule, scrubbed
from pagewarden.law.step import Outcome, Step, done, refused
from pagewarden.vocab import Event

_GUARDED = (Guard.STAGE1, Guard.STAGE2)
"""The levels at which the warden sets and clears an entry for the host: the window's own PTE, or the hypervisor's."""


def _zapped(policy: Policy, page: Page) -> bool:
    """With two views of a gpa, the old one goes before the page changes flavour (so does the conversion series)."""
    return page.guest is View.NONE or not policy.has("two-flavours")


@rule(Op.OFFER, "mail of 5 April 2022: virtual IOMMU, the guest shares by writing an I/O page-table entry")
def offer(policy: Policy, page: Page) -> Step:
    """The guest writes an I/O page-table entry; the hypervisor has not seen it yet."""
    if page.owner is not Owner.GUEST or page.home is not Home.RESIDENT:
        return refused(page, Outcome.EPERM)
    return done(page, Event.IO_PTE_SET, owner=Owner.OFFERED)


@rule(Op.SHARE, "mem_protect.c __pkvm_guest_share_host", "patch series v5: punched = shared, so the bytes are lost")
def share(policy: Policy, page: Page) -> Step:
    """The page becomes shared; the host's entry is the next step."""
    if page.owner in (Owner.SHARED, Owner.LEAVING):
        return refused(page, Outcome.EPERM) if policy.has("state-checked") else done(page, owner=Owner.SHARED)
    if page.owner not in (Owner.GUEST, Owner.OFFERED):
        return refused(page, Outcome.EPERM)
    if page.home is not Home.RESIDENT:
        return refused(page, Outcome.ENOENT if page.home is Home.HOLE else Outcome.EAGAIN)
    if not _zapped(policy, page):
        return refused(page, Outcome.EBUSY)
    if policy.has("in-place"):
        return done(page, owner=Owner.SHARED, data=Data.PUBLIC if page.data is Data.SECRET else page.data)
    return done(page, *scrubbed(policy, page), owner=Owner.SHARED, data=Data.ZERO)


@rule(
    Op.HOST_MAP,
    "mail of 5 April 2022: the hypervisor adds a PTE",
    "ioctl_userfaultfd(2): UFFDIO_CONTINUE where the window's own PTE guards",
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
    "guest_memfd_conversions_test.c elevated_refcount: EAGAIN",
)
def unshare_begin(policy: Policy, page: Page) -> Step:
    """From here on nobody gets a new reference. Refused while the host holds one, or a device has an entry."""
    if page.owner is not Owner.SHARED:
        return refused(page, Outcome.EPERM)
    if (policy.has("refs-checked") and page.pins) or (policy.has("iommu-guarded") and page.dma is Reach.LIVE):
        return refused(page, Outcome.EAGAIN)
    return done(page, owner=Owner.LEAVING) if _zapped(policy, page) else refused(page, Outcome.EBUSY)


@rule(
    Op.DONATE_BEGIN,
    "mem_protect.c __pkvm_host_donate_guest: host owns it, or EPERM",
    "thread of April 2022: exclusive references, EBUSY if held",
)
def donate_begin(policy: Policy, page: Page) -> Step:
    """The host gives the page up for the guest."""
    if page.owner is not Owner.HOST or page.home is not Home.RESIDENT:
        return refused(page, Outcome.EPERM)
    if (policy.has("refs-checked") and page.pins) or (policy.has("iommu-guarded") and page.dma is Reach.LIVE):
        return refused(page, Outcome.EBUSY)
    return done(page, owner=Owner.LEAVING)


@rule(Op.HOST_ZAP, "mail of 5 April 2022: PTE removed", "madvise(2): MADV_DONTNEED where the window's own PTE guards")
def host_zap(policy: Policy, page: Page) -> Step:
    """The host's entry goes; its TLB may have it still."""
    if page.owner is not Owner.LEAVING:
        return refused(page, Outcome.EPERM)
    if policy.guard not in _GUARDED or page.host is not Reach.LIVE:
        return done(page)
    return done(page, Event.HYP_PTE_CLEAR, host=Reach.STALE)


@rule(Op.HOST_TLBI, "mail of 5 April 2022: TLBI")
def host_tlbi(policy: Policy, page: Page) -> Step:
    """Invalidate what the host's CPUs have cached of a removed entry: the guard's own, or a mapping's. A conversion
    that removes none of the host's entries flushes none."""
    if not policy.has("tlb-flushed") or (page.owner is Owner.LEAVING and page.host is not Reach.STALE):
        return done(page)
    return done(page, Event.TLBI, host=Reach.NONE if page.host is Reach.STALE else page.host)


@rule(
    Op.UNSHARE_COMMIT,
    "mem_protect.c __pkvm_guest_unshare_host",
    "thread of April 2022: in a destructive conversion an old pinned page lives on",
)
def unshare_commit(policy: Policy, page: Page) -> Step:
    """The page is private and the caller is told so. Refused while a translation that should be gone is there."""
    if page.owner is not Owner.LEAVING:
        return refused(page, Outcome.EPERM)
    if policy.guard in _GUARDED and policy.has("tlb-flushed") and page.host is not Reach.NONE:
        return refused(page, Outcome.EBUSY)
    if policy.has("iommu-guarded") and page.dma is not Reach.NONE:
        return refused(page, Outcome.EBUSY)
    if policy.has("in-place") and not policy.has("replaces"):
        return done(page, owner=Owner.GUEST)
    new = leave_frame(policy, page)._replace(owner=Owner.GUEST)
    if policy.has("in-place"):
        return done(new, Event.ALLOCATIONS, Event.HYP_COPIES)
    return done(new, Event.ALLOCATIONS, data=Data.ZERO)
