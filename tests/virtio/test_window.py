"""The device on real private memory: pages that the guest takes back stop it instead of killing it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from live import require
from pagewarden.memory import PrivateMemory
from pagewarden.port import VectoredView
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.virtio.transfers import Transfers
from pagewarden.vocab import PAGE_SIZE, PageRange, PrivateAccess
from virtio_kit import IN, IOERR, OK, OUT, UNSUPP, Rig, image_disk, image_file, request

image, disk = pytest.fixture(image_file), pytest.fixture(image_disk)


@pytest.fixture
def memory() -> Iterator[PrivateMemory]:
    with PrivateMemory(1 << 20, "uffd-window") as made:
        made.share(PageRange(0, 256))
        yield made


def test_the_device_serves_through_the_window(memory: PrivateMemory, disk: Disk, image: int) -> None:
    rig = Rig(memory.window, disk)
    data = os.urandom(6000 // 512 * 512)
    posts = [
        rig.post(OUT, 4, data, cuts=(16, 700)),
        rig.post(IN, 4, into=len(data), indirect=True, cuts=(4000,)),
        *(rig.post(IN, n, into=512) for n in range(3)),
    ]
    processed, used = rig.serve()
    assert processed.completed == 5 == len(used) and [post.status for post in posts] == [OK] * 5
    assert posts[1].data == data == os.pread(image, len(data), 4 * 512)


@pytest.mark.parametrize("zero_device", [True, False])
def test_every_request_has_its_own_status(
    memory: PrivateMemory, disk: Disk, monkeypatch: pytest.MonkeyPatch, zero_device: bool
) -> None:
    """Where all went well they are zeroes of /dev/zero, where there is one; else none of them is."""
    if not zero_device:
        monkeypatch.setattr("pagewarden.memory.loan.zeroes", lambda: None)
    rig = Rig(memory.window, disk)
    kinds = {OK: (IN, 3), IOERR: (IN, 1 << 40), UNSUPP: (77, 0)}
    for batch in ([OK], [OK] * 5, [IOERR], [OK, UNSUPP, OK, IOERR], [OK, OK]):
        posts = [rig.post(*kinds[status], into=512) for status in batch]
        rig.serve()
        assert lent(rig) and [post.status for post in posts] == batch
    rig.device.close()


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
    window.write(64, b"\x11\xff" + old.to_bytes(2, "little") + b"\x22\x33")
    window.add16(66, amount)
    assert window.read(64, 6) == b"\x11\xff" + ((old + amount) & 0xFFFF).to_bytes(2, "little") + b"\x22\x33"


def test_a_number_in_a_private_page_stays(memory: PrivateMemory) -> None:
    window = memory.window
    memory.unshare(PageRange(1, 2))
    with pytest.raises(PrivateAccess):
        window.add16(PAGE_SIZE + 2, 5)
    for wrong in (0, 1, 3, 4, -2, window.size + 2):
        with pytest.raises(ValueError, match="not a 2-byte number"):
            window.add16(wrong, 1)
    memory.share(PageRange(1, 2))
    assert window.read(PAGE_SIZE, 4) == bytes(4)


def columns(*places: tuple[int, int]) -> NDArray[np.int64]:
    return np.array(places, np.int64).T.copy()


@pytest.mark.parametrize(
    "places",
    [
        [],
        [(100, 5)],
        [(100, 5), (3, 2), (4000, 300), (100, 5)],
        [(n * 96, 3) for n in range(3000)],
        [(0, 300_000), (9, 1)],
    ],
)
def test_many_places_at_once_are_what_they_are_one_by_one(memory: PrivateMemory, places: list[tuple[int, int]]) -> None:
    window = memory.window
    window.write(0, np.random.default_rng(3).bytes(window.size))
    before = window.read(0, window.size)
    target = np.zeros(sum(length for _, length in places), np.uint8)
    window.gather(columns(*places, (0, 1)), len(places), target)
    assert target.tobytes() == b"".join(before[start : start + length] for start, length in places)
    window.scatter(columns(*places, (0, 1)), len(places), ~target)
    expected = bytearray(before)
    for start, length in places:
        expected[start : start + length] = bytes(255 - byte for byte in before[start : start + length])
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
    with pytest.raises(ValueError, match="do not lie"):
        memory.window.gather(columns((0, 4), bad), 2, data)
    with pytest.raises(ValueError, match="do not lie"):
        memory.window.scatter(columns((0, 4), bad), 2, data)


def test_transfers_stop_where_not_all_of_a_run_moves(memory: PrivateMemory, image: int) -> None:
    """Two reads, a write, then each kind of run that cannot be: those before it are done."""
    window, before = memory.window, os.pread(image, 1 << 20, 0)
    memory.unshare(PageRange(5, 6))
    places = columns((0, 512), (PAGE_SIZE, 512), (9000, 1024), (5 * PAGE_SIZE - 100, 512), (1 << 20, 512), (3000, 512))
    good = [[0, 512, 0, 2], [0, 0, 2, 3], [1, 4096, 0, 1]]
    for bad in ([0, 0, 3, 4], [1, 0, 3, 4], [0, 0, 4, 5], [4, 0, 5, 6], [0, 65536 - 256, 5, 6], [0, 0, 5, 5]):
        window.write(0, bytes(3 * PAGE_SIZE))
        assert window.transfer(image, np.array([*good, bad, *good], np.int64), places) == 3
        assert window.read(0, 512) == before[512:1024] and window.read(PAGE_SIZE, 512) == before[1024:1536]
        assert window.read(9000, 1024) == before[:1024]
        expected = before[:4096] + before[512:1024] + before[4608:]
        assert os.pread(image, 1 << 20, 0)[512:] == expected[512:], bad
        os.pwrite(image, before, 0)


def test_a_disk_without_a_cache_is_served_with_the_pages_held(memory: PrivateMemory, tmp_path: Path) -> None:
    try:
        file = os.open(tmp_path / "direct", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    except OSError as missing:
        require(False, f"no O_DIRECT here: {missing}")
        return
    os.ftruncate(file, 1 << 16)
    rig = Rig(memory.window, Disk(file))
    runs = np.array([[0, 0, 0, 1]], np.int64)
    assert memory.window.transfer(file, runs, columns((0, 4096))) == 0
    header, status, data = rig.arena.take(16), rig.arena.take(1), rig.arena.take(PAGE_SIZE, PAGE_SIZE)
    content = os.urandom(PAGE_SIZE)
    memory.window.write(data, content)
    for kind in (OUT, IN):
        memory.window.write(header, request(kind, 8))
        part = [(data, PAGE_SIZE)]
        rig.drivers[0].add_chain([(header, 16), *(part * (kind == OUT))], [*(part * (kind == IN)), (status, 1)])
        _, (used,) = rig.serve()
        assert memory.window.read(status, 1)[0] == OK and memory.window.read(data, PAGE_SIZE) == content
    os.close(file)
    assert used.length == PAGE_SIZE + 1 and (tmp_path / "direct").read_bytes()[4096:8192] == content


def by_python(rig: Rig) -> Transfers:
    """The transfers of the device, not made in the compiled pass from now on."""
    queue = rig.device._queues[0]
    queue._work["quick"] = 0
    return queue._transfers


def lent(rig: Rig) -> bool:
    loan = rig.device._queues[0]._at_once._loan
    return loan is not None and loan.good


def test_a_ring_is_borrowed_and_given_back(memory: PrivateMemory, disk: Disk, image: int) -> None:
    """Taken back by an unshare, the device finds it private; shared again, a fresh one borrows it anew."""
    rig = Rig(memory.window, disk)
    assert rig.do(IN, 3, into=1024)[:2] == (OK, os.pread(image, 1024, 1536)) and lent(rig)
    page = rig.rings[0].used // PAGE_SIZE
    memory.unshare(PageRange(page, page + 1))
    assert not lent(rig)
    with pytest.raises(DeviceNeedsReset, match="is private"):
        rig.device.process(0)
    memory.share(PageRange(page, page + 1))
    rig.device.write_status(0)
    assert not memory._consumers.lent
    again = Rig(memory.window, disk)
    assert again.do(IN, 0, into=512)[:2] == (OK, os.pread(image, 512, 0)) and lent(again)
    again.device.close()
    assert not memory._consumers.lent


def test_a_ring_taken_back_during_the_transfer_hands_nothing_back(memory: PrivateMemory, disk: Disk) -> None:
    rig = Rig(memory.window, disk)
    rig.do(IN, 3, into=1024)
    transfers = by_python(rig)
    perform = transfers.perform
    page = rig.rings[0].used // PAGE_SIZE

    def closing(*arguments: Any) -> object:
        memory.unshare(PageRange(page, page + 1))
        return perform(*arguments)

    transfers.perform = closing  # type: ignore[method-assign, assignment]
    rig.post(IN, 0, into=512)
    rig.drivers[0].publish()
    with pytest.raises(DeviceNeedsReset, match="is private"):
        rig.device.process(0)
    memory.share(PageRange(page, page + 1))
    assert rig.drivers[0].reap() == []


def test_a_status_that_turns_private_hands_nothing_back(memory: PrivateMemory, disk: Disk) -> None:
    rig = Rig(memory.window, disk)
    rig.do(IN, 3, into=1024)
    transfers = by_python(rig)
    perform = transfers.perform
    header, status = rig.arena.take(16), rig.arena.take(1, PAGE_SIZE)
    data = rig.arena.take(512, PAGE_SIZE)
    memory.window.write(header, request(IN, 0))
    rig.drivers[0].add_chain([(header, 16)], [(data, 512), (status, 1)])
    rig.drivers[0].publish()

    def closing(*arguments: Any) -> object:
        memory.unshare(PageRange.covering(status, 1))
        return perform(*arguments)

    transfers.perform = closing  # type: ignore[method-assign, assignment]
    with pytest.raises(DeviceNeedsReset, match=f"gpa {status:#x} is private"):
        rig.device.process(0)
    assert lent(rig) and rig.drivers[0].reap() == []
