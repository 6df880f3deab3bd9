"""The host kernel on frames that it holds: GUP, the fd's own references, kmap, DMA, core files and /proc/kcore."""

from typing import Any

from pagewarden.law.ops import Op
from pagewarden.law.page import MAX_PINS, PRIVATE, Data, Home, Owner, Page, Reach
from pagewarden.law.policy import Guard, Policy
from pagewarden.law.rules import fetched, moving, present, rule, written
from pagewarden.law.rules.reclaim import host_abort
from pagewarden.law.step import Outcome, Step, done, refused
from pagewarden.vocab import Event


def _pin(policy: Policy, page: Page, *events: Event, **changes: Any) -> Step:
    late = policy.has("unmaps-first") or (policy.has("gup-fast") and page.host is Reach.LIVE)
    if page.owner is Owner.LEAVING and policy.has("refs-checked") and not late:
        return refused(page, Outcome.EAGAIN)
    if page.pins == MAX_PINS or moving(page):
        return refused(page, Outcome.EBUSY)
    return done(page, *events, Event.PINS, pins=page.pins + 1, **changes)


@rule(
    Op.GUP_PIN,
    "gup.c check_vma_flags: only the host's stage 1 is asked",
    "mail of 6 April 2022: GUP is the problem",
    secret="gup.c check_vma_flags: secretmem is refused",
    uffd="mm.h gup_can_follow_protnone: a page without permission has to fault, and the fault ends in EFAULT",
    inplace="gup.c gup_fast: takes a page as long as the entry is there, whatever lock is held",
    gmem="guest_memfd.c kvm_gmem_fault_user_mapping: GUP faults as user space does",
)
def gup_pin(policy: Policy, page: Page) -> Step:
    """pin_user_pages on the window: process_vm_readv, O_DIRECT, vmsplice, io_uring buffers."""
    if policy.has("gup-blocked"):
        return refused(page, Outcome.EFAULT)
    if page.owner is Owner.HYP:
        return refused(page, Outcome.EFAULT)  # given up by the kernel, so not in any process
    if page.apart or (policy.guard is Guard.ABSENT and page.owner is not Owner.SHARED):
        return done(page, Event.PINS, old_pin=True)  # of the other memory
    if policy.has("exclusive") and not page.mapped:
        return refused(page, Outcome.EFAULT, Event.FAULTS)
    if policy.guard is Guard.STAGE1 and page.host is not Reach.LIVE:
        if not (policy.has("demand") and page.owner is Owner.SHARED):
            return refused(page, Outcome.EFAULT, Event.FAULTS)
        home = page.home if present(page) else Home.RESIDENT
        return _pin(policy, page, Event.FAULTS, Event.HOST_PTE_SET, *fetched(page), host=Reach.LIVE, home=home)
    if not present(page) and policy.guard is not Guard.ABSENT:
        return _pin(policy, page, Event.FAULTS, *fetched(page), home=Home.RESIDENT)
    return _pin(policy, page)


@rule(
    Op.FD_GET,
    "mail of 5 April 2022: pread, pwrite, splice on the private fd",
    gmem_inplace="guest_memfd_test.c test_file_read_write: guest_memfd has none",
    secret="memfd_secret.c test_file_apis: neither has memfd_secret",
    v5="patch series v5: neither has an inaccessible file",
    pkvm="shmem.c shmem_file_read_iter: the memfd below a slot knows of no guest",
    exclusive="thread of April 2022: exclusive references: KVM or user space, never both",
)
def fd_get(policy: Policy, page: Page) -> Step:
    """A reference through the file: of shared pages only where the file knows what is private, of any page where only a
    mapping is guarded, or stage 2."""
    if policy.has("no-file") or policy.has("anonymous"):
        return refused(page, Outcome.EBADF)
    if not policy.has("file-io"):
        return refused(page, Outcome.EINVAL)
    if policy.has("file-checks") and page.owner not in (Owner.SHARED, Owner.LEAVING):
        return refused(page, Outcome.EFAULT)
    if policy.has("exclusive") and page.kvm:
        return refused(page, Outcome.EBUSY)
    if page.apart:
        return done(page, Event.PINS, old_pin=True)
    return _pin(policy, page) if present(page) else refused(page, Outcome.ENOENT)


@rule(Op.UNPIN, "gup.c unpin_user_pages")
def unpin(policy: Policy, page: Page) -> Step:
    """Drop a reference; a device that still maps the frame keeps the last one."""
    if page.pins == 0:
        return unpin_old(policy, page)
    if page.pins == 1 and page.dma is Reach.LIVE:
        return refused(page, Outcome.EBUSY)
    return done(page, pins=page.pins - 1)


@rule(Op.UNPIN_OLD, "thread of April 2022: an old pinned page lives on as long as somebody pins it")
def unpin_old(policy: Policy, page: Page) -> Step:
    """Drop the reference to a frame that the page has left."""
    return done(page, old_pin=False) if page.old_pin else refused(page, Outcome.EINVAL)


def _kernel_access(policy: Policy, page: Page, write: bool) -> Step:
    """By the kernel's own mapping, without a fix-up. Where stage 2 stops it and the page is reclaimed, it is tried
    again on a page that is the host's by then."""
    changes: dict[str, Any] = {"data": Data.PUBLIC, "home": written(page)} if write else {}
    if policy.has("no-direct-map"):
        return refused(page, Outcome.PANIC, Event.FAULTS)
    if policy.guard is Guard.STAGE2 and page.host is Reach.NONE:
        stopped = host_abort(policy, page, None)
        if stopped.outcome is not Outcome.DONE:
            return stopped
        return done(stopped.page, *stopped.events, reached=True, **changes)
    return done(page, reached=True, **changes)


def _kmap(policy: Policy, page: Page, write: bool) -> Step:
    if page.pins == 0:
        return done(page) if page.old_pin else refused(page, Outcome.EINVAL)
    return _kernel_access(policy, page, write)


_KMAPPED: dict[str, str | tuple[str, ...]] = {
    "pkvm": (
        "fault.c is_spurious_el1_translation_fault: the kernel asks for a reclaim, then tries again",
        "mem_protect.c __pkvm_host_force_reclaim_page_guest: what the page is then",
    ),
    "secret": "secretmem.c secretmem_fault: there is no such mapping",
}


@rule(Op.KMAP_READ, "mail of 6 April 2022: strace, process_vm_readv, pin, kmap: no fix-up there", **_KMAPPED)
def kmap_read(policy: Policy, page: Page) -> Step:
    """The kernel reads the frame that it holds through its direct map."""
    return _kmap(policy, page, False)


@rule(Op.KMAP_WRITE, "mail of 6 April 2022: strace, process_vm_readv, pin, kmap: no fix-up there", **_KMAPPED)
def kmap_write(policy: Policy, page: Page) -> Step:
    """The kernel writes the frame that it holds through its direct map. Of a page that it must reclaim for that, the
    guest's bytes go first, and the host's land."""
    return _kmap(policy, page, True)


@rule(
    Op.CORE_DUMP,
    "gup.c get_dump_page: a page that GUP does not get is a hole in the file",
    secret="secretmem.c secretmem_mmap_prepare: left out (VM_DONTDUMP)",
    pkvm="fault.c is_spurious_el1_translation_fault: the copy into the file asks for a reclaim",
)
def core_dump(policy: Policy, page: Page) -> Step:
    """The kernel writes the window into a core file: a pin, a copy, and the pin goes."""
    pinned = gup_pin(policy, page._replace(pins=0))
    if pinned.outcome in (Outcome.EBUSY, Outcome.EAGAIN):
        return refused(page, Outcome.HOST_RETRY, Event.FAULTS)  # it moves, or changes hands
    if pinned.outcome is not Outcome.DONE:
        return refused(page, Outcome.EFAULT, *pinned.events)
    step = kmap_read(policy, pinned.page)
    if step.outcome is not Outcome.DONE:
        return refused(page, step.outcome, *step.events)
    after = step.page._replace(pins=page.pins, old_pin=page.old_pin)
    return Step(after, Outcome.DONE, (*pinned.events, *step.events), step.reached)


@rule(
    Op.KCORE_READ,
    "kcore.c read_kcore_iter: by copy_from_kernel_nofault, what faults reads as zeroes",
    secret="secretmem.c secretmem_fault: the frame is not in the direct map",
    pkvm="mem_protect.c handle_host_mem_abort: injected, and the fix-up takes it",
)
def kcore_read(policy: Policy, page: Page) -> Step:
    """Root reads the frame, by its physical address, through the kernel's direct map; zeroes where that has nothing."""
    if policy.has("no-file"):
        return refused(page, Outcome.EBADF)
    if not present(page) or policy.has("no-direct-map"):
        return done(page)
    if policy.guard is Guard.STAGE2 and page.host is Reach.NONE:
        stopped = host_abort(policy, page, Outcome.EFAULT)
        return stopped if stopped.outcome is not Outcome.EFAULT else done(page, *stopped.events)
    private = page.owner in PRIVATE or policy.guard is not Guard.ABSENT
    return done(page, reached=private)


@rule(
    Op.DMA_MAP,
    "thread of April 2022: IOMMU entries of recent DMA have to be torn down too",
    pkvm="pkvm.rst: DMA isolation is unimplemented",
)
def dma_map(policy: Policy, page: Page) -> Step:
    """An entry in the physical IOMMU for a frame that the host holds."""
    if page.pins == 0:
        return refused(page, Outcome.EINVAL)
    if policy.has("iommu-guarded") and page.owner not in (Owner.SHARED, Owner.HOST):
        return refused(page, Outcome.EPERM)
    if page.dma is Reach.LIVE:
        return refused(page, Outcome.EBUSY)
    return done(page, Event.IO_PTE_SET, dma=Reach.LIVE)


@rule(Op.DMA_UNMAP, "dma-iommu.c __iommu_dma_unmap: a lazy domain flushes later")
def dma_unmap(policy: Policy, page: Page) -> Step:
    """The entry goes; the IOTLB may have it still."""
    if page.dma is not Reach.LIVE:
        return refused(page, Outcome.EINVAL)
    return done(page, Event.IO_PTE_CLEAR, dma=Reach.STALE)


@rule(Op.IOTLB_INV, "iommu.h iommu_iotlb_sync")
def iotlb_inv(policy: Policy, page: Page) -> Step:
    """Invalidate the IOTLB; costs nothing where nothing is cached."""
    return done(page, Event.TLBI, dma=Reach.NONE) if page.dma is Reach.STALE else done(page)


@rule(Op.DMA_READ, "by definition: an IOMMU lets through what it has an entry for")
def dma_read(policy: Policy, page: Page) -> Step:
    """A device reads the page."""
    return refused(page, Outcome.EFAULT) if page.dma is Reach.NONE else done(page, reached=True)


@rule(Op.DMA_WRITE, "by definition: an IOMMU lets through what it has an entry for")
def dma_write(policy: Policy, page: Page) -> Step:
    """A device writes the page."""
    if page.dma is Reach.NONE:
        return refused(page, Outcome.EFAULT)
    return done(page, reached=True, data=Data.PUBLIC, home=written(page))
