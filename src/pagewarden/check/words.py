"""The end of a counterexample in words: what went wrong, and which mechanism was missing at which step."""

from collections.abc import Iterator
from dataclasses import dataclass

from pagewarden.check.minimal import works
from pagewarden.check.replay import Told
from pagewarden.designs import Design
from pagewarden.law import Data, Op, Owner, Page, Policy, Reach, View, apply
from pagewarden.law.policy import NAMES, Watched
from pagewarden.law.properties import ALWAYS, DEADLOCK, PROGRESS

_WRONG = {
    "host-never-reads-private": "a leak: the host has read {bytes} while the page is private",
    "scrubbed-before-reuse": "a leak: a frame with the guest's bytes may be somebody else's now",
    "host-never-writes-private": "corruption: the host has written to a private page; the guest takes it for its own",
    "no-write-undone": "corruption: the new frame has an older copy, and what was written since is undone",
    "swap-is-fresh": "corruption: the guest goes on with a swap copy that is not what it wrote last",
    "host-never-destroys-private": "loss: {loss}",
    "nothing-lost": "loss: the page has been moved or converted, and the guest's bytes are gone",
    "host-never-panics": "denial of service: the host kernel dies, and every guest with it",
    "no-stale-translation": "a translation outlives the change of hands: {left} leads to the page still",
    "one-flavour": "the guest has the page as private and as shared at once",
    "no-pin-left": "the host still holds a reference on a page that has changed hands",
    DEADLOCK: "nobody can go on: everybody who is at work waits for a lock that is not given back",
    PROGRESS: "denial of service: the guest tries, everybody else lets go, and what it waits for never comes",
}


@dataclass(frozen=True)
class Missing:
    """Names of the law that the policy does not have: with the first, a step of the path (from 1) ends otherwise."""

    names: tuple[str, ...]
    step: int
    what: str


def wrong(name: str, last: Told) -> str:
    """What the last step of a path to a failure of the property does."""
    before, after = last.before, last.step.page
    whose = "the guest's bytes" if before.data is Data.SECRET else "a page without bytes of the guest's"
    loss = "the guest's bytes are gone, and zeroes stand in their place"
    if after.owner is Owner.POISON:
        loss = "denial of service: the page is taken from the guest, and its next touch ends it"
    return _WRONG[name].format(bytes=whose, loss=loss, left=_left(last.move.op, before, after))


def _left(op: Op | None, before: Page, after: Page) -> str:
    if op is None or op in (Op.MIGRATE_COMMIT, Op.SWAP_OUT, Op.PUNCH):
        device = op is not None and before.guest is View.NONE
        return "the IOMMU's entry" if device else "the guest's entry"
    if after.host is not Reach.NONE:
        return "the host's entry" if after.host is Reach.LIVE else "the host's entry in a TLB"
    if after.dma is not Reach.NONE:
        return "the IOMMU's entry" if after.dma is Reach.LIVE else "the IOMMU's entry in its IOTLB"
    return "a second mapping of the host's"


def missing(name: str, policy: Policy, design: Design, told: list[Told]) -> list[Missing]:
    """What would have ended the path: the names with which a step of the stranger's (or, without one, anybody's) is
    refused, or the last one breaks nothing, and undisturbed requests still complete; those that act latest first."""
    found: dict[str, Missing] = {}
    strange = any(step.move.actor != "vcpu" for step in told)
    for number, step in reversed(list(enumerate(told, 1))):
        if strange and step.move.actor == "vcpu" and number < len(told):
            continue
        for each in _helps(name, policy, step, number == len(told)):
            if each not in found and (names := _workable(policy, design, each)):
                found[each] = Missing(names, number, NAMES[each])
    return list(found.values())


def _workable(policy: Policy, design: Design, name: str) -> tuple[str, ...]:
    """A name, by itself or with KVM not going through a mapping, with which requests complete; none: they do not."""
    for names in ((name,), (name, "gets-pfn")):
        if works(policy.with_(*names), design):
            return names
    return ()


def _helps(name: str, policy: Policy, told: Told, last: bool) -> Iterator[str]:
    op, page = told.move.op, told.before
    if told.move.stale:
        yield "sequence-compared"
    if op is None or told.step.outcome != 0:
        return
    asked = Watched.of(policy)
    apply(asked, page, op)
    if last:
        ALWAYS[name](asked, page, op, told.step)
    for each in sorted(asked.consulted):
        if not policy.has(each):
            other = policy.with_(each)
            step = apply(other, page, op)
            harmless = last and not ALWAYS[name](other, page, op, step)
            if step.outcome != told.step.outcome or harmless:
                yield each


ALIASES = {
    Op.FORK: "a forked child's mapping",
    Op.MREMAP: "a mapping that mremap moved",
    Op.REOPEN: "a further mapping of the file",
    Op.HOST_DROP: "an entry that was dropped and filled anew",
}
"""What a second mapping of the host's is, by the operation that made it."""


def alias(told: list[Told], until: Told) -> str:
    """Which mapping an alias is at a step of a path: the last one that was made on its page before."""
    made = ""
    for step in told:
        if step is until:
            break
        if step.page == until.page and step.step.page.alias and not step.before.alias and step.move.op is not None:
            made = ALIASES.get(step.move.op, f"a mapping by {step.move.op.key}")
    return made
