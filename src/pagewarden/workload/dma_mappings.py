"""What crosses the border of a real guest: not requests but DMA mappings, in the order of their making and ending."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

SLOT = 2048
"""Bytes of a slot of the bounce pool (include/linux/swiotlb.h, IO_TLB_SIZE)."""
DIRECTIONS = ("bidirectional", "to device", "from device", "none")
"""By their number in the kernel (enum dma_data_direction)."""
BIDIRECTIONAL, TO_DEVICE, FROM_DEVICE = range(3)


@dataclass(frozen=True, slots=True, eq=False)
class DmaMappings:
    """n events in time order, each a mapping made or ended. The arrays are equally long."""

    name: str
    format: str
    opens: NDArray[np.bool_]  # True: made; False: ended
    maker: NDArray[np.int64]  # for an end, the event that made it; -1: it was made before the trace began
    size: NDArray[np.int64]  # bytes
    direction: NDArray[np.uint8]  # index in DIRECTIONS
    device: NDArray[np.int16]  # index in `devices`
    cpu: NDArray[np.int16]  # that did it
    time_ns: NDArray[np.int64]
    bounced: NDArray[np.bool_]  # through the pool
    failed: NDArray[np.bool_]  # the kernel found no room for it
    address: NDArray[np.uint64]  # as the device sees it; 0: nobody says
    origin: NDArray[np.uint64]  # where the buffer lies; 0: nobody says
    devices: tuple[str, ...] = ()
    lost: int = 0  # events that the trace says were lost when it was recorded
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.opens)

    @property
    def made(self) -> NDArray[np.bool_]:
        """Which events made a mapping."""
        return self.opens & ~self.failed

    @property
    def unmatched(self) -> int:
        """Ends of mappings that were made before the trace began."""
        return int((~self.opens & (self.maker < 0)).sum())

    @property
    def unended(self) -> int:
        """Mappings that were still there when the trace ended, or whose end is not in it."""
        return int(self.made.sum()) - int((self.maker >= 0).sum())

    def of_device(self, name: str) -> "DmaMappings":
        """Those of one device; KeyError."""
        if name not in self.devices:
            raise KeyError(name)
        return self.part(self.device == self.devices.index(name))

    def part(self, chosen: NDArray[np.bool_]) -> "DmaMappings":
        """Some of the events, in their order; ends go with what made them."""
        place = np.cumsum(chosen) - 1
        maker = self.maker[chosen]
        kept = (maker >= 0) & chosen[np.maximum(maker, 0)]
        columns = {
            name: getattr(self, name)[chosen]
            for name in (
                "opens", "size", "direction", "device", "cpu", "time_ns", "bounced", "failed", "address", "origin",
            )
        }  # fmt: skip
        return replace(self, maker=np.where(kept, place[np.maximum(maker, 0)], -1), **columns)
