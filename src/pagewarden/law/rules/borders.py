"""pKVM's other borders: host and hypervisor, the secure world, guests that are not protected."""

from typing import Any

from pagewarden.law.ops import Op
from pagewarden.law.page import MAX_PINS, Home, Owner, Page, Reach, View
from pagewarden.law.policy import Guard, Policy
from pagewarden.law.rules import cut_off, let_go, rule
from pagewarden.law.step import Outcome, Step, done, refused
from pagewarden.vocab import Event


def _move(
    policy: Policy,
    page: Page,
    old: Owner,
    new: Owner,
    *events: Event,
    otherwise: Outcome = Outcome.EPERM,
    **changes: Any,
) -> Step:
    """Owner old -> new, all checks first (mem_protect.c takes and checks the states of both sides, then commits). Pins
    of the host are no state of either side: pKVM looks at none."""
    if policy.guard is not Guard.STAGE2:
        return refused(page, Outcome.EOPNOTSUPP)
    if page.owner is not old or page.home is not Home.RESIDENT:
        return refused(page, otherwise)
    if page.pins and policy.has("refs-checked"):
        return refused(page, Outcome.EBUSY)
    return done(page, *events, owner=new, **changes)


@rule(
    Op.SHARE_HYP,
    "mem_protect.c __pkvm_host_share_hyp",
    "mem_protect.c pkvm_ownership_selftest: what is refused from then on",
)
def share_hyp(policy: Policy, page: Page) -> Step:
    """The host lends the page to the hypervisor."""
    return _move(policy, page, Owner.HOST, Owner.HYP_SHARED)


@rule(Op.UNSHARE_HYP, "mem_protect.c __pkvm_host_unshare_hyp: EBUSY while pinned")
def unshare_hyp(policy: Policy, page: Page) -> Step:
    """The host takes it back."""
    step = _move(policy, page, Owner.HYP_SHARED, Owner.HOST)
    return refused(page, Outcome.EBUSY) if page.hyp_pins and step.outcome is Outcome.DONE else step


@rule(Op.HYP_PIN, "mem_protect.c hyp_pin_shared_mem: EPERM unless it is lent to the hypervisor")
def hyp_pin(policy: Policy, page: Page) -> Step:
    """The hypervisor pins a page that the host lends it, and maps it at the first pin."""
    step = _move(policy, page, Owner.HYP_SHARED, Owner.HYP_SHARED)
    if step.outcome is not Outcome.DONE:
        return step
    return done(page, hyp_pins=min(page.hyp_pins + 1, MAX_PINS))


@rule(Op.HYP_UNPIN, "mem_protect.c hyp_unpin_shared_mem")
def hyp_unpin(policy: Policy, page: Page) -> Step:
    """It drops a pin."""
    return done(page, hyp_pins=page.hyp_pins - 1) if page.hyp_pins else refused(page, Outcome.EINVAL)


@rule(Op.DONATE_HYP, "mem_protect.c __pkvm_host_donate_hyp")
def donate_hyp(policy: Policy, page: Page) -> Step:
    """The host gives the page to the hypervisor."""
    return _move(policy, page, Owner.HOST, Owner.HYP, Event.HYP_PTE_CLEAR, Event.TLBI, host=Reach.NONE)


@rule(Op.HYP_DONATE_HOST, "mem_protect.c __pkvm_hyp_donate_host")
def hyp_donate_host(policy: Policy, page: Page) -> Step:
    """The hypervisor gives the page to the host."""
    return _move(policy, page, Owner.HYP, Owner.HOST, Event.HYP_PTE_SET, host=Reach.LIVE)


@rule(
    Op.SHARE_FFA,
    "mem_protect.c __pkvm_host_share_ffa",
    "mem_protect.c pkvm_ownership_selftest: what is refused from then on",
)
def share_ffa(policy: Policy, page: Page) -> Step:
    """The host lends the page to the secure world."""
    return _move(policy, page, Owner.HOST, Owner.FFA)


@rule(Op.UNSHARE_FFA, "mem_protect.c __pkvm_host_unshare_ffa")
def unshare_ffa(policy: Policy, page: Page) -> Step:
    """The host takes it back."""
    return _move(policy, page, Owner.FFA, Owner.HOST)


@rule(Op.LEND_GUEST, "mem_protect.c __pkvm_host_share_guest: a guest that is not protected borrows")
def lend_guest(policy: Policy, page: Page) -> Step:
    """The host lends the page to a guest that is not protected."""
    return _move(policy, page, Owner.HOST, Owner.LENT)


@rule(Op.UNLEND_GUEST, "mem_protect.c __pkvm_host_unshare_guest: ENOENT if the guest has no mapping of it")
def unlend_guest(policy: Policy, page: Page) -> Step:
    """The host takes it back; the guest's entry goes with it."""
    events = cut_off(page, guest=True)
    step = _move(policy, page, Owner.LENT, Owner.HOST, *events, otherwise=Outcome.ENOENT, guest=View.NONE)
    return step._replace(page=let_go(policy, step.page)) if step.outcome is Outcome.DONE else step
