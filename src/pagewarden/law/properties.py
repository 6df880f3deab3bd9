"""What must never happen, and what must be possible: predicates on one step of one page."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pagewarden.law.ops import DESTROYS, FREES, HOST_READS, HOST_WRITES, KEEPS, Op
from pagewarden.law.page import PRIVATE, Data, Home, Owner, Page, Reach, View, stale
from pagewarden.law.policy import Guard, Policy
from pagewarden.law.rules import elsewhere
from pagewarden.law.step import Outcome, Step
from pagewarden.vocab import Event

_HOLES = (Op.PUNCH, Op.HOST_DISCARD, Op.HOST_DROP)
_MOVES = (Op.MIGRATE_COMMIT, Op.SWAP_OUT)
Holds = Callable[[Policy, Page, Op, Step], bool]


class Promise(StrEnum):
    """What a property is about: a policy may promise one and not another."""

    CONFIDENTIALITY = "confidentiality"  # nobody else reads the guest's bytes
    INTEGRITY = "integrity"  # the guest takes no bytes for its own that it did not write: no corruption
    AVAILABILITY = "availability"  # the guest keeps its bytes and its life: no loss, no denial of service
    SURVIVAL = "host survival"  # the host kernel lives
    ORDER = "order"  # no translation outlives a change of hands, and nobody waits for ever
    PINS = "pins"  # no reference of the host's outlives one


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
    return page.data is not Data.ZERO and step.page.data is Data.ZERO and step.page.beside is not page.data


def _undoes(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    """The copy is older than what was written to the old frame."""
    return page.home is Home.DIRTIED


def _leaves_translation(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    if op in _MOVES:  # what translated to the page translates to a freed frame now
        return page.guest is not View.NONE or page.dma is not Reach.NONE
    if op is Op.PUNCH and page.home is not step.page.home and not elsewhere(policy, page):
        return page.guest is not View.NONE
    after = step.page
    left = after.host is not Reach.NONE or after.dma is not Reach.NONE or after.alias
    return op is not Op.PUNCH and after.owner in PRIVATE and left


def _leaves_pin(policy: Policy, page: Page, op: Op, step: Step) -> bool:
    return page.pins > 0 if op in _MOVES else step.page.owner in PRIVATE and step.page.pins > 0


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
    "scrubbed-before-reuse": _done(_unscrubbed, *FREES),
    "host-never-writes-private": _done(_writes_private, *HOST_WRITES),
    "no-write-undone": _done(_undoes, Op.MIGRATE_COMMIT),
    "swap-is-fresh": _done(_at_all, Op.SWAP_IN_TAMPERED, Op.SWAP_IN_STALE),
    "host-never-destroys-private": _done(_destroys, *DESTROYS),
    "nothing-lost": _done(_loses, *KEEPS),
    "host-never-panics": Predicate(frozenset(Op), frozenset({Outcome.PANIC}), _at_all),
    "no-stale-translation": _done(_leaves_translation, *_MOVES, Op.PUNCH, Op.UNSHARE_COMMIT, Op.HOST_MAP),
    "one-flavour": _done(_both_flavours, Op.GUEST_MAP),
    "no-pin-left": _done(_leaves_pin, *_MOVES, Op.UNSHARE_COMMIT, Op.HOST_MAP),
}
"""True for a step that breaks the property; by promise."""
DEADLOCK, PROGRESS = "no-deadlock", "progress"
OF_THE_WHOLE = (DEADLOCK, PROGRESS)
"""What no step shows, but a state and what may follow it."""
PROMISES: Mapping[str, Promise] = {
    **dict.fromkeys(("host-never-reads-private", "scrubbed-before-reuse"), Promise.CONFIDENTIALITY),
    **dict.fromkeys(("host-never-writes-private", "no-write-undone", "swap-is-fresh"), Promise.INTEGRITY),
    **dict.fromkeys(("host-never-destroys-private", "nothing-lost", PROGRESS), Promise.AVAILABILITY),
    "host-never-panics": Promise.SURVIVAL,
    **dict.fromkeys(("no-stale-translation", "one-flavour", DEADLOCK), Promise.ORDER),
    "no-pin-left": Promise.PINS,
}
"""What each property that must always hold is about."""

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
