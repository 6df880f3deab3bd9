"""One description of a guest program, for every executor: what it does for a batch of requests, in order.

A program walks a table of block requests, batch by batch, and makes the steps of its design for each batch. The
interpreter makes them in Python, the listing turns them into machine code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pagewarden.abi.virtio_blk import SECTOR
from pagewarden.guest import pattern
from pagewarden.guest.layout import Layout, place
from pagewarden.vocab import PAGE_SIZE, UserMistake, one_of


class Act(Enum):
    """A thing the guest does. Those marked `each` it does for each request of the batch, others once for all."""

    CLEAR = "clear"  # at the start: zero what will be shared
    EXPOSE = "expose"  # at the start: share rings, headers and pool (hypercall)
    FILL = "fill"  # each write: put the pattern into its private buffer
    COPY_OUT = "copy-out"  # each write: copy its private buffer into the pool
    SHARE = "share"  # the batch's private buffers, in one hypercall
    MAP = "map"  # write I/O page-table entries for the batch's private buffers and list them as recent
    POST = "post"  # each: descriptor chain and avail entry; then publish the avail index, no interrupt wanted
    KICK = "kick"  # ring the doorbell
    WAIT = "wait"  # until the device has used all that was posted
    UNSHARE = "unshare"  # the batch's private buffers, in one hypercall
    UNMAP = "unmap"  # clear those I/O page-table entries
    COPY_IN = "copy-in"  # each read: copy the pool into its private buffer
    CHECK = "check"  # each: status is 0; each read: the data hash to what was expected
    FINISH = "finish"  # at the end: report (hypercall)


PROLOGUE = (Act.CLEAR, Act.EXPOSE)
EPILOGUE = (Act.FINISH,)
_COPYING = (Act.FILL, Act.COPY_OUT, Act.POST, Act.KICK, Act.WAIT, Act.COPY_IN, Act.CHECK)
_SHARING = (Act.FILL, Act.SHARE, Act.POST, Act.KICK, Act.WAIT, Act.UNSHARE, Act.CHECK)
BATCH: dict[str, tuple[Act, ...]] = {
    "dma-buffer": _COPYING,
    "bounce": _COPYING,
    "remap": _SHARING,
    "pread": _SHARING,
    "splice": _SHARING,
    "window": _SHARING,
    "iommu": (Act.FILL, Act.MAP, Act.POST, Act.KICK, Act.WAIT, Act.UNMAP, Act.UNSHARE, Act.CHECK),
}
"""The guest half of each design, for one batch. `dma-buffer` and `bounce` are the same to the guest's CPU: in the one
the copy is what its user space asked for, in the other it is extra."""

REQUEST = np.dtype(
    [
        ("sector", "<u8"),
        ("word", "<u8"),  # a write: first word of its pattern; a read: hash of what it must find
        ("length", "<u4"),  # bytes
        ("page", "<u4"),  # first page of its buffer, from the start of data
        ("pages", "<u4"),  # of its buffer
        ("slot", "<u2"),  # place in its batch
        ("write", "<u2"),  # 1: to the device
    ]
)
"""A request as it lies in the guest's table, 32 bytes."""

IOPTE_VALID = 0b11
"""Low bits of an I/O page-table entry that a guest writes: read and write; the gfn from bit 12 on."""


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A guest program: design, request records, requests a doorbell, and where everything lies.

    The data pages of a batch are contiguous from layout.data on, so that one call shares or unshares them.
    """

    design: str
    requests: NDArray[Any]  # of REQUEST
    batch: int
    layout: Layout
    queue: int = 0  # number that the doorbell gets

    @property
    def steps(self) -> tuple[Act, ...]:
        """What is done for each batch, in order."""
        return BATCH[self.design]

    @property
    def batches(self) -> int:
        return -(-len(self.requests) // self.batch)

    @property
    def outs(self) -> int:
        """How many times the guest writes a port, if nothing goes wrong."""
        each = sum(step in (Act.SHARE, Act.KICK, Act.UNSHARE) for step in self.steps)
        return self.batches * each + 2


def program(
    design: str,
    write: ArrayLike,
    sector: ArrayLike,
    length: ArrayLike,
    disk: pattern.Words,
    *,
    batch: int = 1,
    base: int = 0,
    queue: int = 0,
) -> Program:
    """Describe a guest that makes these requests (arrays of one shape: bool, sectors, bytes), in this order.

    `disk` holds the hash of each sector as the guest will find it (pattern.sectors of the image); it is brought up to
    date with what the guest writes. The device serves a batch in ring order. Raises UserMistake for what cannot be.
    """
    design = one_of("design", design, BATCH)
    writes, sectors, lengths = np.asarray(write, dtype=bool), np.asarray(sector), np.asarray(length, dtype=np.int64)
    if not sectors.shape == lengths.shape == writes.shape or sectors.ndim != 1 or not len(sectors):
        raise UserMistake(f"requests are arrays of one length, at least 1, not {sectors.shape} and {lengths.shape}")
    _refuse_nonsense(sectors, lengths, batch, len(disk))
    table = np.zeros(len(sectors), dtype=REQUEST)
    table["write"], table["sector"] = writes, sectors
    pages = _place_buffers(table, lengths, batch)
    table["word"] = pattern.expect(disk, table["write"], table["sector"], lengths)
    copies, iommu = Act.COPY_OUT in BATCH[design], Act.MAP in BATCH[design]
    return Program(design, table, batch, place(base, table.nbytes, batch, pages, copies, iommu), queue)


def _refuse_nonsense(sector: NDArray[Any], length: NDArray[np.int64], batch: int, capacity: int) -> None:
    if batch < 1:
        raise UserMistake(f"a batch of {batch} requests: at least 1")
    if length.min() < SECTOR or length.max() >= 1 << 31 or (length % SECTOR).any():
        raise UserMistake(f"a request is a positive multiple of {SECTOR} bytes, under 2 GiB")
    past = sector.astype(np.float64) + length / SECTOR
    if sector.min() < 0 or past.max() > capacity:
        raise UserMistake(f"request {int(past.argmax())} lies outside the disk of {capacity} sectors")


def _place_buffers(table: NDArray[Any], length: NDArray[np.int64], batch: int) -> int:
    """Give each request its pages, a batch's in a row; returns how many the largest batch needs."""
    pages = -(-length // PAGE_SIZE)
    before = np.cumsum(pages) - pages
    slot = np.arange(len(table)) % batch
    table["length"], table["pages"], table["slot"] = length, pages, slot
    table["page"] = before - before[np.arange(len(table)) - slot]
    return int((table["page"] + pages).max())


def image(described: Program, code: bytes) -> Sequence[tuple[int, bytes]]:
    """What to put into the guest's memory before it starts: (gpa, bytes)."""
    layout = described.layout
    if len(code) > layout.table - layout.base:
        raise UserMistake(f"{len(code)} bytes of code do not fit in {layout.table - layout.base}")
    return (layout.base, code), (layout.table, described.requests.tobytes())
