"""What a policy is: a set of names. Mechanisms say what a kernel object does, measures what a program adds to it; the
rules ask for both. The objects are in `objects`, the usages in `usages`."""

from dataclasses import dataclass, replace
from enum import StrEnum

from pagewarden.vocab import one_of


class Guard(StrEnum):
    """The level at which a private page stops answering the host."""

    NONE = "none"  # nowhere
    STAGE1 = "stage-1"  # the host's own page tables: the window has no entry, or one without permission
    STAGE2 = "stage-2"  # the hypervisor's tables: the mapping stays, every access of the host is checked
    ABSENT = "absent"  # the fd cannot be mapped; shared pages are other memory, mapped all the time


MECHANISMS = {
    "gup-blocked": "get_user_pages refuses the mapping (mm/gup.c, vma_is_secretmem)",
    "injects": "a host access that the hypervisor stops comes back as a fault, not as a crash",
    "force-reclaim": "a host access without a fix-up takes the page from the guest: zeroed, poisoned",
    "in-place": "conversion keeps the bytes on the same frame",
    "refs-checked": "unshare fails while the host holds a reference",
    "state-checked": "every transition checks the state it starts from",
    "tlb-flushed": "a translation that was removed is invalidated before the page changes hands",
    "iommu-guarded": "DMA is mapped for shared pages only, and invalidated before the page changes hands",
    "notifies": "the store tells its consumers before a page goes, and waits until they have let go",
    "gets-pfn": "KVM takes pages without the host's window: from the store, or by another mapping of the file",
    "two-flavours": "the guest's private and shared views are separate entries",
    "protnone": "a private page of the window keeps its entry, without permission: a dropped one is filled anew",
    "demand": "the host's touch of a shared page maps it",
    "file-io": "pread, pwrite and splice work on shared pages",
    "scrubs": "a frame is zeroed before somebody else has it",
    "file-guards": "the file decides what any mapping of it answers, so that a further one gets past nothing",
    "discard-guarded": "the host cannot punch through its mapping",
    "punches": "holes may be punched while the guest has the page",
    "migrates": "a page can be moved to another frame",
    "swaps": "a page can be written out and read back",
    "moves-checked": "migration and swap refuse a page that somebody holds",
    "swap-sealed": "the host cannot read the swap copy, nor change it unnoticed",
    "swap-fresh": "an earlier swap copy is refused",
}
"""Every mechanism of a kernel object, and what it does."""

MEASURES = {
    "emulated": "the guest runs on an emulated CPU, which needs no reference of KVM's",
    "mprotect": "a private page of the window is shut by mprotect(PROT_NONE), which whoever holds it can undo",
    "dontfork": "the window is kept from forked children (MADV_DONTFORK)",
    "minor-too": "the window is registered for MISSING and MINOR faults as well: a dropped entry stays closed",
    "no-file": "the host side has no descriptor of the file, and no way to another mapping of it",
    "filtered": "the host side's system calls are filtered: no fork, no moved mapping, no hole through the window",
    "replaces": "unshare moves the bytes to a fresh frame; a pin keeps the old one",
}
"""Every measure that a program may add, and what it does."""

NAMES = MECHANISMS | MEASURES


@dataclass(frozen=True)
class Policy:
    """An object, and perhaps a usage of it. level: where it guards by itself; fault: the signal that a host load of a
    private page gets."""

    name: str
    level: Guard
    mechanisms: frozenset[str]
    fault: str = "SIGBUS"
    stands_for: str = ""

    def has(self, name: str) -> bool:
        return name in self.mechanisms

    @property
    def guard(self) -> Guard:
        """Where a private page stops answering the host, by itself or by what the host's program does."""
        return Guard.STAGE1 if self.level is Guard.NONE and self.has("mprotect") else self.level

    def with_(self, *names: str) -> "Policy":
        """The same with more mechanisms or measures; UserMistake for an unknown name."""
        known = _known(names)
        return self._changed(self.mechanisms.union(known), "+", known)

    def without(self, *names: str) -> "Policy":
        """The same with fewer; UserMistake for an unknown name."""
        known = _known(names)
        return self._changed(self.mechanisms.difference(known), "-", known)

    def _changed(self, mechanisms: frozenset[str], sign: str, names: tuple[str, ...]) -> "Policy":
        return replace(self, mechanisms=mechanisms, name=self.name + "".join(sign + name for name in names))


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(one_of("mechanism", name, sorted(NAMES)) for name in names)
