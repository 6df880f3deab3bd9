"""What the rules rest on: each source, what it says (sources.toml), and a page that anybody can open."""

import tomllib
from functools import cache
from pathlib import Path

VERSION = "v7.3"
"""The kernel whose source was read. Where a kernel that runs differs, a mechanism names the versions."""
_TREE = "https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/{path}?h=" + VERSION
_LORE = "https://lore.kernel.org/all/"

FILES = {
    "mem_protect.c": "arch/arm64/kvm/hyp/nvhe/mem_protect.c",
    "pgtable.c": "arch/arm64/kvm/hyp/pgtable.c",
    "arm64/kvm/mmu.c": "arch/arm64/kvm/mmu.c",
    "pkvm.c": "arch/arm64/kvm/pkvm.c",
    "fault.c": "arch/arm64/mm/fault.c",
    "pkvm.rst": "Documentation/virt/kvm/arm/pkvm.rst",
    "x86/kvm/mmu/mmu.c": "arch/x86/kvm/mmu/mmu.c",
    "x86/kvm/svm/sev.c": "arch/x86/kvm/svm/sev.c",
    "x86/kvm/vmx/tdx.c": "arch/x86/kvm/vmx/tdx.c",
    "x86/coco/sev/core.c": "arch/x86/coco/sev/core.c",
    "guest_memfd.c": "virt/kvm/guest_memfd.c",
    "kvm_main.c": "virt/kvm/kvm_main.c",
    "gup.c": "mm/gup.c",
    "mm.h": "include/linux/mm.h",
    "memory.c": "mm/memory.c",
    "madvise.c": "mm/madvise.c",
    "mremap.c": "mm/mremap.c",
    "migrate.c": "mm/migrate.c",
    "vmscan.c": "mm/vmscan.c",
    "secretmem.c": "mm/secretmem.c",
    "shmem.c": "mm/shmem.c",
    "userfaultfd.c": "mm/userfaultfd.c",
    "mmu_notifier.h": "include/linux/mmu_notifier.h",
    "kcore.c": "fs/proc/kcore.c",
    "file_table.c": "fs/file_table.c",
    "dma-iommu.c": "drivers/iommu/dma-iommu.c",
    "iommu.h": "include/linux/iommu.h",
    "guest_memfd_test.c": "tools/testing/selftests/kvm/guest_memfd_test.c",
    "memfd_secret.c": "tools/testing/selftests/mm/memfd_secret.c",
}
"""Files of the kernel, as sources name them."""

PAGES = {
    "mail of 1 April 2022": _LORE + "YkcTTY4YjQs5BRhE@google.com/",
    "mail of 5 April 2022": _LORE + "54acbba9-f4fd-48c1-9028-d596d9f63069@www.fastmail.com/",
    "mail of 6 April 2022": _LORE + "Yk2QDmvKR2ipsA29@google.com/",
    "thread of April 2022": _LORE + "20220310140911.50924-1-chao.p.peng@linux.intel.com/T/",
    "patch series v5": _LORE + "20220310140911.50924-1-chao.p.peng@linux.intel.com/",
    "memfile_notifier.c memfile_notifier_invalidate": _LORE + "20220310140911.50924-3-chao.p.peng@linux.intel.com/",
    "in-place conversion series": _LORE + "20260618-gmem-inplace-conversion-v8-0-9d2959357853@google.com/T/",
    "guest_memfd_conversions_test.c elevated_refcount": _LORE
    + "20260618-gmem-inplace-conversion-v8-39-9d2959357853@google.com/",
    "ioctl_userfaultfd(2)": "https://man7.org/linux/man-pages/man2/ioctl_userfaultfd.2.html",
    "madvise(2)": "https://man7.org/linux/man-pages/man2/madvise.2.html",
    "mprotect(2)": "https://man7.org/linux/man-pages/man2/mprotect.2.html",
    "proc_pid_map_files(5)": "https://man7.org/linux/man-pages/man5/proc_pid_map_files.5.html",
}
"""Pages of the lists and of the manual."""


@cache
def chapters() -> dict[str, dict[str, str]]:
    """Every source and what it says, by kind."""
    return tomllib.loads((Path(__file__).parent / "sources.toml").read_text())


@cache
def statements() -> dict[int, tuple[str, str, str, str]]:
    """What the kernel's sources, its tests and the lists state, by number: what, where, how the law says it ("no: " and
    why, where it does not), and which kernels were asked ("" for none)."""
    found = tomllib.loads((Path(__file__).parent / "statements.toml").read_text())
    return {int(number): tuple(row) for number, row in found.items()}


def link(source: str) -> str | None:
    """A page of a source, without its colon and what follows; None for our own."""
    if source in PAGES:
        return PAGES[source]
    path = FILES.get(source.partition(" ")[0])
    return _TREE.format(path=path) if path else None
