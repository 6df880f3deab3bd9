"""What must never happen, and what must be possible: predicates on one step of one page."""

from collections.abc import Callable
from dataclasses import dataclass

from pagewarden.law.ops import DESTROYS, FREES, HOST_READS, HOST_WRITES, KEEPS, Op
from pagewarden.law.page import PRIVATE, Data, Home, Owner, Page, Reach, View, stale
from pagewarden.law.policy import Guard, Policy
from pagewarden.law.rules import elsewhere
from pagewarden.law.step import Outcome, Step
from pagewarden.vocab import Event

_HOLES = (Op.PUNCH, Op.HOST_DISCARD, Op.HOST_DROP)
Holds = Callable[[Policy, Page, Op, Step], bool]


@dataclass(frozen=True)
class Predicate:
    """On one step of one page: one of these operations, with one of those outcomes, of which more is asked."""

    ops: frozenset[Op]
    outcomes: frozenset[Outcome]
    holds: Holds

    def __call__(self, policy: Policy, page: Page, op: Op, step: Step) -> bool:
        return op in self.ops and step.outcome in self.outcomes and self.holds(policy, page, op, step)


def _reads_private(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    """What it took from the guest first is the host's own by then."""
    return step.reached and page.owner in PRIVATE and step.page.owner in PRIVATE


_writes_private = _reads_private


def _destroys(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    """The guest finds zeroes, or poison, where its private page was. A file that only the warden has is not the
    host's to punch."""
    if page.owner not in PRIVATE or (op is Op.PUNCH and policy.has("no-file")):
        return False
    hole = op in _HOLES and page.data not in (Data.ZERO, step.page.data, step.page.beside)
    return hole or step.page.owner is Owner.POISON


def _loses(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    if op is Op.MIGRATE_COMMIT and page.home is Home.DIRTIED:
        return True
    return page.data is not Data.ZERO and step.page.data is Data.ZERO and step.page.beside is not page.data


def held(page: Page) -> bool:
    """Something of the host's still translates to, or holds, the page."""
    return page.host is not Reach.NONE or page.dma is not Reach.NONE or page.pins > 0 or page.alias


def _leaves_translation(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    if op in (Op.MIGRATE_COMMIT, Op.SWAP_OUT):  # what translated to the page translates to a freed frame now
        return page.guest is not View.NONE or page.pins > 0 or page.dma is not Reach.NONE
    if op is Op.PUNCH and page.home is not step.page.home and not elsewhere(policy, page):
        return page.guest is not View.NONE
    return op is not Op.PUNCH and step.page.owner in PRIVATE and held(step.page)


def _both_flavours(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    return page.guest not in (View.NONE, step.page.guest, stale(step.page.guest))


def _unscrubbed(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    if page.data is not Data.SECRET or page.home is Home.SWAPPED:
        return False
    if policy.has("zeroes-new") and policy.guard is not Guard.STAGE2:
        return False  # a frame that is free is the host kernel's, which is trusted there
    left = op in (Op.MIGRATE_COMMIT, Op.SWAP_OUT) or step.page.data is Data.ZERO or step.page.owner is Owner.HOST
    return left and Event.SCRUBS not in step.events


def _pinned(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    """With exclusive references it is KVM that does not get its own."""
    tried = op is not Op.KVM_GET or (policy.has("exclusive") and page.owner is Owner.SHARED)
    return page.pins > 0 and tried


def _at_all(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    return True


def _done(holds: Holds, *ops: Op) -> Predicate:
    return Predicate(frozenset(ops), frozenset({Outcome.DONE}), holds)


ALWAYS: dict[str, Predicate] = {
    "host-never-reads-private": _done(_reads_private, *HOST_READS),
    "host-never-writes-private": _done(_writes_private, *HOST_WRITES),
    "host-never-destroys-private": _done(_destroys, *DESTROYS),
    "host-never-panics": Predicate(frozenset(Op), frozenset({Outcome.PANIC}), _at_all),
    "nothing-lost": _done(_loses, *KEEPS),
    "no-stale-translation": _done(
        _leaves_translation, Op.MIGRATE_COMMIT, Op.SWAP_OUT, Op.PUNCH, Op.UNSHARE_COMMIT, Op.HOST_MAP
    ),
    "one-flavour": _done(_both_flavours, Op.GUEST_MAP),
    "scrubbed-before-reuse": _done(_unscrubbed, *FREES),
    "swap-is-fresh": _done(_at_all, Op.SWAP_IN_TAMPERED, Op.SWAP_IN_STALE),
}
"""True for a step that breaks the property."""

SOMETIMES: dict[str, Predicate] = {
    "share-succeeds": _done(_at_all, Op.HOST_MAP),
    "unshare-succeeds": _done(_at_all, Op.UNSHARE_COMMIT),
    "unshare-refused-while-pinned": Predicate(
        frozenset({Op.UNSHARE_BEGIN, Op.UNSHARE_CHECK, Op.KVM_GET}), frozenset({Outcome.EAGAIN, Outcome.EBUSY}), _pinned
    ),
    "swap-round-trips": _done(_at_all, Op.SWAP_IN),
    "migration-completes": _done(_at_all, Op.MIGRATE_COMMIT),
}
"""True for a step that shows the property; io-completes is a procedure's, not a page's."""
