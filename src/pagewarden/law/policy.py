"""What a policy is: a set of names. Mechanisms say what a kernel object does, measures what a program or a machine
adds to it; the rules ask for both. The objects are in `objects`, the usages in `usages`."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

from pagewarden.law.locks import LOCKING
from pagewarden.law.page import Owner
from pagewarden.vocab import one_of


class Guard(StrEnum):
    """The level at which a private page stops answering the host."""

    NONE = "none"  # nowhere
    STAGE1 = "stage-1"  # the host's own page tables: the window has no entry, or one without permission
    STAGE2 = "stage-2"  # the hypervisor's tables: the mapping stays, every access of the host is checked
    ABSENT = "absent"  # the fd cannot be mapped; shared pages are other memory, mapped all the time


MECHANISMS = {
    "gup-blocked": "get_user_pages refuses the mapping (mm/gup.c, vma_is_secretmem)",
    "no-direct-map": "the kernel's own mapping of all memory has no entry for the page",
    "injects": "a host access that the hypervisor stops comes back as a fault, not as a crash",
    "force-reclaim": "a host access without a fix-up takes the page from the guest: zeroed, poisoned",
    "long-term-pin": "KVM pins what the guest has until the VM ends, and no notifier tells it of changes",
    "exclusive": "KVM or user space holds a reference on a page, never both",
    "keeps-mapping": "user space maps the whole fd once, and permission takes the reference",
    "in-place": "conversion keeps the bytes on the same frame",
    "keeps-both": "private and shared memory are two frames, and each keeps its bytes while the other is in use",
    "fixed": "the file is private or shared as a whole: no page converts",
    "idempotent": "asking for the state that a page has is done, and changes nothing; a page need not be there",
    "vmm-converts": "a conversion leaves to the VMM, which calls the kernel for it",
    "refs-checked": "unshare fails while the host holds a reference",
    "unmaps-first": "unshare takes the host's entry away before it looks for references, and then the guest's",
    "state-checked": "every transition checks the state it starts from",
    "tlb-flushed": "a translation that was removed is invalidated before the page changes hands",
    "iommu-guarded": "DMA is mapped for shared pages only, and invalidated before the page changes hands",
    "notifies": "the store tells its consumers before a page goes, and waits until they have let go",
    "gets-pfn": "KVM takes pages from the store, without a host mapping",
    "two-flavours": "the guest's private and shared views are separate entries",
    "demand": "the host's touch of a shared page maps it",
    "protnone": "a private page of the window keeps its entry, without permission: a dropped one is filled anew",
    "file-io": "pread, pwrite and splice work on the file",
    "file-checks": "the file's own reads and writes refuse what is private",
    "file-guards": "the file decides what any mapping of it answers, so that a further one gets past nothing",
    "populates": "KVM copies a payload into a private page before the guest runs",
    "scrubs": "a frame is zeroed when it goes, before somebody else has it",
    "zeroes-new": "a frame is zeroed when somebody gets it, not when it goes",
    "punches": "holes may be punched into the file",
    "punch-shares": "allocated is private, punched is shared",
    "punch-guarded": "a hole is punched only where the page is not private, and gives it back to the host",
    "migrates": "a page can be moved to another frame",
    "swaps": "a page can be written out and read back",
    "moves-checked": "migration and swap refuse a page that somebody holds",
    "swap-sealed": "the host cannot read the swap copy, nor change it unnoticed",
    "swap-fresh": "an earlier swap copy is refused",
    "anonymous": "there is no file: fork copies what is pinned, MADV_DONTNEED drops the page",
    "locked-mapping": "the mapping is locked: MADV_DONTNEED and MADV_REMOVE are EINVAL (memfd_secret up to Linux 6.18)",
}
"""Every mechanism of a kernel object, and what it does. One that only some versions have names them."""

MEASURES = {
    "emulated": "the guest runs on an emulated CPU, which needs no reference of KVM's",
    "second-mapping": "the warden and KVM have a mapping of their own, which the guard does not cover",
    "mprotect": "a private page of the window is shut by mprotect(PROT_NONE), which whoever holds it can undo",
    "dontfork": "the window is kept from forked children (MADV_DONTFORK)",
    "minor-too": "the window is registered for MISSING and MINOR faults as well: a dropped entry stays closed",
    "no-file": "the host side can open nothing: no descriptor of the file, no /proc",
    "filtered": "the host side's system calls are filtered: no fork, no moved mapping, no hole through the window",
    "replaces": "unshare moves the bytes to a fresh frame, with protnone what may be pinned; a pin keeps the old one",
    "owner-table": "the CPU keeps a table of owners (SNP: RMP; TDX: secure EPT), which each conversion changes",
}
"""Every measure that a program, or the machine, may add, and what it does."""

NAMES = MECHANISMS | MEASURES | LOCKING


@dataclass(frozen=True)
class Policy:
    """An object, and perhaps a usage of it. level: where it guards by itself; fault: the signal that a host load of a
    private page gets; starts: whose a page is that nobody has touched; family: which sources speak of it; asked: the
    kernels that were asked, empty where the rules are argued from their sources."""

    name: str
    level: Guard
    mechanisms: frozenset[str]
    fault: str = "SIGBUS"
    stands_for: str = ""
    starts: Owner = Owner.HOST
    family: str = ""
    asked: tuple[str, ...] = ()

    def has(self, name: str) -> bool:
        return name in self.mechanisms

    @property
    def guard(self) -> Guard:
        """Where a private page stops answering the host, by itself or by what the host's program does."""
        return Guard.STAGE1 if self.level is Guard.NONE and self.has("mprotect") else self.level

    @property
    def trusted(self) -> str:
        """Who has to be for a promise to hold: whoever could undo the guard."""
        if self.guard is Guard.STAGE2:
            return "hypervisor"
        if self.guard is Guard.NONE:
            return "whole host"
        return "host kernel" if self.guard is Guard.ABSENT or self.has("file-guards") else "kernel, warden"

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


@dataclass(frozen=True)
class Watched(Policy):
    """A policy that remembers which mechanisms it was asked for, in their order."""

    consulted: dict[str, bool] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, policy: Policy, mechanisms: frozenset[str] | None = None) -> Self:
        """A policy, or one like it with these mechanisms."""
        names = policy.mechanisms if mechanisms is None else mechanisms
        return cls(policy.name, policy.level, names, policy.fault, starts=policy.starts)

    def has(self, mechanism: str) -> bool:
        return self.consulted.setdefault(mechanism, super().has(mechanism))
