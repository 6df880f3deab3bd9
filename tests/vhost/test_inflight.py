"""What is in flight, as the front end keeps it for the next back end: QEMU's docs/interop/vhost-user.rst says the bytes
and the order of steps; here they are read and written by themselves."""

import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from front_end import BackEndError, FrontEnd
from iommu_front import IommuRig
from live import require
from pagewarden.abi import vhost_user as abi
from pagewarden.memory import PrivateMemory
from pagewarden.vhost.inflight import InflightRing, inflight_file
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.driver import Driver
from pagewarden.virtio.faults import DeviceNeedsReset, UsedRingBroken
from pagewarden.virtio.ring import RING, Ring
from pagewarden.virtio.transport import PlainDevice
from served_guest import served
from served_rig import MEMORY, ServedRig, ServerThread, opened_image
from virtio_kit import DEFAULT, IN, OK, OUT, SECTOR, V1, VectoredFake
from waits import in_time

SIZE = 16
CONTENT = np.random.default_rng(6).bytes(1 << 20)


class Region:
    """One ring's part of the file."""

    def __init__(self, file: int) -> None:
        self._file = file

    @property
    def head(self) -> tuple[int, ...]:
        """Features, version, entries, head of the last batch, used index."""
        return struct.unpack("<QHHHH", os.pread(self._file, 16, 0))

    @property
    def states(self) -> list[tuple[int, int, int]]:
        """In flight, next and counter of each descriptor."""
        return list(struct.iter_unpack("<B5xHQ", os.pread(self._file, 16 * SIZE, 16)))

    def put(self, last: int, used: int, states: dict[int, tuple[int, int, int]]) -> None:
        os.pwrite(self._file, struct.pack("<QHHHH", 0, 1, SIZE, last, used), 0)
        for head, state in states.items():
            os.pwrite(self._file, struct.pack("<B5xHQ", *state), 16 + 16 * head)


@pytest.fixture
def file() -> Iterator[int]:
    made, length = inflight_file(1, SIZE)
    assert length == 320
    with closing(made):
        yield made.fd


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(CONTENT)
    return path


class Answering(PlainDevice):
    """Says what it was given; heard: what is called in the midst of it."""

    heard: Callable[[], Any] = staticmethod(lambda: None)

    def answer(self, queue: int, given: bytes, room: int) -> bytes:
        self.heard()
        return given[:room]


def started(view: Any, ring: Ring, file: int) -> Answering:
    device = Answering(view)
    device.resume(V1, {})
    device.start(0, ring, InflightRing(os.dup(file), 0, SIZE))
    return device


def test_what_is_done_is_marked_while_it_is(file: int) -> None:
    view, ring, region = VectoredFake(1 << 20), Ring.placed(SIZE, 4096), Region(file)
    driver = Driver(view, ring)
    device, seen = started(view, ring, file), []
    device.heard = lambda: seen.append((region.head, region.states))
    heads = [driver.add_chain([(1 << 16, 8)], [(1 << 17, 8)]) for _ in range(3)]
    driver.publish()
    device.process(0)
    assert len(seen) == 3
    for (features, version, entries, last, used), states in seen:
        assert (features, version, entries, used) == (0, 1, SIZE, 0)
        assert [head for head in range(SIZE) if states[head][0]] == sorted(heads)
        counters = [states[head][2] for head in heads]
        assert counters == sorted(set(counters))
        batch = [last, states[last][1], states[states[last][1]][1]]
        assert batch == heads[::-1], "the last batch, from its head on"
    assert not any(state[0] for state in region.states) and region.head[4] == 3


class DiedError(BaseException):
    """In the midst of a step."""


@pytest.mark.parametrize("after", [False, True])
def test_a_device_that_dies_at_any_step_has_a_successor_that_serves_each_chain_once(
    file: int, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, steps = [0], 0

    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        def taken(*arguments: Any) -> Any:
            left[0] -= 1
            if left[0] == 0 and not after:
                raise DiedError
            found = step(*arguments)
            if left[0] == 0:
                raise DiedError
            return found

        return taken

    for name in ("gather", "scatter", "add16"):
        monkeypatch.setattr(VectoredFake, name, counted(getattr(VectoredFake, name)))
    monkeypatch.setattr(InflightRing, "_write", counted(InflightRing._write))
    view, ring, region = VectoredFake(1 << 20), Ring.placed(SIZE, 4096), Region(file)
    driver, died = Driver(view, ring), True
    while died:
        steps, left[0] = steps + 1, 0
        device = started(view, ring, file)
        heads = [driver.add_chain([(1 << 16, 8)], [(1 << 17 | n << 8, 8)]) for n in range(5)]
        view.write(1 << 16, steps.to_bytes(8, "little"))
        driver.publish()
        left[0], died = steps, False
        try:
            device.process(0)
        except BaseException:
            died = True
        left[0] = 0
        back = driver.reap()
        started(view, ring, file).process(0)
        back += driver.reap()
        assert [used.head for used in back] == heads, "each once, or reap would have said so"
        assert all(view.read(1 << 17 | n << 8, 8) == steps.to_bytes(8, "little") for n in range(5))
        assert not any(state[0] for state in region.states) and region.head[4] == 5 * steps & 0xFFFF
    assert steps > 8


@pytest.mark.parametrize("seed", range(20))
def test_whatever_lies_in_the_file_harms_nobody_else(seed: int, file: int) -> None:
    """It is the front end's: of any content, and at last of no length. What is named there is not available, too, or
    the ring has too few entries for it: then this ring waits for a reset."""
    view, ring = VectoredFake(1 << 20), Ring.placed(8, 4096)
    driver, content = Driver(view, ring), np.random.default_rng(seed)
    noise = np.frombuffer(content.bytes(16 + 16 * SIZE), np.uint8).copy()
    noise[8:10] = 1, 0  # a version that is known
    noise[16::16] &= content.random(SIZE) < content.choice([0, 0.1, 1])  # of few, or of all, that it is in flight
    noise[14:16] = content.choice([0, 3]), 0
    os.pwrite(file, noise.tobytes(), 0)
    device = started(view, ring, file)
    heads = [driver.add_chain([(1 << 16, 8)], [(1 << 17, 8)]) for _ in range(3)]
    driver.publish()
    try:
        device.process(0)
    except DeviceNeedsReset:
        assert noise[16::16].any()
        return
    os.ftruncate(file, 0)
    with suppress(UsedRingBroken):  # what was named twice comes back twice, and the driver says so
        assert {used.head for used in driver.reap()} <= set(heads)
    driver.add_chain([(1 << 16, 8)], [(1 << 17, 8)])
    driver.publish()
    assert device.process(0).completed == 1


@pytest.mark.parametrize("mode", ["open", "pool"])
def test_a_successor_goes_by_what_is_kept_and_not_by_the_order_of_the_ring(mode: str, image: Path) -> None:
    """The back end before this one had done two of four chains, the third and the first, and died before it marked the
    first so. Left are the second and the fourth, of which the fourth was taken first."""
    pool: Any = {"pool": range(MEMORY >> 12)} if mode == "pool" else {}
    with (
        opened_image(image) as fd,
        PrivateMemory(MEMORY, "memfd", shared=True) as memory,
        closing(ServerThread(image, **pool)) as server,
    ):
        with server.connected() as connection:
            rig = ServedRig(memory, connection, Disk(fd), size=128)
            assert rig.do(IN, 0, into=512)[0] == OK
            rig.front.close()
        posts = [rig.post(IN, n, into=512) for n in range(4)]
        a, b, c, d = (post.head for post in posts)
        rig.drivers[0].publish()
        with server.connected() as connection:
            rig.front = FrontEnd(connection, memory.file, memory.size, DEFAULT)
            file, described = rig.front.inflight(1, 128)
            used, length = rig.rings[0].used, 16 + 16 * 128
            assert abi.INFLIGHT.unpack(described)[0] >= length
            for at, head in ((1, c), (2, a)):
                memory.window.write(used + RING + 8 * at, struct.pack("<II", head, 0))
            memory.window.write(used + 2, struct.pack("<H", 3))
            Region(file).put(a, 2, {a: (1, c, 1), b: (1, 0, 9), c: (0, 0, 2), d: (1, 0, 8)})
            rig.front.keep(file, described)
            rig.queue = rig.front.start(0, rig.rings[0])
            back = rig.serve()[1]
            assert [one.head for one in back] == [c, a, d, b]
            assert [posts[n].status for n in (1, 3)] == [OK, OK]
            assert [posts[n].data for n in (1, 3)] == [CONTENT[n * SECTOR : (n + 1) * SECTOR] for n in (1, 3)]
            assert [posts[n].status for n in (0, 2)] == [0xEE, 0xEE], "not done again"
            assert rig.do(IN, 7, into=512)[:2] == (OK, CONTENT[7 * SECTOR : 8 * SECTOR])
            rig.front.close()
            os.close(file)
    assert not server.said and not server.counts.trouble


@contextmanager
def back_end(image: Path, place: Path) -> Iterator[tuple[int, socket.socket]]:
    """A process that serves the disk, and a connection to it."""
    require(os.geteuid() == 0, "whether the device's process closed a page is for root to see")
    with served(image, place, "iommu") as (process, words), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(words[1].partition("path=")[2])
        yield process.pid, connection


def test_a_back_end_that_is_killed_has_a_successor_that_finishes(image: Path, tmp_path: Path) -> None:
    """All of it, warden and device, with requests under way; the front end reconnects with the file that it has."""
    places = np.random.default_rng(7).permutation(len(CONTENT) // 4096)[:40] * 4096
    with opened_image(image) as fd, PrivateMemory(MEMORY, "memfd", shared=True) as memory:
        with back_end(image, tmp_path) as (pid, connection):
            rig = IommuRig(memory, connection, Disk(fd))
            rig.front.stop(0)
            kept = rig.front.inflight(1, 128)
            rig.front.keep(*kept)
            rig.queue = rig.front.start(0, rig.rings[0])
            assert rig.do(IN, 0, into=512)[0] == OK
            reads = {at: rig.post(IN, at // SECTOR, into=4096) for at in places[:20].tolist()}
            written = {at: os.urandom(4096) for at in places[20:].tolist()}
            writes = [rig.post(OUT, at // SECTOR, data) for at, data in written.items()]
            asked = len(rig.iommu.asked)
            rig.iommu.hold = asked + 1000
            rig.drivers[0].publish()
            rig.queue.kick()
            assert in_time(lambda: len(rig.iommu.asked) > asked)
            os.kill(pid, signal.SIGKILL)
            rig.front.close()
        with back_end(image, tmp_path) as (_, connection):
            rig.connect(connection, *kept)
            assert len(rig.serve()[1]) == len(places)
            rig.front.close()
        os.close(kept[0])
        assert {post.status for post in (*reads.values(), *writes)} == {OK}
        assert all(post.data == CONTENT[at : at + 4096] for at, post in reads.items())
        assert all(image.read_bytes()[at : at + 4096] == data for at, data in written.items())


@pytest.mark.parametrize(
    ("rings", "index", "entries"), [(2, 0, SIZE), (1, 1, SIZE), (1, 0, 2 * SIZE), (0, 0, SIZE)],
    ids=["too short", "a ring more", "longer rings", "no file"],
)  # fmt: skip
def test_a_file_that_cannot_be_is_refused(rings: int, index: int, entries: int, image: Path) -> None:
    with closing(ServerThread(image, queues=2)) as server, PrivateMemory(MEMORY, "memfd", shared=True) as memory:
        made, length = inflight_file(1, SIZE)
        with closing(made), server.connected() as connection, ExitStack() as opened:
            front = opened.enter_context(closing(FrontEnd(connection, memory.file, memory.size, DEFAULT)))
            opened.enter_context(pytest.raises(BackEndError, match="was refused"))
            front.keep(made.fd if rings else connection.fileno(), abi.INFLIGHT.pack(length, 0, rings or 1, SIZE))
            front.start(index, Ring.placed(entries, 4096))
        assert "in flight" in server.said[0]
