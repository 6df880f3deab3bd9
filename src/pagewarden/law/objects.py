"""The kernel objects behind a guest's memory, each as the mechanisms that it has: what it does, whoever uses it."""

from pagewarden.law.page import Owner
from pagewarden.law.policy import Guard, Policy

X86 = ("6.1.0", "6.12.117", "6.18", "7.3.4")
"""Kernels in which `pagewarden probe` tried every way on every backing that they have."""
ARM64 = ("7.3.4 (arm64, kvm-arm.mode=protected)",)
"""The kernel whose pKVM was asked, page by page."""
ATTRIBUTES = ("7.3.4 (KVM_SW_PROTECTED_VM)",)
"""The kernel whose KVM was built again with that, and asked act by act (tests/lab/recorded/attributes)."""

_CAREFUL = frozenset({"state-checked", "tlb-flushed", "moves-checked"})
"""What every kernel below does: check first, flush after, move only what nobody holds."""
_KERNEL_SWAP = frozenset({"migrates", "swaps", "swap-sealed", "swap-fresh", "zeroes-new"})
"""Ordinary memory: the host kernel moves and swaps, host user space reaches neither copy; frames are zeroed when
somebody gets them."""
_MEMFD = _CAREFUL | _KERNEL_SWAP | {"in-place", "file-io", "punches", "notifies"}
_STORE = _CAREFUL | {"notifies", "gets-pfn", "two-flavours", "punches", "zeroes-new"}
"""Files that KVM takes pages from."""
_PKVM = _CAREFUL | {"injects", "in-place", "scrubs", "long-term-pin"}
"""No DMA isolation: Documentation/virt/kvm/arm/pkvm.rst says unimplemented, and on Linux 7.3.4 O_DIRECT to a disk wrote
a protected guest's private bytes."""
_UPSTREAM = _PKVM | {"force-reclaim", "file-io", "punches"}
"""Over a memfd, which knows of no guest; with `anonymous`, over anonymous memory."""
_EXCLUSIVE = _CAREFUL | {
    "injects", "in-place", "scrubs", "gets-pfn", "exclusive", "vmm-converts", "file-io", "refs-checked",
}  # fmt: skip

_ALL = [
    Policy(
        "memfd", Guard.NONE, _MEMFD, family="shmem", asked=X86,
        stands_for="ordinary shared memory: no protection, the baseline",
    ),
    Policy(
        "anonymous", Guard.NONE, (_MEMFD | {"anonymous"}) - {"file-io", "punches"}, fault="SIGSEGV", family="shmem",
        stands_for="ordinary private memory, without a file",
    ),
    Policy(
        "memfd-secret", Guard.NONE, _CAREFUL | {"gup-blocked", "no-direct-map", "in-place", "scrubs"},
        fault="SIGSEGV", family="secret", asked=X86,
        stands_for="memfd_secret: out of the direct map, no GUP, no notifier to KVM; open to whoever maps it",
    ),
    Policy(
        "patch-v5", Guard.ABSENT, _STORE | {"punch-shares", "vmm-converts"}, starts=Owner.SHARED, family="v5",
        stands_for="the series of 2022: inaccessible fd, allocated = private, punched = shared",
    ),
    Policy(
        "guest-memfd", Guard.ABSENT, _STORE | {"keeps-both", "idempotent", "vmm-converts", "populates"},
        starts=Owner.SHARED, family="gmem", asked=ATTRIBUTES,
        stands_for="guest_memfd beside other memory, private or shared by per-page attributes (SNP, TDX, SW_PROTECTED)",
    ),
    Policy(
        "guest-memfd-private", Guard.STAGE1, _STORE | {"fixed", "file-guards", "idempotent"}, starts=Owner.GUEST,
        family="gmem", asked=X86[2:], stands_for="a guest_memfd that is private as a whole: no page converts",
    ),
    Policy(
        "guest-memfd-shared", Guard.STAGE1, _STORE | {"fixed", "file-guards", "idempotent", "demand"},
        starts=Owner.SHARED, family="gmem", asked=X86[2:],
        stands_for="a guest_memfd with INIT_SHARED: shared as a whole, no page converts",
    ),
    Policy(
        "guest-memfd-inplace", Guard.STAGE1,
        _STORE | {"file-guards", "demand", "in-place", "refs-checked", "unmaps-first", "idempotent", "vmm-converts",
                  "populates"},
        starts=Owner.GUEST, family="inplace",
        stands_for="the conversion series: shareability by page, EAGAIN while references remain",
    ),
    Policy(
        "exclusive-mmap", Guard.STAGE2, _EXCLUSIVE, fault="SIGSEGV", family="exclusive",
        stands_for="exclusive references, the proposal of 5 April 2022: mapping a page takes one",
    ),
    Policy(
        "exclusive-mprotect", Guard.STAGE2, _EXCLUSIVE | {"keeps-mapping"}, fault="SIGSEGV", family="exclusive",
        stands_for="the same with the fd mapped once: permission takes a reference, PROT_NONE has none",
    ),
    Policy(
        "pkvm-2022", Guard.STAGE2, _PKVM, fault="SIGSEGV", family="pkvm",
        stands_for="pKVM as in the mail: GUP possible, a kernel access without a fix-up kills the host",
    ),
    Policy(
        "pkvm", Guard.STAGE2, _UPSTREAM, fault="SIGSEGV", family="pkvm", asked=ARM64,
        stands_for="pKVM upstream: the host force-reclaims and goes on, the guest's next touch ends it; no IOMMU",
    ),
    Policy(
        "pkvm-iommu", Guard.STAGE2, _UPSTREAM | {"iommu-guarded"}, fault="SIGSEGV", family="pkvm",
        stands_for="the same with the IOMMU in the hypervisor's hands, as Android's kernels have it",
    ),
    Policy(
        "uffd-window", Guard.STAGE1, _MEMFD | {"second-mapping"}, family="uffd", asked=X86,
        stands_for="memfd mapped twice, the host's view guarded by userfaultfd: MINOR faults, and zapped entries",
    ),
    Policy(
        "uffd-rwp", Guard.STAGE1, _MEMFD | {"second-mapping", "protnone"}, family="uffd", asked=X86[3:],
        stands_for="the same, the host's view read- and write-protected by userfaultfd (RWP, Linux 7.3)",
    ),
    Policy(
        "hybrid", Guard.STAGE2,
        (_CAREFUL | _KERNEL_SWAP | {"gup-blocked", "injects", "in-place", "refs-checked", "iommu-guarded", "notifies",
         "gets-pfn", "file-io", "file-checks", "scrubs", "punches", "punch-guarded"}) - {"zeroes-new"},
        fault="SIGSEGV", family="hybrid",
        stands_for="what the mail asks for: no GUP, two-way notifiers, in place, migration and swap",
    ),
]  # fmt: skip

POLICIES = {policy.name: policy for policy in _ALL}
"""The objects by name (design table; capabilities: LKML v5 00/13 thread and the kernel files that the rules cite)."""
