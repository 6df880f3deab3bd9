"""Refusals in plain words, for who asks why a design does not work and has read no rule."""

from pagewarden.law.ops import Op
from pagewarden.law.policy import Policy
from pagewarden.law.rules import RULES, SOURCES
from pagewarden.law.step import Outcome

_WHOLE = "this file is private or shared as a whole, and no page of it converts"
PLAIN = {
    (Op.FD_GET, Outcome.EINVAL): "the file of this memory has no read, write or splice",
    (Op.FD_GET, Outcome.EBADF): "there is no file to read, write or splice",
    (Op.HOST_MMAP, Outcome.EBADF): "there is no file to map",
    (Op.KVM_GET, Outcome.EFAULT): "KVM gets no page there, so the guest cannot run on this memory",
    (Op.SHARE, Outcome.EOPNOTSUPP): _WHOLE,
    (Op.UNSHARE_BEGIN, Outcome.EOPNOTSUPP): _WHOLE,
    (Op.OFFER, Outcome.EPERM): "the guest can offer a private page only, and this one is not",
}
"""What stops a design, where the rule's own first sentence does not say it."""


def says(op: Op) -> str:
    """What the rule of an operation says, in whole sentences."""
    return " ".join((RULES[op].__doc__ or "").split())


def sources_of(op: Op, policy: Policy | None = None) -> tuple[str, ...]:
    """What the rule of an operation rests on: for one policy, that which speaks of its family of objects first."""
    known = SOURCES[op]
    if policy is None:
        return tuple(dict.fromkeys(source for those in known.values() for source in those))
    return (*known.get(policy.family, ()), *known[""])


def reason(op: Op, policy: Policy | None = None, outcome: Outcome = Outcome.DONE) -> str:
    """Why an operation ends so: plain words, or what its rule says first; and its sources, in a line."""
    why = PLAIN.get((op, outcome)) or says(op).partition(". ")[0].rstrip(".")
    return f"{why}. [{'; '.join(sources_of(op, policy))}]"
