"""A device behind a socket, without a guard: what a driver finds on the other side, and what stays behind."""

import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from front_end import PATIENCE, BackEndError, FrontEnd
from leftovers import descriptors
from pagewarden.abi import vhost_user as abi
from pagewarden.abi.vhost_user import FrontRequest as Ask
from pagewarden.abi.virtio import VIRTIO_F_ACCESS_PLATFORM
from pagewarden.memory import PrivateMemory
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from served_rig import MEMORY, SealedMemory, ServedRig, ServerThread
from virtio_kit import DEFAULT, FLUSH, IN, OK, OUT, SECTOR
from waits import in_time

SECTORS = 256


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(np.random.default_rng(1).bytes(SECTORS * SECTOR))
    return path


@pytest.fixture
def server(image: Path) -> Iterator[ServerThread]:
    with closing(ServerThread(image)) as made:
        yield made


@pytest.fixture
def memory() -> Iterator[PrivateMemory]:
    with PrivateMemory(MEMORY, "memfd", shared=True) as made:
        yield made


def test_reads_and_writes_reach_the_disk(server: ServerThread, memory: PrivateMemory, image: Path) -> None:
    with closing(ServedDisk(image)) as disk, server.connected() as connection:
        rig = ServedRig(memory, connection, disk.disk)
        before = image.read_bytes()
        assert rig.do(IN, 3, into=4096)[:2] == (OK, before[3 * SECTOR : 3 * SECTOR + 4096])
        assert rig.do(OUT, 8, b"\x5a" * 1024)[0] == OK
        assert rig.do(FLUSH, 0)[0] == OK
        assert image.read_bytes() == before[: 8 * SECTOR] + b"\x5a" * 1024 + before[10 * SECTOR :]
        assert rig.front.stop(0) == 3
        rig.front.close()
    assert server.counts.requests == 3 and server.device.carried == 4096 + 1024
    assert not server.said and not server.counts.trouble
    assert server.counts.max_open == MEMORY // 4096 and server.counts.open_now == 0


@pytest.mark.parametrize("sealed", [True, False])
def test_a_ring_is_used_where_it_stands_if_nobody_can_make_its_file_shorter(
    server: ServerThread, memory: PrivateMemory, image: Path, sealed: bool
) -> None:
    """A ring that is gone with the end of its file waits for a reset."""
    with ExitStack() as opened:
        where = opened.enter_context(closing(SealedMemory())) if sealed else memory
        disk = opened.enter_context(closing(ServedDisk(image)))
        rig = ServedRig(where, opened.enter_context(server.connected()), disk.disk)
        assert rig.do(IN, 3, into=4096)[:2] == (OK, image.read_bytes()[3 * SECTOR : 3 * SECTOR + 4096])
        assert isinstance(server.device, BlockDevice)
        assert (server.device._queues[0]._at_once._loan is not None) == sealed
        if sealed:
            with pytest.raises(PermissionError):
                os.ftruncate(where.file, 0)
        else:
            os.ftruncate(where.file, 0)
            rig.queue.kick()
            assert in_time(lambda: bool(server.counts.trouble))
        rig.front.close()
    assert not server.said


class ServedDisk:
    """The rig wants a disk of its own; it is not used."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR)
        self.disk = Disk(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def test_a_front_end_that_comes_again_goes_on(server: ServerThread, memory: PrivateMemory, image: Path) -> None:
    with closing(ServedDisk(image)) as disk:
        with server.connected() as connection:
            rig = ServedRig(memory, connection, disk.disk)
            assert rig.do(IN, 0, into=512)[0] == OK
            rig.front.close()
        open_before = descriptors(sweep=True)
        for _ in range(3):
            with server.connected() as connection:
                rig.front = FrontEnd(connection, memory.file, memory.size, DEFAULT)
                rig.queue = rig.front.start(0, rig.rings[0])
                assert rig.do(IN, 1, into=512)[:2] == (OK, image.read_bytes()[512:1024])
                rig.front.close()
        assert descriptors(sweep=True) == open_before
    assert server.counts.requests == 4


def test_a_ring_that_stops_and_starts_with_the_eventfd_it_had_is_served(
    server: ServerThread, memory: PrivateMemory, image: Path
) -> None:
    """The front end holds the eventfd all the time, and the number that it gets here is free again."""
    with closing(ServedDisk(image)) as disk, server.connected() as connection:
        rig = ServedRig(memory, connection, disk.disk)
        for round_ in range(1, 4):
            assert rig.do(IN, 1, into=512)[:2] == (OK, image.read_bytes()[512:1024])
            assert rig.front.stop(0) == round_
            rig.queue.kick()
            rig.front.tell(Ask.SET_VRING_BASE, abi.VRING_STATE.pack(0, round_))
            rig.front.tell(Ask.SET_VRING_KICK, abi.U64.pack(0), rig.queue.fds[0])
        rig.front.close()
    assert server.counts.requests == 3 and not server.said


def test_the_configuration_is_the_disk_s(server: ServerThread, memory: PrivateMemory) -> None:
    with server.connected() as connection, closing(FrontEnd(connection, memory.file, memory.size, DEFAULT)) as front:
        assert front.config()["capacity"] == SECTORS
        assert front.ask(Ask.GET_QUEUE_NUM) == 1
        assert front.ask(Ask.GET_MAX_MEM_SLOTS) == abi.MEMORY_SLOTS
        front.tell(Ask.SET_STATUS, abi.U64.pack(7))
        assert front.ask(Ask.GET_STATUS) == 7


def test_a_device_behind_an_iommu_is_refused(server: ServerThread, memory: PrivateMemory, image: Path) -> None:
    """It offers VIRTIO_F_ACCESS_PLATFORM, by which a guest bounces; QEMU takes it for itself behind an IOMMU alone."""
    with closing(ServedDisk(image)) as disk, server.connected() as connection, pytest.raises(BackEndError):
        ServedRig(memory, connection, disk.disk, DEFAULT | 1 << VIRTIO_F_ACCESS_PLATFORM)
    assert any("--mode iommu" in said for said in server.said)


def test_regions_come_and_go(server: ServerThread, memory: PrivateMemory) -> None:
    with server.connected() as connection, closing(FrontEnd(connection, memory.file, 4096, DEFAULT)) as front:
        row = abi.SINGLE_REGION.pack(0, 1 << 20, 8192, 1 << 30, 4096)
        front.tell(Ask.ADD_MEM_REG, row, memory.file)
        memory.private_write(4096, b"there")
        assert server.regions.region.memory[1 << 20 : (1 << 20) + 5].tobytes() == b"there"
        assert server.regions.gpa_of((1 << 30) + 100, 8092) == (1 << 20) + 100
        front.tell(Ask.REM_MEM_REG, row)
        with pytest.raises(BackEndError):
            front.tell(Ask.REM_MEM_REG, row)


HOSTILE = {
    "features that were not offered": (Ask.SET_FEATURES, abi.U64.pack(1 << 63), 0),
    "no version 1": (Ask.SET_FEATURES, abi.U64.pack(1 << 9), 0),
    "protocol features": (Ask.SET_PROTOCOL_FEATURES, abi.U64.pack(1 << 2), 0),
    "ring 1 of 1": (Ask.SET_VRING_NUM, abi.VRING_STATE.pack(1, 16), 0),
    "an odd ring": (Ask.SET_VRING_NUM, abi.VRING_STATE.pack(0, 17), 0),
    "a large ring": (Ask.SET_VRING_NUM, abi.VRING_STATE.pack(0, 1 << 15), 0),
    "a ring that is not aligned": (Ask.SET_VRING_ADDR, abi.VRING_ADDR.pack(0, 0, 8, 0, 0, 0), 0),
    "a ring that is logged": (Ask.SET_VRING_ADDR, abi.VRING_ADDR.pack(0, 1, 0, 0, 0, 0), 0),
    "a base of 17 bits": (Ask.SET_VRING_BASE, abi.VRING_STATE.pack(0, 1 << 16), 0),
    "enabled by 2": (Ask.SET_VRING_ENABLE, abi.VRING_STATE.pack(0, 2), 0),
    "configuration beyond its end": (Ask.GET_CONFIG, abi.CONFIG_HEAD.pack(250, 60, 0) + bytes(60), 0),
    "configuration of another length": (Ask.GET_CONFIG, abi.CONFIG_HEAD.pack(0, 60, 0) + bytes(59), 0),
    "configuration written": (Ask.SET_CONFIG, abi.CONFIG_HEAD.pack(0, 1, 0) + b"x", 0),
    "no region": (Ask.SET_MEM_TABLE, abi.TABLE_HEAD.pack(1, 0) + abi.REGION.pack(0, 0, 0, 0), 1),
    "a region beyond its file": (Ask.SET_MEM_TABLE, abi.TABLE_HEAD.pack(1, 0) + abi.REGION.pack(0, 1 << 40, 0, 0), 1),
    "a region beyond all": (Ask.ADD_MEM_REG, abi.SINGLE_REGION.pack(0, 1 << 63, 4096, 1 << 20, 0), 1),
    "a region that wraps": (Ask.ADD_MEM_REG, abi.SINGLE_REGION.pack(0, 1 << 30, 4096, (1 << 64) - 4096, 0), 1),
    "half a page": (Ask.ADD_MEM_REG, abi.SINGLE_REGION.pack(0, 1 << 30, 2048, 1 << 40, 0), 1),
    "one region over another": (Ask.ADD_MEM_REG, abi.SINGLE_REGION.pack(0, 4096, 4096, 1 << 40, 0), 1),
    "an offset beyond the file": (Ask.ADD_MEM_REG, abi.SINGLE_REGION.pack(0, 1 << 30, 4096, 1 << 40, 1 << 40), 1),
    "two regions, one row": (Ask.SET_MEM_TABLE, abi.TABLE_HEAD.pack(2, 0) + abi.REGION.pack(0, 4096, 0, 0), 1),
    "one region, two descriptors": (Ask.SET_MEM_TABLE, abi.TABLE_HEAD.pack(1, 0) + abi.REGION.pack(0, 4096, 0, 0), 2),
    "a region that is not there": (Ask.REM_MEM_REG, abi.SINGLE_REGION.pack(0, 4096, 4096, 0, 0), 0),
    "a file as an eventfd": (Ask.SET_VRING_KICK, abi.U64.pack(0), 1),
    "an eventfd that is missing": (Ask.SET_VRING_CALL, abi.U64.pack(0), 0),
    "one too many": (Ask.SET_VRING_CALL, abi.U64.pack(abi.VRING_NOFD), 1),
    "an eventfd of ring 9": (Ask.SET_VRING_CALL, abi.U64.pack(9), 1),
    "a status of 9 bits": (Ask.SET_STATUS, abi.U64.pack(256), 0),
    "a channel that was not agreed upon": (Ask.SET_BACKEND_REQ_FD, b"", 1),
    "a translation": (Ask.IOTLB_MSG, bytes(abi.IOTLB.size), 0),
    "in flight of no ring": (Ask.GET_INFLIGHT_FD, abi.INFLIGHT.pack(0, 0, 0, 128), 0),
    "in flight at an offset": (Ask.SET_INFLIGHT_FD, abi.INFLIGHT.pack(4096, 64, 1, 128), 1),
    "a log": (Ask.SET_LOG_BASE, abi.U64.pack(0), 0),
    "an unknown request": (99, b"", 0),
    "a message too short": (Ask.SET_FEATURES, b"1234", 0),
    "a message too long": (Ask.SET_OWNER, b"1234", 0),
    "gigabytes": (Ask.SET_MEM_TABLE, None, 0),
    "nine descriptors": (Ask.SET_MEM_TABLE, abi.TABLE_HEAD.pack(1, 0) + abi.REGION.pack(0, 4096, 0, 0), 9),
    "a descriptor with nothing": (Ask.GET_FEATURES, b"", 1),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_cannot_be_ends_the_connection(case: str, server: ServerThread, memory: PrivateMemory) -> None:
    request, payload, fds = HOSTILE[case]
    open_before = descriptors(sweep=True)
    with server.connected() as connection, closing(FrontEnd(connection, memory.file, memory.size, DEFAULT)) as front:
        if payload is None:
            connection.sendall(abi.HEADER.pack(request, abi.VERSION, 1 << 31))
        else:
            front.send(request, payload, abi.NEED_REPLY, *[memory.file] * fds)
        try:
            answer = connection.recv(64)
        except ConnectionResetError:
            answer = b""
        if answer:
            assert struct.unpack("<IIIQ", answer)[3] != 0, "it was taken"
            assert front.ask(Ask.GET_QUEUE_NUM) == 1
    assert len(server.said) == 1 and server.said[0].startswith("the front end ")
    assert descriptors(sweep=True) == open_before
    assert not server.regions.parts


def test_a_front_end_that_dies_in_a_message(server: ServerThread) -> None:
    with server.connected() as connection:
        connection.sendall(abi.HEADER.pack(Ask.SET_FEATURES, abi.VERSION, 8) + b"123")
        connection.shutdown(socket.SHUT_WR)
    assert server.said == ["the front end went away in the midst of a message; the connection was ended"]


def test_a_driver_that_breaks_its_ring_harms_itself_only(
    server: ServerThread, memory: PrivateMemory, image: Path
) -> None:
    with closing(ServedDisk(image)) as disk:
        with server.connected() as connection:
            rig = ServedRig(memory, connection, disk.disk)
            failed = os.eventfd(0)
            rig.front.tell(Ask.SET_VRING_ERR, abi.U64.pack(0), failed)
            memory.window.write(rig.rings[0].avail + 2, struct.pack("<H", 999))
            rig.queue.kick()
            assert select.select([failed], [], [], PATIENCE)[0]
            os.close(failed)
            assert rig.front.stop(0) == 0
            rig.front.close()
        assert "jumped to 999" in server.counts.trouble[0]
        with server.connected() as connection:
            assert ServedRig(memory, connection, disk.disk).do(IN, 0, into=512)[0] == OK
