"""The requests of a batch: copied from the ring, checked, and taken apart, before anything is done about them."""

from typing import Any

import numpy as np

from pagewarden.virtio import chains, faults, requests
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.virtio.gather import Vectored
from pagewarden.virtio.virtqueue import Virtqueue


def _table(*shape: int) -> Any:
    return np.zeros(shape, np.int64)


class Batch:
    """Arrays that each batch uses again; those of the compiled functions are explained there."""

    def __init__(self, queue: Virtqueue, memory: Vectored, size: int, longest: int) -> None:
        """size: of the memory, bytes. longest: descriptors of a chain with an indirect table, 0 if there are none."""
        self._queue, self._memory, self._size, self._longest = queue, memory, size, longest
        self.count = 0  # requests
        self.heads = _table(chains.BATCH)
        self.rows = _table(chains.BATCH, requests.FIELDS)
        self.statuses = np.zeros(chains.BATCH, np.uint8)
        self.used = np.zeros(2 * chains.BATCH, np.uint32)
        self.used_bytes = self.used.view(np.uint8)
        self.marks, self.marked = _table(2, chains.BATCH), 0
        self._turn, self._seen = 0, _table(queue.ring.size)
        self._narrow, self._starts = _table(3, chains.DESCRIPTORS), _table(chains.BATCH + 1)
        self._wide, self._begins = _table(3, chains.DESCRIPTORS), _table(chains.BATCH + 1)
        self._flat, self._bounds = self._narrow, self._starts  # or the wide ones, where there are indirect tables
        self._tables, self.segments = _table(2, chains.DESCRIPTORS), _table(2, chains.DESCRIPTORS)
        self._words = _table(2 * chains.DESCRIPTORS)  # of the indirect tables
        self._word_bytes = self._words.view(np.uint8)
        self._pieces = _table(2, requests.PIECES)
        self._headers = _table(2 * chains.BATCH)
        self._header_bytes = self._headers.view(np.uint8)
        self._runs = _table(chains.BATCH, requests.RUN_FIELDS)

    def take(self, waiting: int) -> None:
        """The first chains of the queue's snapshot, checked, their headers copied, all their pages touched.

        Raises DeviceNeedsReset, PrivateAccess; `culprit` tells whose page it was.
        """
        self.count = 0
        self._flatten(waiting)
        pieces = self._judged(
            requests.frame(self._flat, self._bounds, self.count, self.segments, self.rows, self._pieces)
        )
        self._memory.gather(self._pieces, pieces, self._header_bytes[: requests.HEADER * self.count])

    def _flatten(self, waiting: int) -> None:
        """Chains into a flat list of descriptors, those of indirect tables in their place."""
        self._turn += 1
        self._flat, self._bounds = self._narrow, self._starts
        queue = self._queue
        tables = self._judged(
            chains.flatten(
                queue.words,
                queue.entries,
                queue.done,
                waiting,
                self._size,
                self._longest,
                self._seen,
                self._turn,
                self._flat,
                self._bounds,
                self.heads,
                self._tables,
            )
        )
        if not tables:
            return
        self._memory.gather(self._tables, tables, self._word_bytes)
        self._judged(
            chains.expand(self._flat, self._bounds, self.count, self._words, self._size, self._wide, self._begins)
        )
        self._flat, self._bounds = self._wide, self._begins

    def _judged(self, verdict: tuple[int, int, int, int, int]) -> int:
        self.count, fault, chain, detail, items = verdict
        if fault:
            raise DeviceNeedsReset(self._queue.index, int(self.heads[chain]), faults.describe(fault, detail))
        return items

    def plan(self, capacity: int, kinds: int, sealed: bool) -> Any:
        """Judge the headers, as for a disk of so many sectors: what is to be done, as runs of segments."""
        runs, self.marked = requests.classify(
            self._headers,
            self.rows,
            self.heads,
            self.count,
            capacity,
            kinds,
            sealed,
            self._runs,
            self.statuses,
            self.used,
            self.marks,
        )
        return self._runs[:runs]

    def fail(self, request: int, status: int) -> None:
        """This request did not end well: its data may not be what was asked for."""
        self.statuses[request] = status
        self.used[2 * request + 1] = self.rows[request, requests.IN_BYTES] == 0

    def culprit(self, offset: int | None) -> int | None:
        """The head of the first chain with a descriptor that holds this gpa."""
        if offset is None:
            return None
        for chain in range(self.count):
            part = self._flat[:, self._bounds[chain] : self._bounds[chain + 1]]
            if ((part[chains.ADDR] <= offset) & (offset < part[chains.ADDR] + part[chains.LEN])).any():
                return int(self.heads[chain])
        return None
