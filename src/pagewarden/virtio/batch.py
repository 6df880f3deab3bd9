"""The requests of a batch: copied from the ring, checked, and taken apart, before anything is done about them."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pagewarden.virtio import chains, faults, requests
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.virtio.gather import Vectored
from pagewarden.virtio.work import ADDR, BATCH, IN_BYTES, LEN, Work


class Batch:
    """The steps of a batch on the queue's record, one after the other, through the view's own calls.

    runs: what is to be done, as so many runs of segments.
    """

    def __init__(self, queue: int, memory: Vectored, work: Work) -> None:
        self._queue, self._memory, self._work = queue, memory, work
        self.segments, self.rows = work.table("segments"), work.table("rows")
        self.runs = [work.table("run")[:count] for count in range(BATCH + 1)]
        self._heads, self._flat, self._bounds = work.table("heads"), work.table("flat"), work.table("bounds")
        self._statuses, self._used = work.table("statuses"), work.table("used_elements")
        self._tables, self._pieces = work.table("tables"), work.table("pieces")
        self._headers, self._words = work.table("headers").view(np.uint8), work.table("words").view(np.uint8)
        self._places = work["headers_at"], work["words_at"]

    def chains(self, waiting: int) -> list[NDArray[np.int64]]:
        """The first of the chains that wait, checked as far as descriptors go: of each their gpa, bytes and flags, as
        rows. All their pages are asked for, where that is needed. Raises DeviceNeedsReset, PrivateAccess."""
        self._flatten(waiting)
        self.ahead()
        wide = self._work["wide"]
        bounds = self._bounds[wide, : self._work["chains"] + 1].tolist()
        return [self._flat[wide, :, start:stop] for start, stop in pairwise(bounds)]

    def take(self, waiting: int) -> None:
        """The first of the chains that wait, checked, their headers copied and judged, all their pages touched.

        Raises DeviceNeedsReset, PrivateAccess; `culprit` tells whose page it was.
        """
        self._flatten(waiting)
        pieces = self._judged(requests.frame_of(self._work.record))
        self.ahead()
        self._memory.gather(self._pieces, pieces, self._headers[: requests.HEADER * self._work["chains"]])
        requests.classify_of(self._work.record)

    def _flatten(self, waiting: int) -> None:
        work = self._work
        work["headers_at"], work["words_at"] = self._places
        tables = self._judged(chains.flatten_of(work.record, waiting))
        if tables:
            self._memory.gather(self._tables, tables, self._words)
            self._judged(chains.expand_of(work.record))

    def ahead(self) -> None:
        """Ask for the pages of its descriptors, where that is needed. PrivateAccess."""
        if self._memory.ahead is not None:
            wide = self._work["wide"]
            self._memory.ahead(self._flat[wide], int(self._bounds[wide, self._work["chains"]]))

    def _judged(self, items: int) -> int:
        if items < 0:
            work = self._work
            head = int(self._heads[work["chain"]])
            raise DeviceNeedsReset(self._queue, head, faults.describe(work["fault"], work["detail"]))
        return items

    def fail(self, request: int, status: int) -> None:
        """This request did not end well: its data may not be what was asked for."""
        self._statuses[request] = status
        self._used[2 * request + 1] = self.rows[request, IN_BYTES] == 0

    def culprit(self, offset: int | None) -> int | None:
        """The head of the first chain with a descriptor that holds this gpa."""
        if offset is None:
            return None
        wide = self._work["wide"]
        for chain in range(min(self._work["chains"], BATCH)):
            part = self._flat[wide, :, self._bounds[wide, chain] : self._bounds[wide, chain + 1]]
            if ((part[ADDR] <= offset) & (offset < part[ADDR] + part[LEN])).any():
                return int(self._heads[chain])
        return None
