"""A host access that stage 2 stops, and what may come of it: a fault, the page taken from the guest, a dead host."""

from pagewarden.law.ops import Op
from pagewarden.law.page import PRIVATE, Data, Owner, Page, Reach, View
from pagewarden.law.policy import Guard, Policy
from pagewarden.law.rules import cut_off, rule
from pagewarden.law.step import Outcome, Step, done, refused
from pagewarden.vocab import Event


def host_abort(policy: Policy, page: Page, fixup: Outcome | None) -> Step:
    """The host's access stopped at stage 2; fixup is how a fault ends there, None where the kernel has none.

    Never a bug: resolved, or injected exactly once (mem_protect.c handle_host_mem_abort; mail of 6 April 2022). The
    handler takes the lock that a transition holds, so that the host tries again after it.
    """
    if page.owner in (Owner.OFFERED, Owner.SHARED, Owner.LEAVING):
        return refused(page, Outcome.HOST_RETRY, Event.FAULTS)
    if policy.has("injects") and fixup is not None:
        return refused(page, fixup, Event.FAULTS, Event.INJECTIONS)
    if policy.has("injects") and policy.has("force-reclaim") and page.owner is Owner.GUEST:
        step = force_reclaim(policy, page)
        return step._replace(events=(Event.FAULTS, Event.INJECTIONS, *step.events))
    return refused(page, Outcome.PANIC, Event.FAULTS)


@rule(
    Op.FORCE_RECLAIM,
    "mem_protect.c __pkvm_host_force_reclaim_page_guest: EAGAIN if the host may reach it, EPERM if it is not a guest's",
    pkvm="pkvm.rst: reclaimed memory is zeroed, and the guest's next touch ends KVM_RUN with EFAULT",
)
def force_reclaim(policy: Policy, page: Page) -> Step:
    """A private page is zeroed, poisoned for the guest, and the host's again."""
    if policy.guard is not Guard.STAGE2 or not policy.has("force-reclaim"):
        return refused(page, Outcome.EOPNOTSUPP)
    if page.owner is Owner.HYP:
        return refused(page, Outcome.EPERM)
    if page.owner not in PRIVATE:
        return refused(page, Outcome.EAGAIN)
    return done(
        page, Event.SCRUBS, Event.HYP_PTE_SET, *cut_off(page, guest=True),
        owner=Owner.POISON, data=Data.ZERO, host=Reach.LIVE, guest=View.NONE, kvm=False, apart=False,
    )  # fmt: skip
