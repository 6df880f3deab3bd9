"""A reset while the device works in another thread: once it is over, nothing of the device is in flight."""

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from pagewarden.port import Buffer
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.vocab import Refused
from virtio_kit import DEFAULT, IN, OK, OUT, FakeView, Posted, Rig, VectoredFake, image_disk, image_file
from waits import SOON

image, disk = pytest.fixture(image_file), pytest.fixture(image_disk)


class Gate:
    """A point that a thread reaches, and where it stays until it is let go."""

    def __init__(self) -> None:
        self.reached, self.go = threading.Event(), threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self.go.wait(SOON)


class Gated(VectoredFake):
    """The transfers stop at a gate; what is written afterwards, into memory that may be somebody else's, is kept."""

    gate: Gate | None = None
    over = False
    late: list[int]

    def transfer(self, fd: int, runs: object, places: object) -> int:
        return 0

    def pread_from(self, fd: int, file_offset: int, segments: Sequence[tuple[int, int]]) -> int:
        if self.gate:
            self.gate.pass_through()
        if self.over:
            self.late.append(segments[0][0])
        return super().pread_from(fd, file_offset, segments)

    def write(self, offset: int, data: Buffer) -> None:
        if self.over:
            self.late.append(offset)
        super().write(offset, data)


class Announced:
    """A lock that says when somebody begins to wait for it."""

    def __init__(self, lock: "threading.RLock") -> None:
        self._lock, self.asked = lock, threading.Event()
        self.acquire, self.release = lock.acquire, lock.release

    def __enter__(self) -> None:
        self.asked.set()
        self._lock.acquire()

    def __exit__(self, *failure: object) -> None:
        self._lock.release()


@contextmanager
def held_at_the_transfer(disk: Disk, chains: int) -> Iterator[tuple[Rig, Gated, threading.Thread, list[Posted]]]:
    """A device whose thread serves so many reads and waits in the first."""
    view = Gated(1 << 20)
    view.late = []
    rig = Rig(view, disk, size=16)
    posts = [rig.post(IN, n, into=512) for n in range(chains)]
    rig.drivers[0].publish()
    view.gate = gate = Gate()
    thread = threading.Thread(target=rig.device.process, args=(0,))
    thread.start()
    assert gate.reached.wait(SOON)
    yield rig, view, thread, posts
    gate.go.set()
    thread.join(SOON)


def test_a_reset_waits_for_what_is_in_flight(disk: Disk) -> None:
    with held_at_the_transfer(disk, 3) as (rig, view, thread, posts):
        device = rig.device
        lock = Announced(device._queues[0].busy)
        device._queues[0].busy = lock  # type: ignore[assignment]

        def reset() -> None:
            device.write_status(0)
            view.over = True

        resetting = threading.Thread(target=reset)
        resetting.start()
        assert lock.asked.wait(SOON)
        assert not view.over and device.status != 0, "it read back 0 with a transfer under way"
        assert view.gate
        view.gate.go.set()
        resetting.join(SOON)
        assert view.over and device.status == 0
        memory = view.bytes.tobytes()
        thread.join(SOON)
        assert view.late == [] and view.bytes.tobytes() == memory
        assert [post.status for post in posts] == [OK] * 3


@pytest.mark.parametrize("act", ["reset", "close", "write_status", "process"])
def test_what_would_wait_for_itself_is_refused(disk: Disk, act: str) -> None:
    """From inside a transfer of the device's own thread; the transfer goes on, and the device with it."""
    view = Gated(1 << 20)
    rig = Rig(view, disk, queues=2)
    device, refused = rig.device, []

    class Inside(Gate):
        def pass_through(self) -> None:
            with pytest.raises(Refused, match="wait for itself") as caught:
                getattr(device, act)(*([0] if act in ("write_status", "process") else []))
            refused.append(caught.value.errno)

    post = rig.post(IN, 0, into=512)
    view.gate = Inside()
    processed, used = rig.serve()
    assert refused == [errno.EDEADLK] and processed.completed == len(used) == 1 and post.status == OK
    view.gate = None
    assert rig.do(IN, 1, into=512)[0] == OK and not device._queues[1].stopping
    device.reset()
    assert device.status == 0


def test_two_threads_that_reset_from_inside_their_queues_do_not_wait_for_each_other(disk: Disk) -> None:
    view = Gated(1 << 20)
    rig = Rig(view, disk, queues=2)
    refused, both = [], threading.Barrier(2)

    class Inside(Gate):
        def pass_through(self) -> None:
            both.wait(SOON)
            with pytest.raises(Refused, match="wait for itself") as caught:
                rig.device.reset()
            refused.append(caught.value.errno)
            both.wait(SOON)

    for queue in range(2):
        rig.post(IN, queue, into=512, queue=queue)
        rig.drivers[queue].publish()
    view.gate = Inside()
    threads = [threading.Thread(target=rig.device.process, args=(queue,)) for queue in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert refused == [errno.EDEADLK] * 2 and [len(driver.reap()) for driver in rig.drivers] == [1, 1]


def test_a_signal_handler_in_the_midst_of_a_reset_is_refused(disk: Disk) -> None:
    rig = Rig(FakeView(1 << 20), disk)
    queue, refused = rig.device._queues[0], []
    close = queue.close

    def interrupted() -> None:
        with pytest.raises(Refused, match="wait for itself") as caught:
            rig.device.reset()
        refused.append(caught.value.errno)
        close()

    queue.close = interrupted  # type: ignore[method-assign]
    rig.device.reset()
    assert refused == [errno.EDEADLK] and rig.device.status == 0


def test_nothing_begins_during_a_reset(disk: Disk) -> None:
    rig = Rig(FakeView(1 << 20), disk)
    rig.post(IN, 0, into=512)
    rig.drivers[0].publish()
    rig.device._queues[0].stopping = True
    with pytest.raises(Refused, match="during a reset"):
        rig.device.process(0)
    assert rig.drivers[0].reap() == []


def test_the_batches_after_the_one_under_way_are_left(disk: Disk) -> None:
    """The ring is refilled while the device works; a reset comes in between."""
    view = Gated(1 << 20)
    rig = Rig(view, disk)
    queue = rig.device._queues[0]

    class Refill(Gate):
        def pass_through(self) -> None:
            rig.post(IN, 1, into=512)
            rig.drivers[0].publish()
            queue.stopping = True

    rig.post(IN, 0, into=512)
    rig.drivers[0].publish()
    view.gate = Refill()
    processed = rig.device.process(0)
    assert processed.completed == 1 and len(rig.drivers[0].reap()) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
def test_what_ends_a_batch_in_its_middle_is_not_blamed_on_the_driver(disk: Disk, error: type[BaseException]) -> None:
    """Data may have moved and the used index may be ahead of what the device believes: it must not simply go on."""
    view = VectoredFake(1 << 20)
    rig = Rig(view, disk)
    rig.post(OUT, 0, os.urandom(512))
    rig.drivers[0].publish()

    def fails(offset: int, amount: int) -> None:
        VectoredFake.add16(view, offset, amount)
        raise error("host")

    rig.device._queues[0]._memory.add16 = fails
    with pytest.raises(error):
        rig.device.process(0)
    with pytest.raises(DeviceNeedsReset, match="no fault of the driver"):
        rig.device.process(0)
    device = BlockDevice(view, disk)
    device.resume(DEFAULT, rig.rings)
    assert device.process(0).completed == 0
