"""What must never happen, and what must be possible: predicates on one step of one page."""

from collections.abc import Callable

from pagewarden.law.ops import FREES, HOST_READS, HOST_WRITES, KEEPS, Op
from pagewarden.law.page import PRIVATE, Data, Home, Owner, Page, Reach, View, stale
from pagewarden.law.policy import Policy
from pagewarden.law.step import Outcome, Step
from pagewarden.vocab import Event

Predicate = Callable[[Policy, Page, Op, Step], bool]


def _reads_private(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    return step.reached and op in HOST_READS and page.owner in PRIVATE


def _writes_private(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    return step.reached and op in HOST_WRITES and page.owner in PRIVATE


def _panics(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    return step.outcome is Outcome.PANIC


def _loses(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    if op is Op.MIGRATE_COMMIT and page.home is Home.DIRTIED:
        return step.outcome is Outcome.DONE
    return op in KEEPS and page.data is not Data.ZERO and step.page.data is Data.ZERO


def held(page: Page) -> bool:
    """Something of the host's still translates to, or holds, the page."""
    return page.host is not Reach.NONE or page.dma is not Reach.NONE or page.pins > 0 or page.alias


def _leaves_translation(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    if step.outcome is not Outcome.DONE:
        return False
    if op in (Op.MIGRATE_COMMIT, Op.SWAP_OUT):  # what translated to the page translates to a freed frame now
        return page.guest is not View.NONE or page.pins > 0 or page.dma is not Reach.NONE
    if op is Op.PUNCH and page.home is not Home.HOLE:
        return page.guest is not View.NONE
    return op in (Op.UNSHARE_COMMIT, Op.HOST_MAP) and step.page.owner in PRIVATE and held(step.page)


def _both_flavours(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    if op is not Op.GUEST_MAP or step.outcome is not Outcome.DONE:
        return False
    return page.guest not in (View.NONE, step.page.guest, stale(step.page.guest))


def _unscrubbed(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    if op not in FREES or step.outcome is not Outcome.DONE or page.data is not Data.SECRET or page.home is Home.SWAPPED:
        return False
    left = op in (Op.MIGRATE_COMMIT, Op.SWAP_OUT) or step.page.data is Data.ZERO or step.page.owner is Owner.HOST
    return left and Event.SCRUBS not in step.events


def _takes_bad_copy(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    return op in (Op.SWAP_IN_TAMPERED, Op.SWAP_IN_STALE) and step.outcome is Outcome.DONE


def _refused_pinned(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    return op is Op.UNSHARE_BEGIN and page.pins > 0 and step.outcome is Outcome.EAGAIN


def _completes(op: Op) -> Predicate:
    return lambda policy, page, this, step: this is op and step.outcome is Outcome.DONE


ALWAYS: dict[str, Predicate] = {
    "host-never-reads-private": _reads_private,
    "host-never-writes-private": _writes_private,
    "host-never-panics": _panics,
    "nothing-lost": _loses,
    "no-stale-translation": _leaves_translation,
    "one-flavour": _both_flavours,
    "scrubbed-before-reuse": _unscrubbed,
    "swap-is-fresh": _takes_bad_copy,
}
"""True for a step that breaks the property."""

SOMETIMES: dict[str, Predicate] = {
    "share-succeeds": _completes(Op.HOST_MAP),
    "unshare-succeeds": _completes(Op.UNSHARE_COMMIT),
    "unshare-refused-while-pinned": _refused_pinned,
    "swap-round-trips": _completes(Op.SWAP_IN),
    "migration-completes": _completes(Op.MIGRATE_COMMIT),
}
"""True for a step that shows the property; io-completes is a procedure's, not a page's."""
