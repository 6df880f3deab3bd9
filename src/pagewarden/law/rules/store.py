"""The backing store: the fd's calls, its notifier, and the end of a guest."""

from typing import Any

from pagewarden.law.ops import Op
from pagewarden.law.page import PRIVATE, Data, Home, Owner, Page, Reach, View
from pagewarden.law.policy import Guard, Policy
from pagewarden.law.rules import cut_off, fetched, leave_frame, moving, present, rule, scrubbed, start
from pagewarden.law.step import Outcome, Step, done, refused
from pagewarden.vocab import Event

_GUESTS = PRIVATE | {Owner.SHARED, Owner.LEAVING, Owner.POISON}


@rule(Op.NOTIFY_BEGIN, "memfile_notifier.c memfile_notifier_invalidate", "guest_memfd.c kvm_gmem_invalidate_begin")
def notify_begin(policy: Policy, page: Page) -> Step:
    """The store tells its consumers that the page is about to change."""
    return done(page, Event.NOTIFICATIONS, notify=True) if policy.has("notifies") else done(page)


@rule(Op.NOTIFY_END, "guest_memfd.c kvm_gmem_invalidate_end")
def notify_end(policy: Policy, page: Page) -> Step:
    """It has changed: KVM may map it again."""
    return done(page, notify=False)


@rule(Op.ALLOCATE, "guest_memfd.c kvm_gmem_allocate", "patch series v5: allocated = private")
def allocate(policy: Policy, page: Page) -> Step:
    """fallocate: the file gets a zeroed page."""
    if page.home is not Home.HOLE:
        return done(page)
    return done(page, Event.ALLOCATIONS, home=Home.RESIDENT, data=Data.ZERO)


@rule(Op.POPULATE, "thread of April 2022: a payload can be loaded before binding", "guest_memfd.c __kvm_gmem_populate")
def populate(policy: Policy, page: Page) -> Step:
    """The host puts a payload into a page that the guest does not have yet."""
    if policy.guard is Guard.ABSENT:
        return refused(page, Outcome.EOPNOTSUPP)
    if page.owner is not Owner.HOST:
        return refused(page, Outcome.EPERM)
    return done(page, *fetched(page), home=Home.RESIDENT, data=Data.PUBLIC)


@rule(
    Op.PUNCH,
    "guest_memfd.c kvm_gmem_punch_hole: invalidate, truncate, end",
    "mail of 1 April 2022: pKVM allows no holes",
)
def punch(policy: Policy, page: Page) -> Step:
    """fallocate(PUNCH_HOLE): the page goes back to the host. A pin keeps the old frame as a separate object."""
    if not policy.has("punches"):
        return refused(page, Outcome.EOPNOTSUPP)
    if page.owner not in (*_GUESTS, Owner.HOST):
        return refused(page, Outcome.EPERM)
    if moving(page) or page.owner is Owner.LEAVING:
        return refused(page, Outcome.EBUSY)
    if policy.has("notifies") and (page.guest is not View.NONE or page.kvm):
        return refused(page, Outcome.EBUSY)
    new = leave_frame(policy, page)._replace(
        owner=Owner.HOST, home=Home.HOLE, data=Data.ZERO, host=start(policy).host, swap_old=False
    )
    entry = policy.guard is Guard.STAGE2 and page.host is not Reach.LIVE
    events = scrubbed(policy, page) + (Event.HYP_PTE_SET,) * entry + cut_off(page, host=new.host is Reach.NONE)
    return Step(new, Outcome.DONE, events)


@rule(
    Op.RECLAIM,
    "mem_protect.c __pkvm_host_reclaim_page_guest: private zeroed, shared not, a poisoned one is nothing to do",
)
def reclaim(policy: Policy, page: Page) -> Step:
    """The guest is gone: nothing of it maps the page any more, and the page is the host's again."""
    if page.owner not in _GUESTS:
        return refused(page, Outcome.EINVAL)
    back = start(policy).host
    changes: dict[str, Any] = {
        "owner": Owner.HOST, "guest": View.NONE, "kvm": False, "notify": False, "host": back,
        "home": Home.RESIDENT if present(page) else Home.HOLE,
    }  # fmt: skip
    entry = policy.guard is Guard.STAGE2 and page.host is not Reach.LIVE
    events: tuple[Event, ...] = (Event.HYP_PTE_SET,) * entry
    events += cut_off(page, guest=True, host=back is Reach.NONE)
    if page.home is Home.SWAPPED:
        changes["data"] = Data.ZERO  # the sealed copy is of no use to anybody
    elif page.owner in (*PRIVATE, Owner.LEAVING) and page.data is not Data.ZERO and policy.has("scrubs"):
        events += (Event.SCRUBS,)
        changes["data"] = Data.ZERO
    return done(page, *events, **changes)
