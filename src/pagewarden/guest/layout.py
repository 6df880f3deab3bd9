"""Where a guest program keeps its things: gpas of code, request table, rings and buffers.

    code | request table | rings, headers, I/O page table, pool: shared from the start | data: private buffers

The parts that the guest shares at the start lie in a row, so one hypercall shares them.
"""

from dataclasses import dataclass

from pagewarden.abi.virtio import QUEUE_SIZE_LIMIT, virtq_desc
from pagewarden.abi.virtio_blk import virtio_blk_req
from pagewarden.vocab import PAGE_SIZE, PageRange, UserMistake

DESCRIPTOR = virtq_desc.itemsize
"""Bytes."""
HEADER = virtio_blk_req.itemsize
"""Bytes."""
CHAIN = 3
"""Descriptors of a request: header, data, status."""
RECENT_HEAD = 8
"""Bytes before the entries of the ring of recent I/O page-table entries: how many were ever added."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Addresses are gpas, bytes; lengths in bytes unless they say pages. base and end are page aligned."""

    base: int  # first byte; the code starts here
    table: int  # request records
    shared: int  # first byte of what is shared from the start: also of the descriptor table
    queue: int  # entries of each ring, a power of two
    avail: int
    used: int
    headers: int  # HEADER bytes for each slot of a batch
    status: int  # a byte for each slot
    iopt: int  # I/O page-table entries, 8 bytes for each data page; 0 pages long unless the design is iommu
    recent: int  # ring of recently added entries: RECENT_HEAD bytes, then recent_entries of 8 bytes: a data page
    pool: int  # bounce or DMA buffers, as many pages as data; empty unless the design copies
    # An emulated TLB of a power of two of entries (QEMU's softmmu) must not keep a page and its buffer in one place:
    # the distance from pool to data is odd.
    data: int  # private buffers
    end: int

    @property
    def data_pages(self) -> int:
        return (self.end - self.data) // PAGE_SIZE

    @property
    def recent_entries(self) -> int:
        """Length of the ring of recent entries, a power of two: room for every data page."""
        return power_of_two(self.data_pages)

    @property
    def shared_pages(self) -> PageRange:
        """What the guest shares before its first request."""
        return PageRange(self.shared // PAGE_SIZE, self.data // PAGE_SIZE)

    @property
    def size(self) -> int:
        """Bytes that a memory needs to hold everything, from gpa 0."""
        return self.end


def place(base: int, table_bytes: int, batch: int, data_pages: int, copies: bool, iommu: bool) -> Layout:
    """The layout of a program from gpa `base` on; UserMistake when a batch does not fit in a virtqueue."""
    queue = power_of_two(CHAIN * batch)
    if queue > QUEUE_SIZE_LIMIT:
        raise UserMistake(f"a batch of {batch} requests needs a queue of {queue} entries, over {QUEUE_SIZE_LIMIT}")
    if base % PAGE_SIZE:
        raise UserMistake(f"a program cannot start at gpa {base:#x}: not a multiple of {PAGE_SIZE}")
    table = base + PAGE_SIZE
    shared = _page_up(table + table_bytes)
    avail = shared + DESCRIPTOR * queue
    used = _up(avail + 6 + 2 * queue, PAGE_SIZE)  # what the guest writes and what the device writes: pages apart
    headers = _up(used + 6 + 8 * queue, HEADER)
    status = headers + HEADER * batch
    iopt = _page_up(status + batch)
    recent = iopt + 8 * data_pages * iommu
    pool = _page_up(recent + (RECENT_HEAD + 8 * power_of_two(data_pages)) * iommu)
    data = pool + (data_pages | 1) * PAGE_SIZE * copies  # an odd distance: see Layout.pool
    end = data + data_pages * PAGE_SIZE
    return Layout(base, table, shared, queue, avail, used, headers, status, iopt, recent, pool, data, end)


def power_of_two(least: int) -> int:
    """The smallest power of two that is no less."""
    return 1 << (least - 1).bit_length()


def _up(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment


def _page_up(value: int) -> int:
    return _up(value, PAGE_SIZE)
