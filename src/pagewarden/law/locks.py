"""The locks of the kernel that procedures hold, and what a fault does beside them: names that a policy may have.

A policy without them says nothing of locks: what they exclude is a single step there, or refused by the page's owner.
"""

from collections.abc import Mapping
from dataclasses import dataclass

LOCKING = {
    "invalidate-lock": "conversion and hole punching hold the file's filemap_invalidate_lock",
    "mmu-lock": "KVM zaps and maps under mmu_lock, and counts the invalidations that are under way",
    "sequence-compared": "under mmu_lock a fault compares the number of invalidations with what it was before its "
    "look-up, and is tried again if there was one",
    "gup-fast": "GUP takes a page as long as an entry is there, whatever lock is held",
    "component-locks": "pKVM's host and guest locks are held while a page changes hands",
    "locks-ordered": "every path takes the host's component lock before the guest's",
    "notifier-locks": "what is told of a change takes the file's filemap_invalidate_lock by itself",
    "faults-under-lock": "while it maps, KVM touches the page by its user address, and that fault takes mmu_lock",
    "refusal-ends": "a change that was announced and then refused ends its invalidation, too",
}
"""Locks, and what is done under them and beside them."""


@dataclass(frozen=True)
class KernelLock:
    """mechanism: with which procedures hold it. sources: kernel functions that take it."""

    mechanism: str
    sources: tuple[str, ...]


LOCKS: Mapping[str, KernelLock] = {
    "filemap_invalidate_lock": KernelLock(
        "invalidate-lock",
        (
            "guest_memfd.c kvm_gmem_punch_hole",
            "in-place conversion series: __kvm_gmem_set_attributes: takes filemap_invalidate_lock",
        ),
    ),
    "mmu_lock": KernelLock(
        "mmu-lock", ("guest_memfd.c __kvm_gmem_invalidate_start", "x86/kvm/mmu/mmu.c is_page_fault_stale")
    ),
    "host component": KernelLock("component-locks", ("mem_protect.c __pkvm_guest_share_host",)),
    "guest component": KernelLock("component-locks", ("mem_protect.c __pkvm_guest_share_host",)),
}
"""In the order in which they nest, the outer one first."""
