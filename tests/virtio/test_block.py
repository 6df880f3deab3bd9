"""What a block device does with good rings."""

import errno
import os
import struct

import pytest

from pagewarden.abi import virtio, virtio_blk
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from virtio_kit import (
    DEFAULT,
    EVENT,
    FLUSH,
    IN,
    IOERR,
    OK,
    OUT,
    SECTOR,
    UNSUPP,
    V1,
    FakeView,
    Rig,
    image_disk,
    image_file,
    plain_rig,
)

GET_ID, DISCARD, ZEROES = (
    virtio_blk.VIRTIO_BLK_T_GET_ID,
    virtio_blk.VIRTIO_BLK_T_DISCARD,
    virtio_blk.VIRTIO_BLK_T_WRITE_ZEROES,
)

image, disk, rig = pytest.fixture(image_file), pytest.fixture(image_disk), pytest.fixture(plain_rig)


def part(sector: int, sectors: int, flags: int) -> bytes:
    """What a discard or write-zeroes request is about."""
    return struct.pack("<QII", sector, sectors, flags)


def test_read_gives_the_bytes_of_the_image(rig: Rig, image: int) -> None:
    assert rig.do(IN, 3, into=1024) == (OK, os.pread(image, 1024, 3 * SECTOR), 1025)


def test_write_reaches_the_image_and_nothing_else(rig: Rig, image: int) -> None:
    before = os.pread(image, 1 << 20, 0)
    data = bytes(range(256)) * 4
    assert rig.do(OUT, 5, data) == (OK, b"", 1)
    assert os.pread(image, 1 << 20, 0) == before[: 5 * SECTOR] + data + before[5 * SECTOR + 1024 :]


@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize("cuts", [(), (1,), (8, 16), (16,), (16, 100, 511), (15, 17, 512, 528), (3, 1024)])
def test_how_a_chain_is_cut_says_nothing(rig: Rig, image: int, cuts: tuple[int, ...], indirect: bool) -> None:
    data = os.urandom(1024)
    write = rig.post(OUT, 7, data, cuts=cuts, indirect=indirect)
    read = rig.post(IN, 7, into=1024, cuts=cuts, indirect=indirect)
    processed, used = rig.serve()
    assert processed.completed == 2 and [u.length for u in used] == [1, 1025]
    assert (write.status, read.status, read.data) == (OK, OK, data)


def test_a_chain_may_end_in_an_indirect_descriptor(rig: Rig, image: int) -> None:
    """Virtio 1.2, 2.7.5.3.2: normal descriptors followed by a single indirect one."""
    post = rig.post(IN, 2, into=512)
    ring, view = rig.rings[0], rig.view
    header, data = (view.read(ring.desc + 16 * (post.head + n), 16) for n in range(2))
    table = rig.arena.take(16, 16)
    view.write(table, data)
    view.write(ring.desc + 16 * (post.head + 1), struct.pack("<QIHH", table, 16, virtio.VIRTQ_DESC_F_INDIRECT, 0))
    assert header[12] == virtio.VIRTQ_DESC_F_NEXT
    rig.serve()
    assert (post.status, post.data) == (OK, os.pread(image, 512, 1024))


def test_adjacent_requests_are_served_like_any_others(rig: Rig, image: int) -> None:
    reads = [rig.post(IN, 10 + n, into=512, cuts=(512,)) for n in range(4)]
    rig.serve()
    assert b"".join(post.data for post in reads) == os.pread(image, 2048, 10 * SECTOR)
    assert [post.status for post in reads] == [OK] * 4


def test_requests_of_a_batch_act_in_order(rig: Rig) -> None:
    first, second = os.urandom(512), os.urandom(512)
    rig.post(OUT, 1, first)
    between = rig.post(IN, 1, into=512)
    rig.post(OUT, 1, second)
    after = rig.post(IN, 1, into=512)
    rig.serve()
    assert (between.data, after.data) == (first, second)


@pytest.mark.parametrize(
    ("kind", "sector", "out", "into", "status"),
    [
        (IN, 128, b"", 512, IOERR),
        (IN, 127, b"", 1024, IOERR),
        (IN, -1, b"", 512, IOERR),
        (IN, 1 << 55, b"", 512, IOERR),
        (OUT, 128, bytes(512), 0, IOERR),
        (OUT, 0, bytes(100), 0, IOERR),
        (OUT, 0, b"", 0, IOERR),
        (IN, 0, b"", 0, IOERR),
        (IN, 0, b"", 700, IOERR),
        (GET_ID, 0, b"", 19, IOERR),
        (DISCARD, 0, b"", 0, IOERR),
        (DISCARD, 0, bytes(15), 0, IOERR),
        (DISCARD, 0, part(0, 1, 0) + part(1, 1, 0), 0, UNSUPP),
        (ZEROES, 0, part(0, 1, 0) + part(1, 1, 0), 0, UNSUPP),
        (ZEROES, 0, part(127, 2, 0), 0, IOERR),
        (ZEROES, 0, part((1 << 64) - 1, 1, 0), 0, IOERR),
        (ZEROES, 0, part(0, 8193, 0), 0, IOERR),
        (ZEROES, 0, part(0, 1, 2), 0, UNSUPP),
        (DISCARD, 0, part(0, 1, 1), 0, UNSUPP),
        (DISCARD, 0, part(200, 1, 0), 0, IOERR),
        (2, 0, b"", 0, UNSUPP),
        (99, 0, bytes(64), 64, UNSUPP),
        (-1, 0, b"", 512, UNSUPP),
        (32, 0, b"", 512, UNSUPP),
        (1 << 31, 0, b"", 512, UNSUPP),
    ],
)
def test_what_is_asked_in_vain_is_answered_with_a_status(
    rig: Rig, image: int, kind: int, sector: int, out: bytes, into: int, status: int
) -> None:
    before = os.pread(image, 1 << 20, 0)
    assert rig.do(kind, sector, out, into) == (status, b"\xee" * into, int(into == 0))
    assert os.pread(image, 1 << 20, 0) == before
    assert rig.do(FLUSH, 0)[0] == OK


def test_the_last_sector_can_be_used(rig: Rig) -> None:
    data = os.urandom(512)
    assert rig.do(OUT, 127, data)[0] == OK
    assert rig.do(IN, 127, into=512) == (OK, data, 513)


def test_identity(rig: Rig) -> None:
    assert rig.do(GET_ID, 0, into=20) == (OK, b"disk-1".ljust(20, b"\0"), 21)
    status, data, used = rig.do(GET_ID, 0, into=30)
    assert (status, data, used) == (OK, b"disk-1".ljust(20, b"\0") + b"\xee" * 10, 20)


def test_write_zeroes(rig: Rig, image: int) -> None:
    before = os.pread(image, 1 << 20, 0)
    assert rig.do(ZEROES, 0, part(2, 1, 0))[0] == rig.do(ZEROES, 0, part(10, 2, 1))[0] == OK
    after = os.pread(image, 1 << 20, 0)
    assert after[1024:1536] == bytes(512) and after[5120:6144] == bytes(1024)
    assert after[:1024] + after[1536:5120] + after[6144:] == before[:1024] + before[1536:5120] + before[6144:]


def test_discard_and_unmap_go_to_the_hole_puncher(image: int) -> None:
    holes: list[tuple[int, int, int]] = []
    rig = Rig(FakeView(1 << 20), Disk(image, punch=lambda *hole: holes.append(hole)))
    assert rig.do(DISCARD, 0, part(2, 3, 0))[0] == OK
    assert rig.do(ZEROES, 0, part(9, 1, 1))[0] == OK
    assert holes == [(image, 1024, 1536), (image, 9 * 512, 512)]


def test_the_smallest_queue_serves_direct_chains(disk: Disk, image: int) -> None:
    rig = Rig(FakeView(1 << 20), disk, size=4)
    rig.device.close()
    rig.device = BlockDevice(rig.view, disk, queue_size=4)
    rig.device.resume(DEFAULT, rig.rings)
    assert rig.do(IN, 3, into=1024) == (OK, os.pread(image, 1024, 3 * SECTOR), 1025)


class Faulty(Disk):
    """A disk that forgets how to flush."""

    flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        raise OSError(errno.EIO, "no")


def test_a_failing_flush_is_an_error_of_its_request_alone(image: int) -> None:
    rig = Rig(FakeView(1 << 20), Faulty(image))
    posts = [rig.post(OUT, 0, bytes(512)), rig.post(FLUSH, 0), rig.post(FLUSH, 0), rig.post(IN, 0, into=512)]
    rig.serve()
    assert [post.status for post in posts] == [OK, IOERR, IOERR, OK]


def test_without_flush_every_write_is_stable_or_fails(image: int) -> None:
    faulty = Faulty(image)
    rig = Rig(FakeView(1 << 20), faulty, V1)
    posts = [rig.post(OUT, 0, bytes(512)), rig.post(IN, 0, into=512), rig.post(FLUSH, 0)]
    rig.serve()
    assert [post.status for post in posts] == [IOERR, OK, UNSUPP] and faulty.flushes == 1


def test_a_disk_that_shrank_fails_only_what_it_lost(rig: Rig, image: int) -> None:
    os.truncate(image, 20 * SECTOR)
    posts = [rig.post(IN, 18 + n, into=512, cuts=(512,)) for n in range(4)]
    _, used = rig.serve()
    assert [post.status for post in posts] == [OK, OK, IOERR, IOERR]
    assert [u.length for u in used] == [513, 513, 0, 0]


def test_a_request_in_vain_parts_what_could_be_one_transfer(rig: Rig, image: int) -> None:
    os.truncate(image, 20 * SECTOR)
    posts = [rig.post(IN, sector, into=into) for sector, into in ((18, 512), (0, 0), (19, 512), (20, 512))]
    rig.serve()
    assert [post.status for post in posts] == [OK, IOERR, OK, IOERR]


def test_a_read_only_disk_refuses_writes(image: int) -> None:
    rig = Rig(FakeView(1 << 20), Disk(image, read_only=True), V1)
    assert rig.device.offered >> virtio_blk.VIRTIO_BLK_F_RO & 1
    assert not rig.device.offered >> virtio_blk.VIRTIO_BLK_F_DISCARD & 1
    before = os.pread(image, 512, 0)
    assert rig.do(OUT, 0, bytes(512))[0] == IOERR and os.pread(image, 512, 0) == before
    assert rig.do(IN, 0, into=512)[0] == OK


@pytest.mark.parametrize("size", [1, 2, 4, 256, 1024])
@pytest.mark.parametrize("features", [DEFAULT, DEFAULT & ~EVENT])
def test_indices_wrap(disk: Disk, size: int, features: int) -> None:
    """More chains than 2^16 through a ring, in lots that do not divide it."""
    rig = Rig(FakeView(1 << 20), disk, features, size)
    driver, lot = rig.drivers[0], max(1, size - 1 - size // 3)
    header, status = rig.arena.take(16), rig.arena.take(1)
    data = rig.arena.take(512)
    rig.view.write(header, struct.pack("<IIQ", IN, 0, 1))
    table = rig.arena.take(48, 16)
    total, goal = 0, 70_000 if size > 100 else 3 * size
    if size <= 100:  # start near the edge instead of going all the way
        driver._avail = driver._told = driver._used = 0xFFFF - size
        for at in (rig.rings[0].avail + 2, rig.rings[0].used + 2):
            rig.view.write(at, (0xFFFF - size).to_bytes(2, "little"))
        rig.device.resume(features, rig.rings)
    while total < goal:
        for _ in range(lot):
            driver.add_chain([(header, 16)], [(data, 512), (status, 1)], table)
        driver.publish()
        processed = rig.device.process(0)
        assert processed.completed == lot == len(driver.reap()) and not processed.more
        total += lot
    assert driver.free == size
