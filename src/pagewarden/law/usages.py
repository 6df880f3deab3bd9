"""Usages: named sets of measures that a program or a machine adds to an object, and what the backings of this package
come to."""

from dataclasses import dataclass, replace

from pagewarden.law.objects import POLICIES
from pagewarden.law.policy import Policy
from pagewarden.vocab import one_of


@dataclass(frozen=True)
class Usage:
    """measures: names of `MEASURES`; asked: the only kernels in which it was tried, of those that the object was."""

    name: str
    measures: frozenset[str]
    stands_for: str
    asked: tuple[str, ...] | None = None

    def has(self, name: str) -> bool:
        return name in self.measures


USAGES = {
    usage.name: usage
    for usage in (
        Usage(
            "cooperating", frozenset({"dontfork", "minor-too"}),
            "the host's view in the warden's own process, as this package has it",
        ),
        Usage(
            "mprotect", frozenset({"mprotect", "dontfork", "second-mapping", "emulated"}),
            "private pages shut by mprotect, for a guest on an emulated CPU",
        ),
        Usage(
            "isolated", frozenset({"no-file", "filtered", "replaces", "minor-too"}),
            "the host side in a process of its own that is not trusted; unshare replaces the page", ("6.18", "7.3.4"),
        ),
        Usage("sev-snp", frozenset({"owner-table"}), "on SEV-SNP: RMPUPDATE and PVALIDATE at each conversion", ()),
        Usage("tdx", frozenset({"owner-table"}), "on TDX: SEAMCALLs and TDG.MEM.PAGE.ACCEPT at each conversion", ()),
    )
}  # fmt: skip
"""By name."""

BACKED = {
    "memfd": "memfd",
    "uffd-window": "uffd-window+cooperating",
    "uffd-rwp": "uffd-rwp+cooperating",
    "memfd-secret": "memfd-secret+mprotect",
    "guest-memfd": "guest-memfd-private+cooperating",
}
"""What each backing of `pagewarden.memory` is: an object, and how it is used."""
SHARED_FILE = {"guest-memfd": "guest-memfd-shared+cooperating"}
"""The same of a file that is shared from its creation on, where that is another object."""
ISOLATED = ("uffd-window", "uffd-rwp")
"""Those that have an untrusted host side."""


def policy_of(backing: str, isolated: bool = False, shared: bool = False) -> Policy:
    """What a live memory of that backing promises. isolated: its host side is in a process of its own; shared: it was
    made so. UserMistake."""
    name = BACKED[one_of("backing", backing, BACKED)]
    if isolated:
        return policy_named(f"{backing}+isolated")
    return policy_named(SHARED_FILE.get(backing, name) if shared else name)


def policy_named(name: str) -> Policy:
    """OBJECT or OBJECT+USAGE; UserMistake lists the names."""
    known, *usages = name.split("+")
    policy = POLICIES[one_of("policy", known, POLICIES)]
    for each in usages:
        usage = USAGES[one_of("usage", each, USAGES)]
        policy = replace(
            policy, name=f"{policy.name}+{usage.name}", mechanisms=policy.mechanisms | usage.measures,
            stands_for=f"{policy.stands_for}; {usage.stands_for}",
            asked=tuple(each for each in policy.asked if usage.asked is None or each in usage.asked),
        )  # fmt: skip
    return policy


USED = {
    policy.name: policy
    for policy in (
        *(policy_of(name) for name in BACKED),
        *(policy_of(name, shared=True) for name in SHARED_FILE),
        *(policy_of(name, isolated=True) for name in ISOLATED),
    )
    if policy.name not in POLICIES
}
"""By name, what this package makes of the objects."""
EVERY = POLICIES | USED
APART = {name: policy for name, policy in EVERY.items() if name != "memfd-secret" and not name.endswith("+cooperating")}
"""Those that a matrix has a column for: a guest can run on them, and an interleaving may tell them apart."""
