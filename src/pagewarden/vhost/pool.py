"""The warden of a device whose guest bounces all I/O (swiotlb=force): its rings and the pool are lent, nothing else.

Linux takes both from its DMA API where the device has VIRTIO_F_ACCESS_PLATFORM (drivers/virtio/virtio_ring.c,
vring_use_dma_api); a bounce pool is one range, given out round and round (kernel/dma/swiotlb.c, swiotlb_search_area).
"""

from pagewarden.abi.virtio import VIRTIO_F_ACCESS_PLATFORM
from pagewarden.vhost.guarded import GuardedHost
from pagewarden.vhost.hosts import BEHIND_IOMMU
from pagewarden.vhost.kinds import ServedDevice
from pagewarden.vhost.messages import FrontEndFault
from pagewarden.vhost.wire import NEVER
from pagewarden.virtio.ring import Ring
from pagewarden.vocab import PAGE_SIZE

SETTLED = 1 << 14
"""Requests without a page beyond those seen, after which the pool is taken for known: each takes three slots of 2 KiB
at least (header, data, status), so that they go round the kernel's default of 32,768 slots."""
POOL_MOST = (1 << 30) // PAGE_SIZE
"""Pages of a pool: the kernel's own choice for an encrypted guest ends there (arch/x86/mm/mem_encrypt_amd.c)."""
SCATTERED = (
    "the guest's buffers lie further apart than any pool is long, so they do not bounce: boot it with swiotlb=force, "
    "and give the device iommu_platform=on,disable-legacy=on"
)


class PoolHost(GuardedHost):
    """A device_host.DeviceHost. Pages are opened singly, when the device first asks for them, and stay open until its
    driver resets it: they hold copies. pool: guest physical pages; None: learned from what the driver names.
    """

    def __init__(self, served: ServedDevice, *, pool: range | None = None) -> None:
        super().__init__(served)
        self._pool, self._learning, self._last = pool or range(0), pool is None, 0

    def _lacks(self, ring: Ring) -> str:
        return BEHIND_IOMMU if self._features >> VIRTIO_F_ACCESS_PLATFORM & 1 else ""

    def _ask(self, pages: list[tuple[int, bool]]) -> None:
        for page, write in pages:
            try:
                behind = self._regions.behind(page * PAGE_SIZE) // PAGE_SIZE if self._lends(page) else -1
            except FrontEndFault:
                behind = -1
            if behind < 0 or self._window is None:
                self.counts.blame(f"gpa {page * PAGE_SIZE:#x} was asked for, which is of no ring and not in the pool")
                self._ready[page] = NEVER
            else:
                self.grants.add(self._window, page, behind, write)
                self._ready[page] = self.grants.entries[page]

    def _lends(self, page: int) -> bool:
        if not self._by_a_system or self._of_rings(page) or page in self._pool:
            return True  # firmware bounces nothing; its pages are closed when it resets the device
        if self._learning and self._pool and self.requests - self._last >= SETTLED:
            self._learning = False
        if not self._learning:
            return False
        known = self._pool or range(page, page)
        wider = range(min(page, known.start), max(page + 1, known.stop))
        if len(wider) > POOL_MOST:
            self._tell(SCATTERED)
            return False
        self._pool, self._last = wider, self.requests
        return True

    def _of_rings(self, page: int) -> bool:
        at = page * PAGE_SIZE
        parts = (part for _, ring in self._rings.values() for part in ring.parts)
        return any(first - first % PAGE_SIZE <= at < first + length for first, length in parts)
