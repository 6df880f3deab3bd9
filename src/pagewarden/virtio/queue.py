"""One queue of any device: whole batches, checked, then answered chain by chain, then handed back.

A chain is what the driver lets the device read, then what it lets it write; how they are cut into descriptors says
nothing (virtio 1.2, 2.7.4). A batch with one bad chain is refused as a whole: nothing of it is handed back.
"""

import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pagewarden.abi.virtio import VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTQ_DESC_F_WRITE
from pagewarden.port import HostView
from pagewarden.virtio import faults
from pagewarden.virtio.batch import Batch
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.virtio.gather import Vectored
from pagewarden.virtio.requests import REQUEST_MAX
from pagewarden.virtio.ring import Ring
from pagewarden.virtio.virtqueue import ChainLedger, Virtqueue
from pagewarden.virtio.work import ADDR, FLAGS, LEN, Work
from pagewarden.vocab import PrivateAccess

ChainAnswer = Callable[[bytes, int], bytes]
"""What a device writes into a chain, given what it reads there and for how many bytes there is room; it may be less."""


class Processed(NamedTuple):
    """What a call of process did."""

    completed: int  # requests handed back
    want_interrupt: bool  # the driver asked to be told of them
    more: bool  # the driver keeps adding: call again, no kick will come


class DeviceQueue:
    """The queue `index`; its methods are called by whoever has `busy`.

    inside: one of them is under way, so that who has `busy` already is its own thread, from within a transfer or in a
    signal handler. stopping: a reset waits for the batch under way, no other one begins.
    """

    def __init__(self, index: int, view: HostView, ring: Ring, features: int, longest: int) -> None:
        """features: as negotiated. longest: descriptors of a chain, at most chains.SIZE_MAX.
        Raises Refused(EINVAL) for a ring that cannot be."""
        self._size = ring.checked(view.size, longest).size
        self._memory = Vectored(view)
        self._work = work = Work()
        work["memory"], work["longest"] = view.size, longest * (features >> VIRTIO_F_INDIRECT_DESC & 1)
        self._queue = Virtqueue(index, self._memory, ring, bool(features >> VIRTIO_F_EVENT_IDX & 1), work)
        self._batch = Batch(index, self._memory, work)
        self.busy, self.inside, self.stopping = threading.RLock(), False, False

    def process(self) -> Processed:
        """Serve what waits, about a ring of requests at most. Raises DeviceNeedsReset."""
        completed, wanted, waiting = 0, False, 1
        try:
            while waiting and completed < self._size and not self.stopping:
                done = self._serve(self._queue.snapshot())
                waiting, wants = self._queue.look(completed + done)
                completed, wanted = completed + done, wanted or wants
        except PrivateAccess as error:
            raise self._private(error) from error
        return Processed(completed, wanted, waiting > 0)

    def keep(self, kept: ChainLedger) -> None:
        """Before resume: what is in flight is kept there, too."""
        self._queue.kept = kept

    def resume(self) -> None:
        """Go on where the used ring says that a device before this one stopped. Raises DeviceNeedsReset."""
        try:
            self._queue.resume()
        except PrivateAccess as error:
            raise self._private(error) from error

    def _private(self, error: PrivateAccess) -> DeviceNeedsReset:
        where = error.offset
        return DeviceNeedsReset(self._queue.index, self._batch.culprit(where), f"gpa {where or 0:#x} is private")

    @property
    def done(self) -> int:
        """Chains handed back, modulo 2^16: the used index."""
        return self._queue.done

    @property
    def carried(self) -> int:
        """Bytes of data of all requests that it took and found good."""
        return self._work["carried"]

    def close(self) -> None:
        self._memory.close()

    def _serve(self, waiting: int) -> int:
        """A batch of what waits, from the snapshot to the used ring; how many requests."""
        if not waiting:
            return 0
        act = self._taken(waiting)
        self._queue.hold()
        self._queue.taken()
        act()
        self._queue.publish()
        return self._work["chains"]

    def _taken(self, waiting: int) -> Callable[[], None]:
        """A batch is checked; what does it."""
        raise NotImplementedError


class PlainQueue(DeviceQueue):
    """A queue of a device that says what each chain is answered with, in Python."""

    def __init__(
        self, index: int, view: HostView, ring: Ring, features: int, longest: int, answer: ChainAnswer
    ) -> None:
        super().__init__(index, view, ring, features, longest)
        self._answer = answer

    def _taken(self, waiting: int) -> Callable[[], None]:
        chains = self._batch.chains(waiting)
        parts = [self._parted(head, chain) for head, chain in enumerate(chains)]
        return lambda: self._answer_all(parts)

    def _parted(self, number: int, chain: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of a chain to be read and to be written, shape (2, n) each."""
        writable = chain[FLAGS] & VIRTQ_DESC_F_WRITE != 0
        fault, detail = faults.NONE, 0
        if (writable[:-1] & ~writable[1:]).any():
            fault, detail = faults.ORDER, int(chain[ADDR, np.flatnonzero(~writable)[-1]])
        elif (size := int(chain[LEN].sum())) > REQUEST_MAX:
            fault, detail = faults.TOO_BIG, size
        if fault:
            head = int(self._work.table("heads")[number])
            raise DeviceNeedsReset(self._queue.index, head, faults.describe(fault, detail))
        return np.ascontiguousarray(chain[:FLAGS, ~writable]), np.ascontiguousarray(chain[:FLAGS, writable])

    def _answer_all(self, parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> None:
        work = self._work
        heads, used = work.table("heads"), work.table("used_elements")
        work["marked"] = 0
        for number, (readable, writable) in enumerate(parts):
            given = np.zeros(int(readable[LEN].sum()), np.uint8)
            if len(given):
                self._memory.gather(readable, readable.shape[1], given)
            room = int(writable[LEN].sum())
            data = np.frombuffer(bytearray(self._answer(given.tobytes(), room)), np.uint8)
            if len(data) > room:
                raise ValueError(f"an answer of {len(data)} bytes, where there is room for {room}")
            writable[LEN] = np.diff(np.minimum(np.cumsum(writable[LEN]), len(data)), prepend=0)
            if len(data):
                self._memory.scatter(writable, int((writable[LEN] > 0).sum()), data)
            used[2 * number], used[2 * number + 1] = heads[number], len(data)
            work["carried"] += len(given) + len(data)
