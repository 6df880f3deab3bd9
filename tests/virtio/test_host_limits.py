"""What this host cannot do is not the guest's fault: it is done another way, or fails with the reason known."""

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from live import require
from pagewarden.abi import virtio_blk as blk
from pagewarden.memory import PageRange, PrivateMemory
from pagewarden.virtio.disk import BOUNCE, Disk, aligned
from pagewarden.vocab import PAGE_SIZE
from virtio_kit import IN, IOERR, OK, OUT, V1, FakeView, Rig, image_disk, image_file, request

image, disk = pytest.fixture(image_file), pytest.fixture(image_disk)
SIZE = 4 << 20


@pytest.fixture
def direct(tmp_path: Path) -> Iterator[int]:
    """A disk without a cache."""
    try:
        file = os.open(tmp_path / "direct", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    except OSError as missing:
        require(False, f"no O_DIRECT here: {missing}")
        return
    os.ftruncate(file, SIZE)
    yield file
    os.close(file)


@pytest.fixture(params=["uffd-window", "memfd-secret"])
def memory(request: pytest.FixtureRequest) -> Iterator[PrivateMemory]:
    with PrivateMemory(2 * SIZE, request.param) as made:
        made.share(PageRange(0, 2 * SIZE // PAGE_SIZE))
        yield made


@pytest.mark.parametrize("skew", [0, 8, 511])
@pytest.mark.parametrize("length", [512, 4096, BOUNCE + 512, 2 * BOUNCE])
def test_a_disk_without_a_cache_takes_any_shared_page(
    memory: PrivateMemory, direct: int, length: int, skew: int
) -> None:
    """memfd_secret cannot be pinned, and parts that are not aligned are refused: both go through a buffer."""
    disk = Disk(direct)
    if length % disk.block:
        pytest.skip(f"this file moves blocks of {disk.block}")
    rig = Rig(memory.window, disk)
    header, status = rig.arena.take(16), rig.arena.take(1)
    data, content = rig.arena.take(length + skew, PAGE_SIZE) + skew, os.urandom(length)
    memory.window.write(data, content)
    cut = length // 3
    for kind in (OUT, IN):
        memory.window.write(header, request(kind, 8))
        parts = [(data, cut), (data + cut, length - cut)]
        rig.drivers[0].add_chain([(header, 16), *(parts * (kind == OUT))], [*(parts * (kind == IN)), (status, 1)])
        _, (used,) = rig.serve()
        assert memory.window.read(status, 1)[0] == OK, disk.trouble
        assert used.length == 1 + length * (kind == IN) and memory.window.read(data, length) == content
        memory.window.write(data, bytes(length) if kind == OUT else content)
    assert disk.trouble is None
    rig.device.close()


def test_a_private_page_is_still_the_guests_affair(memory: PrivateMemory, direct: int) -> None:
    """Between the check and the transfer: nothing of it reaches the disk."""
    rig = Rig(memory.window, Disk(direct))
    transfers = rig.device._queues[0]._transfers
    perform = transfers.perform
    data = rig.arena.take(PAGE_SIZE, PAGE_SIZE)
    memory.window.write(data, b"secret" * 100)
    header, status = rig.arena.take(16), rig.arena.take(1)
    memory.window.write(header, request(OUT, 0))
    rig.drivers[0].add_chain([(header, 16), (data, 512)], [(status, 1)])
    rig.drivers[0].publish()

    def closing(*arguments: Any) -> object:
        memory.unshare(PageRange.covering(data, 512))
        return perform(*arguments)

    transfers.perform = closing  # type: ignore[method-assign, assignment]
    with pytest.raises(Exception, match=f"gpa {data:#x} is private"):
        rig.device.process(0)
    with Path(f"/proc/self/fd/{direct}").open("rb") as file:
        assert file.read(4096) == bytes(4096)


class Picky(FakeView):
    """A view that has limits of its own."""

    error: BaseException = OSError(errno.EIO, "the medium")

    def pread_from(self, fd: int, file_offset: int, segments: Sequence[tuple[int, int]]) -> int:
        if segments[0][1] >= 512:
            raise self.error
        return super().pread_from(fd, file_offset, segments)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "the medium"), ValueError("8388608 bytes are too many")])
def test_the_first_error_of_the_host_is_kept_with_its_reason(disk: Disk, error: BaseException) -> None:
    """Whatever a view raises, the request has failed and the device goes on."""
    view = Picky(1 << 20)
    view.error = error
    rig = Rig(view, disk)
    assert rig.do(IN, 3, into=512)[0] == IOERR and rig.do(IN, 4, into=512)[0] == IOERR
    assert "512 bytes at byte 1536 of the disk: " in str(disk.trouble) and str(error.args[-1]) in str(disk.trouble)
    assert rig.do(OUT, 0, bytes(512))[0] == OK


def test_a_disk_that_ended_says_so(disk: Disk, image: int) -> None:
    rig = Rig(FakeView(1 << 20), disk)
    os.truncate(image, 0)
    assert rig.do(IN, 0, into=512)[0] == IOERR and "only 0 of them moved" in str(disk.trouble)


def blocks(monkeypatch: pytest.MonkeyPatch, image: int, size: int) -> None:
    """The file moves whole blocks of this size, as an O_DIRECT disk does."""

    def checked(call: object) -> object:
        def move(fd: int, buffers: list[memoryview], offset: int) -> int:
            if fd == image and (offset % size or sum(map(len, buffers)) % size):
                raise OSError(errno.EINVAL, "Invalid argument")
            return call(fd, buffers, offset)  # type: ignore[operator, no-any-return]

        return move

    monkeypatch.setattr(os, "preadv", checked(os.preadv))


def test_the_guest_is_told_of_large_blocks(image: int, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks(monkeypatch, image, 4096)
    disk = Disk(image)
    rig = Rig(FakeView(1 << 20), disk)
    assert disk.block == 4096 and rig.device.read_config(20, 4) == (4096).to_bytes(4, "little")
    assert rig.do(IN, 8, into=4096)[0] == OK
    assert rig.do(IN, 1, into=512)[0] == IOERR and "whole blocks of 4096" in str(disk.trouble)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV])
@pytest.mark.parametrize("kind", [blk.VIRTIO_BLK_T_DISCARD, blk.VIRTIO_BLK_T_WRITE_ZEROES])
def test_a_disk_that_cannot_have_holes_writes_zeroes(image: int, kind: int, code: int) -> None:
    tries: list[int] = []

    def punch(fd: int, offset: int, length: int) -> None:
        tries.append(offset)
        raise OSError(code, "no holes")

    rig = Rig(FakeView(1 << 20), Disk(image, punch=punch))
    before = os.pread(image, 1 << 20, 0)
    unmap = (kind == blk.VIRTIO_BLK_T_WRITE_ZEROES).to_bytes(4, "little")
    for first in (1, 9):
        assert rig.do(kind, 0, first.to_bytes(8, "little") + (2).to_bytes(4, "little") + unmap)[0] == OK
    assert tries == [512], "asked once"
    gone = before[:512] + bytes(1024) + before[1536:4608] + bytes(1024) + before[5632:]
    assert os.pread(image, 1 << 20, 0) == gone


def test_an_empty_range_is_nothing_to_do(image: int) -> None:
    """fallocate(2) refuses a length of 0 with EINVAL."""

    def punch(fd: int, offset: int, length: int) -> None:
        if not length:
            raise OSError(errno.EINVAL, "Invalid argument")

    rig = Rig(FakeView(1 << 20), Disk(image, punch=punch))
    empty = (5).to_bytes(8, "little") + bytes(8)
    assert rig.do(blk.VIRTIO_BLK_T_DISCARD, 0, empty)[0] == OK


def test_zeroes_reach_a_disk_without_a_cache(direct: int) -> None:
    ones = aligned(8192)
    ones[:] = 1
    os.pwritev(direct, [ones.data], 0)
    disk = Disk(direct)
    rig = Rig(FakeView(1 << 20), disk, V1 | 1 << blk.VIRTIO_BLK_F_WRITE_ZEROES)
    assert rig.do(blk.VIRTIO_BLK_T_WRITE_ZEROES, 0, (8).to_bytes(8, "little") + (8).to_bytes(8, "little"))[0] == OK
    assert disk.trouble is None
    with Path(f"/proc/self/fd/{direct}").open("rb") as file:
        assert file.read(8192) == b"\1" * 4096 + bytes(4096)
