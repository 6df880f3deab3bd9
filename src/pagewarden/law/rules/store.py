"""The backing store: the fd's calls, its notifier, and the end of a guest."""

from pagewarden.law.ops import Op
from pagewarden.law.page import MAX_INVALIDATIONS, PRIVATE, Data, Home, Owner, Page, Reach, View
from pagewarden.law.policy import Guard, Policy
from pagewarden.law.rules import (
    cut_off,
    elsewhere,
    entered,
    fetched,
    leave_frame,
    moving,
    present,
    rule,
    scrubbed,
    start,
)
from pagewarden.law.step import Outcome, Step, done, refused
from pagewarden.vocab import Event

_GUESTS = PRIVATE | {Owner.SHARED, Owner.LEAVING, Owner.POISON}


@rule(
    Op.NOTIFY_BEGIN,
    "guest_memfd.c kvm_gmem_invalidate_start: every VM that has the file bound is told",
    v5="memfile_notifier.c memfile_notifier_invalidate: all consumers are told",
    shmem_uffd="mmu_notifier.h mmu_notifier_invalidate_range_start: KVM is told of the mapping's changes",
    pkvm="pkvm.rst: there are no MMU notifiers",
)
def notify_begin(policy: Policy, page: Page) -> Step:
    """The store tells its consumers that the page is about to change."""
    if not policy.has("notifies"):
        return done(page)
    if page.notify == MAX_INVALIDATIONS:
        return refused(page, Outcome.HOST_RETRY)
    return done(page, Event.NOTIFICATIONS, notify=page.notify + 1 if policy.has("mmu-lock") else 1)


@rule(Op.NOTIFY_END, "guest_memfd.c kvm_gmem_invalidate_end", pkvm="pkvm.rst: there are no MMU notifiers")
def notify_end(policy: Policy, page: Page) -> Step:
    """It has changed: KVM may map it again."""
    return done(page, notify=max(0, page.notify - 1) if policy.has("mmu-lock") else 0)


@rule(
    Op.ALLOCATE,
    "guest_memfd.c kvm_gmem_allocate: fallocate",
    v5="patch series v5: allocated = private",
    shmem_uffd_pkvm="shmem.c shmem_fallocate",
    secret="secretmem.c secretmem_fault: there is no fallocate, the first touch gets the page",
)
def allocate(policy: Policy, page: Page) -> Step:
    """The file gets a zeroed page, by fallocate or at the first touch. In the series of 2022 that makes it private."""
    if page.home is not Home.HOLE:
        return done(page)
    if not policy.has("punch-shares"):
        return done(page, Event.ALLOCATIONS, home=Home.RESIDENT)  # zeroed, as a hole is
    private = page._replace(owner=Owner.GUEST, data=Data.ZERO, beside=page.data)
    return done(leave_frame(policy, private), Event.ALLOCATIONS, home=Home.RESIDENT)


@rule(
    Op.POPULATE,
    "thread of April 2022: a payload can be loaded before binding",
    gmem_inplace="guest_memfd.c __kvm_gmem_populate: EINVAL unless the page is private; only before the guest runs",
    exclusive="thread of April 2022: exclusive references: map, copy, unmap, hand the fd to KVM",
    v5="patch series v5: an inaccessible file takes no payload",
    pkvm="pkvm.rst: pages are the host's until the guest touches them",
)
def populate(policy: Policy, page: Page) -> Step:
    """The host puts a payload into a page before the guest has anything in it."""
    if policy.has("populates"):
        fresh = page.owner is Owner.GUEST and page.data is not Data.SECRET and page.guest is View.NONE
        outcome = Outcome.DONE if fresh and not page.notify else Outcome.EINVAL
    elif policy.guard is Guard.ABSENT or (policy.has("fixed") and policy.starts is Owner.GUEST):
        outcome = Outcome.EOPNOTSUPP
    elif policy.has("fixed"):
        outcome = Outcome.DONE
    else:
        outcome = Outcome.DONE if page.owner is Owner.HOST and not page.kvm else Outcome.EPERM
    if outcome is not Outcome.DONE:
        return refused(page, outcome)
    return done(page, *fetched(page), home=Home.RESIDENT, data=Data.PUBLIC)


_HOLES: dict[str, str | tuple[str, ...]] = {
    "gmem_inplace": "guest_memfd.c kvm_gmem_punch_hole: invalidate, truncate, end; what is private stays private",
    "v5": "patch series v5: punched = shared",
    "secret": "secretmem.c secretmem_fops: has no fallocate",
    "pkvm": (
        "arm64/kvm/mmu.c pkvm_mem_abort: the guest's frame is pinned",
        "pkvm.rst: changes are not reflected in the guest: loss of coherency",
    ),
    "exclusive": "mail of 1 April 2022: no holes may be punched",
    "hybrid": "own design: a page that the guest has to itself is not taken from it",
}


@rule(Op.PUNCH, "shmem.c shmem_fallocate: FALLOC_FL_PUNCH_HOLE", **_HOLES)
def punch(policy: Policy, page: Page) -> Step:
    """A hole is punched into the file, once its consumers have let go. Who pins the frame keeps it."""
    if policy.has("anonymous"):
        return refused(page, Outcome.EBADF)
    return _hole(policy, page, at_once=False)


@rule(Op.HOST_DISCARD, "madvise.c madvise_remove: a shared writable mapping punches its file", **_HOLES)
def host_discard(policy: Policy, page: Page) -> Step:
    """madvise(MADV_REMOVE) through the window: the whole of fallocate(PUNCH_HOLE) of the file, in one call."""
    if policy.has("filtered"):
        return refused(page, Outcome.EPERM)
    if policy.has("anonymous") or policy.has("locked-mapping"):
        return refused(page, Outcome.EINVAL)
    if policy.guard is Guard.ABSENT:  # of the other memory, which the window maps
        return done(page, data=Data.ZERO) if elsewhere(policy, page) else done(page, beside=Data.ZERO)
    return _hole(policy, page, at_once=True)


def _hole(policy: Policy, page: Page, at_once: bool) -> Step:
    if not policy.has("punches"):
        return refused(page, Outcome.EOPNOTSUPP)
    if page.owner not in (*_GUESTS, Owner.HOST) or (policy.has("punch-guarded") and page.owner in PRIVATE):
        return refused(page, Outcome.EPERM)
    if moving(page) or (page.owner is Owner.LEAVING and policy.has("refs-checked")):
        return refused(page, Outcome.EAGAIN)
    if page.kvm:
        return done(page, apart=True)  # KVM's pin keeps the guest's frame, the file gets another
    if elsewhere(policy, page):
        return done(page, home=Home.HOLE, beside=Data.ZERO)  # of the frame that the guest does not see now
    if page.home is Home.HOLE:
        return done(page, owner=_of_a_hole(policy, page))
    if not at_once and policy.has("notifies") and page.guest is not View.NONE:
        return refused(page, Outcome.EBUSY)
    new = leave_frame(policy, page)._replace(
        owner=_of_a_hole(policy, page), home=Home.HOLE, data=Data.ZERO, guest=View.NONE if at_once else page.guest,
        swap_old=False, apart=False,
        host=page.host if policy.guard is Guard.STAGE2 and page.owner is Owner.LEAVING else start(policy).host,
    )  # fmt: skip
    if policy.has("punch-shares"):
        new = new._replace(data=page.beside, beside=Data.ZERO)
    entry = policy.guard is Guard.STAGE2 and new.host is Reach.LIVE and page.host is not Reach.LIVE
    events = scrubbed(policy, page) + (Event.HYP_PTE_SET,) * entry
    events += cut_off(page, guest=at_once, host=new.host is Reach.NONE)
    return Step(new, Outcome.DONE, events, reached=True)


def _of_a_hole(policy: Policy, page: Page) -> Owner:
    """Whose a punched page is: as before, unless a hole says something itself, or the page was given up."""
    if policy.has("punch-shares"):
        return Owner.SHARED
    return Owner.HOST if policy.has("punch-guarded") else page.owner


@rule(
    Op.FD_CLOSE,
    "guest_memfd.c kvm_gmem_release: guest mappings go, the inode keeps its pages",
    shmem_uffd_pkvm_secret="file_table.c __fput: a mapping keeps the file",
)
def fd_close(policy: Policy, page: Page) -> Step:
    """The VMM closes its last descriptor. The guest loses a store that KVM takes pages from; a mapping lives on, and so
    does a memslot, with the memory that shared pages are where that is another."""
    if not policy.has("gets-pfn"):
        return done(page)
    if elsewhere(policy, page):
        return done(page, closed=True)
    return done(page, *cut_off(page, guest=True), guest=View.NONE, closed=True)


@rule(
    Op.RECLAIM,
    "mem_protect.c __pkvm_host_reclaim_page_guest: private zeroed, shared not, a poisoned one is nothing to do",
    gmem_inplace="guest_memfd.c kvm_gmem_release: its pages go with the last file, zeroed when somebody gets them",
)
def reclaim(policy: Policy, page: Page) -> Step:
    """The guest is gone: nothing of it maps the page any more, and the page is as before there was a guest."""
    if page.owner not in _GUESTS:
        return refused(page, Outcome.EINVAL)
    back = start(policy)
    events = (Event.HYP_PTE_SET,) * (policy.guard is Guard.STAGE2 and page.host is not Reach.LIVE)
    events += cut_off(page, guest=True, host=back.host is Reach.NONE)
    events += entered(policy, Event.HYP_PTE_CLEAR) * (page.owner in PRIVATE)
    new = page._replace(
        owner=back.owner, guest=View.NONE, kvm=False, notify=0, host=back.host, slot=True, apart=False, closed=False,
        mapped=False, beside=Data.ZERO,
    )  # fmt: skip
    if (
        page.owner in (*PRIVATE, Owner.LEAVING)
        and page.data is not Data.ZERO
        and policy.has("scrubs")
        and present(page)
    ):
        events, new = (*events, Event.SCRUBS), new._replace(data=Data.ZERO)
    store = policy.has("gets-pfn") and policy.guard is not Guard.STAGE2  # it goes with its last file
    if page.apart or store:
        home = Home.RESIDENT if page.apart else Home.HOLE
        return done(leave_frame(policy, new), *events, home=home, data=Data.ZERO)
    if not present(page):
        return done(new, *events, home=Home.HOLE, data=Data.ZERO)
    return done(new, *events, home=Home.RESIDENT)
