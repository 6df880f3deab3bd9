"""The kernel objects behind a guest's memory, each as the mechanisms that it has: what it does, whoever uses it."""

from pagewarden.law.policy import Guard, Policy

_CAREFUL = frozenset({"state-checked", "tlb-flushed", "moves-checked"})
"""What every kernel below does: check first, flush after, move only what nobody holds."""
_FILE_ENFORCES = frozenset({"file-guards", "discard-guarded"})
"""The file or stage 2 itself decides, so that no further mapping helps the host."""
_KERNEL_SWAP = frozenset({"migrates", "swaps", "swap-sealed", "swap-fresh"})
"""Ordinary shmem: the host kernel moves and swaps, host user space reaches neither copy."""
_MEMFD = _CAREFUL | _KERNEL_SWAP | {"in-place", "file-io", "gets-pfn", "punches", "notifies"}
_GUEST_MEMFD = _CAREFUL | {
    "file-guards", "notifies", "gets-pfn", "two-flavours", "demand", "scrubs", "punches"
}  # fmt: skip
"""madvise(MADV_REMOVE) of a mapping punches the file, private pages included (seen on Linux 6.18)."""
_PKVM = _CAREFUL | _FILE_ENFORCES | {"injects", "in-place", "scrubs"}
"""No DMA isolation: Documentation/virt/kvm/arm/pkvm.rst says unimplemented, and on Linux 7.3.4 O_DIRECT to a disk
wrote a protected guest's private bytes."""

_ALL = [
    Policy(
        "memfd", Guard.NONE, _MEMFD,
        stands_for="ordinary shared memory: no protection, the baseline",
    ),
    Policy(
        "patch-v5", Guard.ABSENT, _CAREFUL | _FILE_ENFORCES | {"notifies", "gets-pfn", "two-flavours", "punches"},
        stands_for="the series of 2022: inaccessible fd, allocated = private, punched = shared",
    ),
    Policy(
        "memfd-secret", Guard.NONE, _CAREFUL | {"gup-blocked", "in-place", "scrubs", "discard-guarded"},
        fault="SIGSEGV",
        stands_for="memfd_secret: out of the direct map, no GUP, no notifier to KVM; open to whoever maps it",
    ),
    Policy(
        "guest-memfd", Guard.STAGE1, _GUEST_MEMFD,
        stands_for="upstream guest_memfd: whole file private or shared, no in-place conversion",
    ),
    Policy(
        "guest-memfd-inplace", Guard.STAGE1, _GUEST_MEMFD | {"in-place", "refs-checked"},
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
        "uffd-window", Guard.STAGE1, _MEMFD,
        stands_for="memfd mapped twice, the host's view guarded by userfaultfd: MINOR faults, and zapped entries",
    ),
    Policy(
        "uffd-rwp", Guard.STAGE1, _MEMFD | {"protnone"},
        stands_for="the same, the host's view write- and read-protected by userfaultfd (RWP, Linux 7.3)",
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
"""The objects by name (design table; capabilities: LKML v5 00/13 thread and the kernel files that the rules cite)."""
