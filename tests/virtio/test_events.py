"""Who tells whom, and when: kicks and interrupts, with event indices and with flags, and while the device works."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.virtio.ring import Ring, need_event
from virtio_kit import DEFAULT, EVENT, IN, OK, FakeView, Rig, VectoredFake, image_disk, image_file

image, disk = pytest.fixture(image_file), pytest.fixture(image_disk)
MODES = pytest.mark.parametrize("features", [DEFAULT, DEFAULT & ~EVENT], ids=["events", "flags"])
index = st.integers(0, 0xFFFF)


class Hooked(FakeView):
    """Something happens at each transfer from the disk."""

    hook: Callable[[], object] = staticmethod(lambda: None)

    def pread_from(self, fd: int, file_offset: int, segments: Sequence[tuple[int, int]]) -> int:
        if segments[0][1] >= 512:
            self.hook()
        return super().pread_from(fd, file_offset, segments)


def made(disk: Disk, features: int, size: int = 16) -> tuple[Rig, Hooked]:
    view = Hooked(1 << 20)
    rig = Rig(view, disk, features, size)
    rig.device.process(0)  # the interrupt that a resumed device owes
    return rig, view


@given(index, index, index)
def test_an_event_is_due_when_the_index_passed_it(event: int, old: int, new: int) -> None:
    assert need_event(event, new, old) == ((event - old) % 65536 < (new - old) % 65536)


def test_with_events_a_kick_is_wanted_once(disk: Disk) -> None:
    rig, _ = made(disk, DEFAULT)
    driver = rig.drivers[0]
    for _ in range(3):
        rig.post(IN, 0, into=512)
        assert driver.publish()
        rig.post(IN, 0, into=512)
        assert not driver.publish()
        assert rig.device.process(0).completed == 2
        driver.reap()


@MODES
def test_no_kick_is_wanted_while_the_device_works(disk: Disk, features: int) -> None:
    rig, view = made(disk, features)
    wanted: list[bool] = []

    def add() -> None:
        if len(wanted) < 3:
            rig.post(IN, 1, into=512)
            wanted.append(rig.drivers[0].publish())

    view.hook = add
    rig.post(IN, 0, into=512)
    rig.drivers[0].publish()
    processed = rig.device.process(0)
    assert processed.completed == 4 and not processed.more and wanted == [False] * 3
    rig.post(IN, 0, into=512)
    assert rig.drivers[0].publish()


@MODES
def test_a_driver_that_never_stops_does_not_hold_the_device(disk: Disk, features: int) -> None:
    rig, view = made(disk, features)

    def add() -> None:
        rig.drivers[0].reap()
        rig.post(IN, 1, into=512)
        rig.drivers[0].publish()

    view.hook = add
    add()
    processed = rig.device.process(0)
    assert processed.more and 16 <= processed.completed <= 32
    view.hook = lambda: None
    assert rig.device.process(0)[::2] == (1, False)


@MODES
def test_interrupts_are_asked_for(disk: Disk, features: int) -> None:
    rig, _ = made(disk, features)
    driver = rig.drivers[0]
    driver.ask_interrupt(1)
    for _ in range(3):
        rig.post(IN, 0, into=512)
        driver.publish()
        assert rig.device.process(0).want_interrupt
        driver.reap()
        driver.ask_interrupt(1)
    driver.ask_interrupt(0)
    rig.post(IN, 0, into=512)
    driver.publish()
    assert not rig.device.process(0).want_interrupt


def test_an_interrupt_after_so_many(disk: Disk) -> None:
    rig, _ = made(disk, DEFAULT)
    rig.drivers[0].ask_interrupt(3)
    told = []
    for count in (1, 1, 1, 1, 3):
        for _ in range(count):
            rig.post(IN, 0, into=512)
        rig.drivers[0].publish()
        told.append(rig.device.process(0).want_interrupt)
        rig.drivers[0].reap()
    assert told == [False, False, True, False, False]


@MODES
def test_a_resumed_device_asks_for_kicks_and_owes_an_interrupt(disk: Disk, features: int) -> None:
    rig, view = made(disk, features)
    ring, driver = rig.rings[0], rig.drivers[0]
    rig.post(IN, 0, into=512)
    driver.publish()
    rig.device.process(0)
    if features & EVENT:
        view.write(ring.avail_event, b"\x77\x77")
    else:
        view.write(ring.used, b"\x01\x00")
    driver.ask_interrupt(0)
    device = BlockDevice(view, disk)
    device.resume(features, rig.rings)
    driver.reap()
    rig.post(IN, 0, into=512)
    assert driver.publish()
    assert device.process(0) == (1, True, False) and device.process(0) == (0, False, False)


def test_queues_are_apart(disk: Disk) -> None:
    rig = Rig(FakeView(1 << 20), disk, queues=3)
    posts = [rig.post(IN, n, into=512, queue=queue) for n, queue in enumerate((0, 1, 1, 2))]
    rig.drivers[0].publish()
    assert rig.serve(1)[0].completed == 2
    assert [post.status for post in posts] == [0xEE, OK, OK, 0xEE]
    assert rig.serve(2)[0].completed == 1 and rig.serve(0)[0].completed == 1
    assert [post.status for post in posts] == [OK] * 4


class Torn(VectoredFake):
    """The avail index is seen half written, so many times."""

    times, ring = 0, Ring(16, 0, 0, 0)

    def gather(self, places: NDArray[np.int64], count: int, target: NDArray[np.uint8]) -> None:
        super().gather(places, count, target)
        if self.times and places[0, 0] == self.ring.avail:
            self.times -= 1
            target[3] ^= 1


def test_half_an_index_is_not_believed(disk: Disk) -> None:
    view = Torn(1 << 20)
    rig = Rig(view, disk)
    view.ring, view.times = rig.rings[0], 5
    assert rig.do(IN, 0, into=512)[0] == OK and view.times == 0
    view.times = 1000
    with pytest.raises(DeviceNeedsReset, match="hold still"):
        rig.device.process(0)
    assert view.times == 900
