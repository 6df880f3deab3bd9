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
    "mmap-lock": "a fault of the host's window holds mmap_lock, and takes filemap_invalidate_lock, shared, below it; "
    "who loads a payload gets at its source page under mmap_lock",
    "gup-under-lock": "a payload's source page is looked up while the file's filemap_invalidate_lock is held",
    "component-locks": "pKVM's host, hyp and guest locks are held while a page changes hands",
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
    "mmap_lock": KernelLock(
        "mmap-lock",
        ("fault.c do_page_fault", "guest_memfd.c __kvm_gmem_populate: the source by GUP"),
    ),
    "filemap_invalidate_lock": KernelLock(
        "invalidate-lock",
        (
            "guest_memfd.c kvm_gmem_punch_hole",
            "in-place conversion series: __kvm_gmem_set_attributes: takes filemap_invalidate_lock",
            "guest_memfd.c kvm_gmem_fault_user_mapping: shared, in that series",
        ),
    ),
    "mmu_lock": KernelLock(
        "mmu-lock", ("guest_memfd.c __kvm_gmem_invalidate_start", "x86/kvm/mmu/mmu.c is_page_fault_stale")
    ),
    "host component": KernelLock("component-locks", ("mem_protect.c __pkvm_guest_share_host",)),
    "hyp component": KernelLock(
        "component-locks", ("mem_protect.c __pkvm_host_share_hyp", "mem_protect.c __pkvm_host_unshare_hyp")
    ),
    "guest component": KernelLock("component-locks", ("mem_protect.c __pkvm_guest_share_host",)),
}
"""In the order in which they nest, the outer one first.

mmap_lock is taken alone here, though a fault reads it: a reader waits behind a writer that waits
(kernel/locking/rwsem.c), so that two readers may block one another."""
