"""The device on real private memory: pages that the guest takes back stop it instead of killing it."""

import os
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from virtio_kit import IN, OK, OUT, Rig, image_disk, image_file

from live import require
from pagewarden.memory import PrivateMemory
from pagewarden.port import VectoredView
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.vocab import PAGE_SIZE, PageRange, PrivateAccess, Unavailable

image, disk = pytest.fixture(image_file), pytest.fixture(image_disk)


@pytest.fixture
def memory() -> Iterator[PrivateMemory]:
    try:
        made = PrivateMemory(1 << 20, "uffd-window")
    except Unavailable as missing:
        require(False, str(missing))
        return
    with made:
        made.share(PageRange(0, 256))
        yield made


def test_the_device_serves_through_the_window(memory: PrivateMemory, disk: Disk, image: int) -> None:
    rig = Rig(memory.window, disk)
    data = os.urandom(6000 // 512 * 512)
    posts = [rig.post(OUT, 4, data, cuts=(16, 700)), rig.post(IN, 4, into=len(data), indirect=True, cuts=(4000,)),
             *(rig.post(IN, n, into=512) for n in range(3))]
    processed, used = rig.serve()
    assert processed.completed == 5 == len(used) and [post.status for post in posts] == [OK] * 5
    assert posts[1].data == data == os.pread(image, len(data), 4 * 512)


@pytest.mark.parametrize("page", ["avail", "used", "desc", "data"])
def test_a_page_taken_back_stops_it_without_a_trace(memory: PrivateMemory, disk: Disk, image: int, page: str) -> None:
    rig = Rig(memory.window, disk)
    rig.arena.take(0, PAGE_SIZE)
    post = rig.post(OUT, 0, os.urandom(512))
    rig.drivers[0].publish()
    gpa = rig.start if page == "data" else getattr(rig.rings[0], page)
    before = os.pread(image, 1 << 20, 0)
    taken = PageRange.covering(gpa, 1)
    memory.unshare(taken)
    with pytest.raises(DeviceNeedsReset, match=f"gpa 0x{gpa // PAGE_SIZE:x}... is private"):
        rig.device.process(0)
    memory.share(taken)
    assert os.pread(image, 1 << 20, 0) == before and post.status == 0xEE and rig.drivers[0].reap() == []
    again = Rig(memory.window, disk)
    assert again.do(IN, 0, into=512)[:2] == (OK, before[:512])


@pytest.mark.parametrize(("old", "amount"), [(0, 1), (0xFF, 1), (0xFFFF, 1), (3, 0xFFFF), (0x1234, 0x0FED), (9, 0)])
def test_a_number_grows_in_place_and_nothing_beside_it(memory: PrivateMemory, old: int, amount: int) -> None:
    window = memory.window
    assert isinstance(window, VectoredView)
    window.write(64, b"\x11\xFF" + old.to_bytes(2, "little") + b"\x22\x33")
    window.add16(66, amount)
    assert window.read(64, 6) == b"\x11\xFF" + ((old + amount) & 0xFFFF).to_bytes(2, "little") + b"\x22\x33"


def test_a_number_in_a_private_page_stays(memory: PrivateMemory) -> None:
    window = memory.window
    memory.unshare(PageRange(1, 2))
    with pytest.raises(PrivateAccess):
        window.add16(PAGE_SIZE + 2, 5)
    for wrong in (0, 1, 3, 4, -2, window.size + 2):
        with pytest.raises(ValueError):
            window.add16(wrong, 1)
    memory.share(PageRange(1, 2))
    assert window.read(PAGE_SIZE, 4) == bytes(4)


def columns(*places: tuple[int, int]) -> NDArray[np.int64]:
    return np.array(places, np.int64).T.copy()


@pytest.mark.parametrize("places", [
    [], [(100, 5)], [(100, 5), (3, 2), (4000, 300), (100, 5)], [(n * 96, 3) for n in range(3000)],
    [(0, 300_000), (9, 1)],
])
def test_many_places_at_once_are_what_they_are_one_by_one(memory: PrivateMemory, places: list[tuple[int, int]]) -> None:
    window = memory.window
    window.write(0, np.random.default_rng(3).bytes(window.size))
    before = window.read(0, window.size)
    target = np.zeros(sum(length for _, length in places), np.uint8)
    window.gather(columns(*places, (0, 1)), len(places), target)
    assert target.tobytes() == b"".join(before[start:start + length] for start, length in places)
    window.scatter(columns(*places, (0, 1)), len(places), ~target)
    expected = bytearray(before)
    for start, length in places:
        expected[start:start + length] = bytes(255 - byte for byte in before[start:start + length])
    assert window.read(0, window.size) == expected


@pytest.mark.parametrize("bad", [(5 * PAGE_SIZE - 2, 4), (5 * PAGE_SIZE, 1), (4 * PAGE_SIZE, 2 * PAGE_SIZE)])
def test_a_private_place_is_named(memory: PrivateMemory, bad: tuple[int, int]) -> None:
    memory.unshare(PageRange(5, 6))
    data = np.ones(2 * bad[1], np.uint8)
    with pytest.raises(PrivateAccess) as gathered:
        memory.window.gather(columns((0, bad[1]), bad), 2, data)
    with pytest.raises(PrivateAccess) as scattered:
        memory.window.scatter(columns((0, bad[1]), bad), 2, data)
    assert gathered.value.offset == scattered.value.offset == 5 * PAGE_SIZE


@pytest.mark.parametrize("bad", [(-1, 4), (0, -1), ((1 << 20) - 3, 4), (1 << 20, 1), ((1 << 63) - 1, 4)])
def test_places_outside_are_refused(memory: PrivateMemory, bad: tuple[int, int]) -> None:
    data = np.ones(8, np.uint8)
    with pytest.raises(ValueError):
        memory.window.gather(columns((0, 4), bad), 2, data)
    with pytest.raises(ValueError):
        memory.window.scatter(columns((0, 4), bad), 2, data)
