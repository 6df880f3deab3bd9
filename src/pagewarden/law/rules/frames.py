"""The host kernel on frames that it holds: GUP, the fd's own references, kmap, DMA."""

from typing import Any

from pagewarden.law.ops import Op
from pagewarden.law.page import MAX_PINS, Data, Home, Owner, Page, Reach
from pagewarden.law.policy import Guard, Policy
from pagewarden.law.rules import fetched, moving, present, rule, written
from pagewarden.law.rules.host import host_abort
from pagewarden.law.step import Outcome, Step, done, refused
from pagewarden.vocab import Event


def _pin(policy: Policy, page: Page, *events: Event, **changes: Any) -> Step:
    if page.owner is Owner.LEAVING and policy.has("refs-checked"):
        return refused(page, Outcome.EAGAIN)
    if page.pins == MAX_PINS or moving(page):
        return refused(page, Outcome.EBUSY)
    return done(page, *events, Event.PINS, pins=page.pins + 1, **changes)


@rule(
    Op.GUP_PIN,
    "mm/gup.c check_vma_flags: only the host's stage 1 is asked, secretmem refused",
    "mail of 6 April 2022: GUP is the problem",
)
def gup_pin(policy: Policy, page: Page) -> Step:
    """pin_user_pages on the window: process_vm_readv, O_DIRECT, vmsplice, io_uring buffers."""
    if policy.has("gup-blocked"):
        return refused(page, Outcome.EFAULT)
    if page.owner is Owner.HYP:
        return refused(page, Outcome.EFAULT)  # given up by the kernel, so not in any process
    if policy.guard is Guard.ABSENT and page.owner is not Owner.SHARED:
        return done(page, Event.PINS, old_pin=True)  # of the other memory
    if policy.guard is Guard.STAGE1 and page.host is not Reach.LIVE:
        if not (policy.has("demand") and page.owner is Owner.SHARED):
            return refused(page, Outcome.EFAULT, Event.FAULTS)
        home = page.home if present(page) else Home.RESIDENT
        return _pin(policy, page, Event.FAULTS, Event.HOST_PTE_SET, *fetched(page), host=Reach.LIVE, home=home)
    if not present(page):
        return _pin(policy, page, Event.FAULTS, *fetched(page), home=Home.RESIDENT)
    return _pin(policy, page)


@rule(
    Op.FD_GET,
    "mail of 5 April 2022: pread, pwrite, splice on the private fd",
    "guest_memfd_test.c test_file_read_write: guest_memfd has none",
)
def fd_get(policy: Policy, page: Page) -> Step:
    """A reference through the file: for shared pages only, where the file itself is guarded and not just a mapping."""
    if not policy.has("file-io"):
        return refused(page, Outcome.EINVAL)
    if policy.has("no-file"):
        return refused(page, Outcome.EBADF)
    open_file = policy.guard is Guard.STAGE1 and not policy.has("file-guards")
    if policy.guard is not Guard.NONE and not open_file and page.owner not in (Owner.SHARED, Owner.LEAVING):
        return refused(page, Outcome.EFAULT)
    return _pin(policy, page) if present(page) else refused(page, Outcome.ENOENT)


@rule(Op.UNPIN, "mm/gup.c unpin_user_pages")
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


def _kmap(policy: Policy, page: Page, **changes: Any) -> Step:
    if page.pins == 0:
        return done(page) if page.old_pin else refused(page, Outcome.EINVAL)
    if policy.guard is Guard.STAGE2 and page.host is Reach.NONE:
        return host_abort(policy, page, None)
    return done(page, reached=True, **changes)


@rule(Op.KMAP_READ, "mail of 6 April 2022: strace, process_vm_readv, pin, kmap: no fix-up there")
def kmap_read(policy: Policy, page: Page) -> Step:
    """The kernel reads the frame that it holds through its direct map."""
    return _kmap(policy, page)


@rule(Op.KMAP_WRITE, "mail of 6 April 2022: strace, process_vm_readv, pin, kmap: no fix-up there")
def kmap_write(policy: Policy, page: Page) -> Step:
    """The kernel writes the frame that it holds through its direct map."""
    return _kmap(policy, page, data=Data.PUBLIC, home=written(page))


@rule(Op.DMA_MAP, "thread of April 2022: IOMMU entries of recent DMA have to be torn down too")
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
