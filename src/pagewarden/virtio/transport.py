"""What all virtio devices have: features, status, queues. It knows nothing of how a kick travels.

Whoever carries the kicks (an exit, an eventfd, vhost-user) calls process(queue) and raises the interrupt it asks for.
"""

import errno
import threading
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from typing import Generic, TypeVar

from pagewarden.abi import virtio as abi
from pagewarden.port import HostView
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.virtio.queue import DeviceQueue, PlainQueue, Processed
from pagewarden.virtio.ring import Ring
from pagewarden.virtio.virtqueue import ChainLedger
from pagewarden.vocab import Refused

Returned = TypeVar("Returned")
Queue = TypeVar("Queue", bound=DeviceQueue)
_PROCESS: Callable[[DeviceQueue], Processed] = methodcaller("process")
_RESUME: Callable[[DeviceQueue], None] = methodcaller("resume")
EVERY = (
    abi.VIRTIO_F_VERSION_1,
    abi.VIRTIO_F_ACCESS_PLATFORM,
    abi.VIRTIO_F_INDIRECT_DESC,
    abi.VIRTIO_F_EVENT_IDX,
    abi.VIRTIO_F_IN_ORDER,
)
_WITHIN = "it would wait for itself; leave the transfer, or the signal handler, first (a flag, or another thread)"


class VirtioDevice(Generic[Queue]):
    """Its state: features (driver's choice, 0 before), status (virtio 1.2, 2.1), queues by index."""

    def __init__(self, view: HostView, offered: int, queues: int, queue_size: int) -> None:
        """offered: bits of the device's own kind, beside those of EVERY. queue_size: entries that the driver may use at
        most, and the longest chain."""
        self._view, self._count, self.queue_size = view, queues, queue_size
        self.offered = offered | sum(1 << bit for bit in EVERY)
        self.features = self.status = 0
        self._queues: _Queues[Queue] = _Queues()
        self._changing, self._resetting = threading.RLock(), False  # one reset at a time
        self._broken: DeviceNeedsReset | None = None

    def accept(self, features: int) -> None:
        """The driver's features; they count once it sets FEATURES_OK. Refused(EINVAL) after that."""
        if self.status & abi.FEATURES_OK:
            raise Refused(errno.EINVAL, "features cannot change after FEATURES_OK")
        self.features = features

    def write_status(self, status: int) -> None:
        """What the driver writes into the status field: 0 resets, a bit that is set stays set. FEATURES_OK is not
        taken over when the features cannot be served: the driver reads the status back (virtio 1.2, 3.1.1)."""
        if status == 0:
            self.reset()
            return
        if status & abi.FEATURES_OK and not self._servable():
            status &= ~abi.FEATURES_OK
        self.status |= status & ~abi.DEVICE_NEEDS_RESET

    def _servable(self) -> bool:
        return not self.features & ~self.offered and bool(self.features >> abi.VIRTIO_F_VERSION_1 & 1)

    def set_queue(self, index: int, ring: Ring) -> None:
        """A fresh ring, all zero. Refused(EINVAL) for one that cannot be, or too early, or too late."""
        with self._changing:
            early = not self.status & abi.FEATURES_OK
            if not 0 <= index < self._count or index in self._queues or early or self._resetting:
                raise Refused(errno.EINVAL, f"queue {index} of {self._count} cannot be set up now")
            self._queues[index] = self._new_queue(index, ring)

    def resume(self, features: int, rings: dict[int, Ring]) -> None:
        """Take over rings from a device that died, at any moment: go on after what the used rings show.

        A fresh ring begins at 0 the same way. Requests that were under way are done again. Afterwards call process for
        each queue, kicked or not; its first call asks for an interrupt, since the last one may have got lost.
        Raises Refused(EINVAL), DeviceNeedsReset.
        """
        self.reset()
        self.accept(features)
        self.write_status(abi.ACKNOWLEDGE | abi.DRIVER | abi.FEATURES_OK)
        for index, ring in rings.items():
            self.start(index, ring)
        self.write_status(abi.DRIVER_OK)

    def start(self, index: int, ring: Ring, kept: ChainLedger | None = None) -> None:
        """set_queue for one ring that goes on after what its used ring shows, and what is kept of it; raises as resume
        does."""
        self.set_queue(index, ring)
        if kept is not None:
            self._queues[index].keep(kept)
        try:
            self._watched(index, _RESUME)
        except DeviceNeedsReset:
            self.stop(index)
            raise

    def stop(self, index: int) -> int:
        """Forget one queue, once nothing of it is in flight; how many chains it has done, modulo 2^16.
        Refused(EINVAL) where there is none, Refused(EDEADLK) from the thread that serves it."""
        with self._changing:
            queue = self._queues.get(index)
            if queue is None:
                raise Refused(errno.EINVAL, f"queue {index} is not set up")
            if _served_here(queue):
                raise Refused(errno.EDEADLK, f"queue {index} was stopped by the thread that is serving it: {_WITHIN}")
            queue.stopping = True
            with queue.busy:
                queue.close()
                self._queues = self._queues.without(queue)
                return queue.done

    def process(self, index: int) -> Processed:
        """Serve a queue, each from one thread or more. Raises DeviceNeedsReset, now and until the reset: tell the
        driver of a configuration change, which stands for the interrupt too; Refused(EINVAL) when there is no such
        queue yet, or no longer. What else comes out (OSError, MemoryError, an interrupt of this thread) is the host's;
        the device needs a reset then, too, for the batch may be half done."""
        if self._broken:
            raise self._broken.with_traceback(None)
        if not self.status & abi.DRIVER_OK:
            raise Refused(errno.EINVAL, f"queue {index} was kicked before it was set up")
        return self._watched(index, _PROCESS)

    def _watched(self, index: int, act: Callable[[DeviceQueue], Returned]) -> Returned:
        queue = self._queues.get(index)
        if queue is None:
            raise Refused(errno.EINVAL, f"queue {index} was kicked before it was set up")
        busy = queue.busy
        try:  # `with` says the same and takes three times as long
            busy.acquire()
            if queue.inside:
                raise Refused(errno.EDEADLK, f"queue {index} was kicked by the thread that is serving it: {_WITHIN}")
            if queue.stopping:
                raise Refused(errno.EINVAL, f"queue {index} was kicked during a reset")
            queue.inside = True
            try:
                return act(queue)
            except DeviceNeedsReset as error:
                self._break(error)
                raise
            except BaseException as error:
                what = f"the host could not go on ({type(error).__name__}: {error})"
                self._break(DeviceNeedsReset(index, None, what, "that is no fault of the driver"))
                raise
            finally:
                queue.inside = False
        finally:
            try:  # noqa: SIM105  suppress() takes its time, too
                busy.release()
            except RuntimeError:  # interrupted while it waited: it does not have it
                pass

    def _break(self, error: DeviceNeedsReset) -> None:
        self._broken = error
        self.status |= abi.DEVICE_NEEDS_RESET

    def read_config(self, offset: int, length: int) -> bytes:
        """Bytes of the configuration; beyond it, zeroes."""
        return self._config()[offset : offset + length].ljust(length, b"\0")

    def _config(self) -> bytes:
        return b""

    def _new_queue(self, index: int, ring: Ring) -> Queue:
        """A queue of this ring, which counts on the features; Refused(EINVAL)."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget the driver: no features, no queues, status 0. Waits for what other threads process: each stops after
        the batch that it is at, and once this returned (and status reads 0) nothing of the device is in flight.
        Refused(EDEADLK), and nothing is changed, from a thread that it would wait for: its own."""
        with self._changing:
            queues = list(self._queues.values())
            if self._resetting or any(map(_served_here, queues)):
                raise Refused(
                    errno.EDEADLK, f"a reset by the thread that is serving or resetting the device: {_WITHIN}"
                )
            try:
                self._resetting = True
                for queue in queues:
                    queue.stopping = True
                for queue in queues:
                    with queue.busy:
                        queue.close()
                self._queues = self._queues.without(*queues)
                self.features = self.status = 0
                self._broken = None
            finally:
                self._resetting = False

    close = reset

    @property
    def carried(self) -> int:
        """Bytes of data of all good requests so far."""
        return self._queues.carried()


class PlainDevice(VirtioDevice[PlainQueue]):
    """A device in Python that answers chain by chain: what it offers, its configuration and `answer` are its own."""

    def __init__(self, view: HostView, offered: int = 0, queues: int = 1, queue_size: int = 256) -> None:
        super().__init__(view, offered, queues, queue_size)

    def _new_queue(self, index: int, ring: Ring) -> PlainQueue:
        answer = partial(self.answer, index)
        return PlainQueue(index, self._view, ring, self.features, self.queue_size, answer)

    def answer(self, queue: int, given: bytes, room: int) -> bytes:
        """What the device writes into a chain of the queue in which the driver gave this and left room for so many
        bytes: so many, or less."""
        raise NotImplementedError


class _Queues(dict[int, Queue]):
    """The queues of a device by index, and what those before them carried: one object, so that a queue goes and is
    counted as past in one store, whatever interrupts a reset and however often it is tried again."""

    past = 0

    def carried(self) -> int:
        """Bytes of data, of these and of those before."""
        return self.past + sum(queue.carried for queue in list(self.values()))

    def without(self, *gone: Queue) -> "_Queues[Queue]":
        """The others, once nothing of these is in flight any more."""
        left: _Queues[Queue] = _Queues({index: queue for index, queue in self.items() if queue not in gone})
        left.past = self.past + sum(queue.carried for queue in gone)
        return left


def _served_here(queue: DeviceQueue) -> bool:
    """Is this thread inside the queue, further up its stack?"""
    busy = queue.busy
    try:
        return busy.acquire(blocking=False) and queue.inside
    finally:
        try:  # noqa: SIM105  an interrupt in suppress() would leave it locked
            busy.release()
        except RuntimeError:  # another thread has it
            pass
