"""Policies: which mechanisms a kind of backing store has. A policy is a set of names; the rules ask for them."""

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
    "replaces": "unshare moves the bytes to a fresh frame; a pin keeps the old one",
    "notifies": "the store tells its consumers before a page goes, and waits until they have let go",
    "gets-pfn": "KVM takes pages from the store, without a host mapping",
    "two-flavours": "the guest's private and shared views are separate entries",
    "emulated": "the guest runs on an emulated CPU, which needs no reference of KVM's",
    "demand": "the host's touch of a shared page maps it",
    "file-io": "pread, pwrite and splice work on shared pages",
    "scrubs": "a frame is zeroed before somebody else has it",
    "fork-guarded": "a forked child does not get past the guard",
    "mremap-guarded": "a moved mapping does not get past the guard",
    "protection-moves": "a moved mapping keeps the protection that the page had at that moment (mprotect)",
    "reopen-guarded": "the host cannot make itself another mapping that gets past the guard",
    "discard-guarded": "the host cannot punch through its mapping",
    "punches": "holes may be punched while the guest has the page",
    "migrates": "a page can be moved to another frame",
    "swaps": "a page can be written out and read back",
    "moves-checked": "migration and swap refuse a page that somebody holds",
    "swap-sealed": "the host cannot read the swap copy, nor change it unnoticed",
    "swap-fresh": "an earlier swap copy is refused",
}
"""Every mechanism and what it does."""


@dataclass(frozen=True)
class Policy:
    """A kind of backing store. fault: the signal that a host load of a private page gets."""

    name: str
    guard: Guard
    mechanisms: frozenset[str]
    fault: str = "SIGBUS"
    stands_for: str = ""

    def has(self, mechanism: str) -> bool:
        return mechanism in self.mechanisms

    def with_(self, *names: str) -> "Policy":
        """The same with more mechanisms; UserMistake for an unknown name."""
        known = _known(names)
        return self._changed(self.mechanisms.union(known), "+", known)

    def without(self, *names: str) -> "Policy":
        """The same with fewer mechanisms; UserMistake for an unknown name."""
        known = _known(names)
        return self._changed(self.mechanisms.difference(known), "-", known)

    def _changed(self, mechanisms: frozenset[str], sign: str, names: tuple[str, ...]) -> "Policy":
        return replace(self, mechanisms=mechanisms, name=self.name + "".join(sign + name for name in names))


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(one_of("mechanism", name, sorted(MECHANISMS)) for name in names)


_CAREFUL = frozenset({"state-checked", "tlb-flushed", "moves-checked"})
"""What every kernel below does: check first, flush after, move only what nobody holds."""
_FILE_ENFORCES = frozenset({"fork-guarded", "mremap-guarded", "reopen-guarded", "discard-guarded"})
"""The file or stage 2 itself decides, so that no further mapping helps the host."""
_GUEST_MEMFD = _FILE_ENFORCES - {"discard-guarded"}
"""The same, but madvise(MADV_REMOVE) of a mapping punches the file, private pages included (seen on Linux 6.18)."""
_KERNEL_SWAP = frozenset({"migrates", "swaps", "swap-sealed", "swap-fresh"})
"""Ordinary shmem: the host kernel moves and swaps, host user space reaches neither copy."""

_UFFD = _CAREFUL | _KERNEL_SWAP | {"in-place", "notifies", "gets-pfn", "file-io", "fork-guarded", "punches"}
_PKVM = _CAREFUL | _FILE_ENFORCES | {"injects", "in-place", "scrubs"}
"""No DMA isolation: Documentation/virt/kvm/arm/pkvm.rst says unimplemented, and on Linux 7.3.4 O_DIRECT to a disk
wrote a protected guest's private bytes."""

_ALL = [
    Policy(
        "memfd", Guard.NONE,
        _CAREFUL | _KERNEL_SWAP | {"in-place", "file-io", "demand", "gets-pfn", "punches", "notifies"},
        stands_for="ordinary shared memory: no protection, the baseline",
    ),
    Policy(
        "patch-v5", Guard.ABSENT, _CAREFUL | _FILE_ENFORCES | {"notifies", "gets-pfn", "two-flavours", "punches"},
        stands_for="the series of 2022: inaccessible fd, allocated = private, punched = shared",
    ),
    Policy(
        "memfd-secret", Guard.STAGE1, _CAREFUL
        | {"gup-blocked", "in-place", "scrubs", "fork-guarded", "discard-guarded", "protection-moves", "emulated"},
        fault="SIGSEGV",
        stands_for="memfd_secret behind mprotect: out of the direct map, no GUP, no notifier to KVM",
    ),
    Policy(
        "guest-memfd", Guard.STAGE1,
        _CAREFUL | _GUEST_MEMFD | {"notifies", "gets-pfn", "two-flavours", "demand", "scrubs", "punches"},
        stands_for="upstream guest_memfd: whole file private or shared, no in-place conversion",
    ),
    Policy(
        "guest-memfd-inplace", Guard.STAGE1,
        _CAREFUL | _GUEST_MEMFD
        | {"notifies", "gets-pfn", "two-flavours", "demand", "scrubs", "punches", "in-place", "refs-checked"},
        stands_for="the conversion series: shareability by page, EAGAIN while references remain",
    ),
    Policy(
        "pkvm-2022", Guard.STAGE2, _PKVM, fault="SIGSEGV",
        stands_for="pKVM as in the mail: GUP possible, a kernel access without a fix-up kills the host",
    ),
    Policy(
        "pkvm", Guard.STAGE2, _PKVM | {"force-reclaim"}, fault="SIGSEGV",
        stands_for="pKVM today: the host force-reclaims and goes on, the guest's next touch is fatal to it; no IOMMU",
    ),
    Policy(
        "pkvm-iommu", Guard.STAGE2, _PKVM | {"force-reclaim", "iommu-guarded"}, fault="SIGSEGV",
        stands_for="the same with the IOMMU in the hypervisor's hands, as Android's kernels have it (argued)",
    ),
    Policy(
        "uffd-window", Guard.STAGE1, _UFFD,
        stands_for="memfd mapped twice, the host's view guarded by userfaultfd; a cooperating host",
    ),
    Policy(
        "uffd-window-isolated", Guard.STAGE1, _UFFD | _FILE_ENFORCES | {"replaces"},
        stands_for="the same with the host side in a process of its own: no fd, and unshare replaces the page",
    ),
    Policy(
        "hybrid", Guard.STAGE2,
        _CAREFUL | _FILE_ENFORCES | _KERNEL_SWAP
        | {"gup-blocked", "injects", "in-place", "refs-checked", "iommu-guarded", "notifies", "gets-pfn", "file-io",
           "scrubs", "punches"},
        fault="SIGSEGV",
        stands_for="what the mail asks for: no GUP, two-way notifiers, in place, migration and swap",
    ),
]  # fmt: skip

POLICIES = {policy.name: policy for policy in _ALL}
"""The policies by name (design table; capabilities: LKML v5 00/13 thread and the kernel files that the rules cite)."""


def policy_of(backing: str, isolated: bool = False) -> Policy:
    """What a live memory of that backing promises, its host side in a process of its own or not; UserMistake."""
    return policy_named(f"{backing}-isolated" if isolated else backing)


def policy_named(name: str) -> Policy:
    """The policy of that name; UserMistake lists the names."""
    return POLICIES[one_of("policy", name, POLICIES)]
