"""A guest that does a load's DMA mappings on a served disk, one by one, in the order in which they were recorded."""

from collections.abc import Callable

import numpy as np

from pagewarden.port import HostView
from pagewarden.workload.dma_mappings import FROM_DEVICE, DmaMappings
from pagewarden.workload.driver import HEADER, STATUS
from served_rig import ServedRig
from virtio_kit import FLUSH, IN, OK, OUT, request

PAGE = 4096


def without_tables(load: DmaMappings) -> DmaMappings:
    """As the driver maps for a device that does not offer VIRTIO_F_INDIRECT_DESC."""
    made = np.flatnonzero(load.opens)
    status = (load.size[made] == STATUS) & (load.direction[made] == FROM_DEVICE)
    table = np.zeros(len(load), np.bool_)
    table[made[1:][status[:-1]]] = True
    return load.part(~np.where(load.opens, table, table[load.maker]))


class MappedGuest:
    """The driver of a rig, whose requests are those of the load. place: of each event that makes a mapping, the address
    that the device gets, and the offset in the memory where its first byte lies."""

    def __init__(
        self,
        rig: ServedRig,
        memory: HostView,
        load: DmaMappings,
        place: Callable[[int], tuple[int, int]],
        ended: Callable[[int], None] = lambda made: None,
    ) -> None:
        """ended: called with the event that made a mapping, when it ends."""
        self._rig, self._memory, self._load, self._place, self._ended = rig, memory, load, place, ended
        self._waiting: list[int] = []  # offsets of the status bytes of requests that the device has not done
        self.requests = 0

    def play(self, tables: bool) -> None:
        """All of it: a request is put where its last mapping is made, and done before the first of any ends. tables: it
        has one of its own."""
        chain: list[int] = []
        for event in range(len(self._load)):
            if not self._load.opens[event]:
                self._serve()
                self._ended(int(self._load.maker[event]))
                continue
            chain.append(event)
            if self._load.size[chain[-1 - tables * (len(chain) > 1)]] == STATUS:
                self._put(chain, tables)
                chain = []
        assert not chain and not self._waiting

    def _put(self, chain: list[int], tables: bool) -> None:
        places = [self._place(event) for event in chain]
        sizes, directions = self._load.size[chain].tolist(), self._load.direction[chain]
        status = len(chain) - 1 - tables
        assert sizes[0] == HEADER
        writes = status > 1 and directions[1] != FROM_DEVICE
        kind = FLUSH if status == 1 else OUT if writes else IN
        self._memory.write(places[0][1], request(kind, self.requests))
        parts = [(address, size) for (address, _), size in zip(places, sizes, strict=True)]
        readable = status if writes else 1
        driver = self._rig.drivers[0]
        if driver.free < len(chain):
            self._serve()
        driver.add_chain(parts[:readable], parts[readable : status + 1], places[-1][0] if tables else None)
        self._memory.write(places[status][1], b"\xee")
        self._waiting.append(places[status][1])
        self.requests += 1

    def _serve(self) -> None:
        if self._waiting:
            self._rig.serve()
            assert {self._memory.read(offset, 1)[0] for offset in self._waiting} == {OK}
            self._waiting = []


class Frames:
    """Pages of a small memory for those of a large one, from `first` on."""

    def __init__(self, first: int) -> None:
        self._first, self._given = first, dict[int, int]()

    def of(self, page: int) -> int:
        """Always the same for the same page."""
        return self._given.setdefault(page, self._first + len(self._given))


class MappedPages:
    """An IOMMU's pages: each mapping gets I/O pages that no other had, from the origin of its buffer to its frames.

    count: pages of each event that makes one, 0 of others; behind: the page behind each I/O page that is mapped.
    """

    def __init__(self, load: DmaMappings, first_io_page: int, frames: Frames) -> None:
        offset = (load.origin % np.uint64(PAGE)).astype(np.int64)
        self.count = np.where(load.opens, (offset + load.size + PAGE - 1) // PAGE, 0)
        self._first = first_io_page + np.cumsum(self.count) - self.count
        self._offset, self._origin, self._frames = offset, load.origin, frames
        self.behind: dict[int, int] = {}

    def place(self, event: int) -> tuple[int, int]:
        """Map it; see MappedGuest."""
        io_pages = self._of(event)
        origin = int(self._origin[event]) // PAGE
        for nth, io_page in enumerate(io_pages):
            self.behind[io_page] = self._frames.of(origin + nth if origin else -io_page)
        inside = int(self._offset[event])
        return io_pages[0] * PAGE + inside, self.behind[io_pages[0]] * PAGE + inside

    def end(self, event: int) -> tuple[int, int]:
        """Unmap it; I/O address and bytes of what goes."""
        io_pages = self._of(event)
        for io_page in io_pages:
            del self.behind[io_page]
        return io_pages[0] * PAGE, len(io_pages) * PAGE

    def _of(self, event: int) -> range:
        return range(int(self._first[event]), int(self._first[event] + self.count[event]))
