"""The reference driver against the device, as Hypothesis pleases: chains of any cut, several queues, restarts."""

import os
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pagewarden.abi.virtio_blk import VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_WRITE_ZEROES
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from virtio_kit import DEFAULT, EVENT, FLUSH, IN, IOERR, OK, OUT, SECTOR, Arena, FakeView, Posted, Rig

SECTORS, QUEUES, SIZE = 16, 3, 8
queues = st.integers(0, QUEUES - 1)
kinds = st.sampled_from([IN, OUT, FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_WRITE_ZEROES])
cuts = st.lists(st.integers(1, 2100), max_size=4)


@dataclass
class Expected:
    """What was asked, as long as it is under way."""

    posted: Posted
    kind: int
    sector: int
    data: bytes
    into: int


class DriverAndDevice(RuleBasedStateMachine):
    """The model is the image as bytes: each queue's requests happen in order when the queue is processed."""

    def __init__(self) -> None:
        super().__init__()
        self.file = os.memfd_create("image")
        os.ftruncate(self.file, SECTORS * SECTOR)
        self.model = bytearray(SECTORS * SECTOR)
        self.waiting: list[list[Expected]] = [[] for _ in range(QUEUES)]
        self.rig = Rig(FakeView(1 << 20), Disk(self.file))
        self.begin(0, True)

    @precondition(lambda self: not any(self.waiting))
    @rule(index=st.sampled_from([0, 1, 0x7FFF, 0xFFF8, 0xFFFE, 0xFFFF]), events=st.booleans())
    def begin(self, index: int, events: bool) -> None:
        """Fresh rings, which have come to this index."""
        self.rig.device.close()
        self.view = FakeView(1 << 20)
        self.rig = Rig(self.view, Disk(self.file), DEFAULT if events else DEFAULT & ~EVENT, SIZE, QUEUES)
        for driver, ring in zip(self.rig.drivers, self.rig.rings.values(), strict=True):
            driver._avail = driver._told = driver._used = index
            for at in (ring.avail + 2, ring.used + 2):
                self.view.write(at, index.to_bytes(2, "little"))
        self.restart()

    @rule()
    def restart(self) -> None:
        """The device dies, and another one takes the rings over."""
        self.rig.device.close()
        self.rig.device = BlockDevice(self.view, self.rig.disk, QUEUES, 16)
        self.rig.device.resume(self.rig.features, self.rig.rings)

    @precondition(lambda self: not any(self.waiting))
    @rule()
    def reuse(self) -> None:
        """Buffers from the beginning again."""
        self.rig.arena = Arena(self.rig.start)

    @rule(
        queue=queues,
        kind=kinds,
        sector=st.integers(0, SECTORS + 1),
        count=st.integers(1, 4),
        cuts=cuts,
        indirect=st.booleans(),
        data=st.binary(min_size=1, max_size=8),
    )
    def post(
        self, queue: int, kind: int, sector: int, count: int, cuts: list[int], indirect: bool, data: bytes
    ) -> None:
        room = self.rig.drivers[queue].free
        if not room or (not indirect and 2 * len(cuts) + 2 > room):
            return
        out, into = b"", {IN: count * SECTOR, VIRTIO_BLK_T_GET_ID: 20}.get(kind, 0)
        if kind == OUT:
            out = (data * (count * SECTOR))[: count * SECTOR]
        elif kind == VIRTIO_BLK_T_WRITE_ZEROES:
            out = sector.to_bytes(8, "little") + count.to_bytes(4, "little") + bytes(4)
        posted = self.rig.post(kind, sector, out, into, queue, indirect, cuts)
        self.waiting[queue].append(Expected(posted, kind, sector, out, into))

    @rule(queue=queues)
    def publish(self, queue: int) -> None:
        self.rig.drivers[queue].publish()

    @rule(queue=queues, after=st.integers(0, 3))
    def ask(self, queue: int, after: int) -> None:
        self.rig.drivers[queue].ask_interrupt(after)

    @rule(queue=queues)
    def serve(self, queue: int) -> None:
        """All that waits comes back, in order, with what the model says."""
        processed, used = self.rig.serve(queue)
        waiting, self.waiting[queue] = self.waiting[queue], []
        assert processed.completed == len(used) == len(waiting) and not processed.more
        for expected, back in zip(waiting, used, strict=True):
            status, data, length = self._apply(expected)
            posted = expected.posted
            assert (back.head, posted.status, posted.data, back.length) == (posted.head, status, data, length)

    def _apply(self, asked: Expected) -> tuple[int, bytes, int]:
        """Status, data and used length of a request, done on the model."""
        start, kind = asked.sector * SECTOR, asked.kind
        length = (
            int.from_bytes(asked.data[8:12], "little") * SECTOR
            if kind == VIRTIO_BLK_T_WRITE_ZEROES
            else (len(asked.data) + asked.into)
        )
        if kind in (IN, OUT, VIRTIO_BLK_T_WRITE_ZEROES) and start + length > len(self.model):
            return IOERR, b"\xee" * asked.into, int(asked.into == 0)
        if kind == IN:
            return OK, bytes(self.model[start : start + length]), length + 1
        if kind == VIRTIO_BLK_T_GET_ID:
            return OK, self.rig.disk.identity, 21
        if kind in (OUT, VIRTIO_BLK_T_WRITE_ZEROES):
            self.model[start : start + length] = asked.data if kind == OUT else bytes(length)
        return OK, b"", 1

    @invariant()
    def the_image_is_the_models(self) -> None:
        assert os.pread(self.file, 1 << 20, 0) == self.model

    @invariant()
    def descriptors_are_accounted_for(self) -> None:
        for driver, waiting in zip(self.rig.drivers, self.waiting, strict=True):
            assert (driver.free == SIZE) == (not waiting)

    def teardown(self) -> None:
        self.rig.device.close()
        os.close(self.file)


TestDriverAndDevice = DriverAndDevice.TestCase
TestDriverAndDevice.settings = settings(
    max_examples=2000 if os.environ.get("PAGEWARDEN_LONG") == "1" else 80, stateful_step_count=60, deadline=None
)
