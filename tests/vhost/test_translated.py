"""A device's view by I/O addresses: batches go through in one compiled call, by a ring that is used where it stands."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from iommu_front import PAGE, TurnedView
from pagewarden.abi.virtio import VIRTIO_F_INDIRECT_DESC
from pagewarden.kernel.guarded import enter, leave
from pagewarden.memory.loan import DirectLoan
from pagewarden.vhost.translated import TranslatedView
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.placing import OPEN, SHIFT, WRITABLE
from served_rig import MEMORY, SealedMemory, opened_image
from virtio_kit import DEFAULT, IN, OK, OUT, SECTOR, Rig

CONTENT = np.random.default_rng(5).bytes(1 << 20)


class TurnedRig(Rig):
    """A driver that names the pages of the memory from its end on, and a device that must ask for each."""

    def __init__(self, memory: SealedMemory, disk: Disk, size: int = 128) -> None:
        turned = TurnedView(memory.window)
        super().__init__(turned, disk, DEFAULT, size, here=False)  # type: ignore[arg-type]
        self.asked: list[dict[int, int]] = []
        self.long_way = 0
        self.io = TranslatedView(memory.window, self.ask)
        self.page = turned.page
        self.gather, self.io.gather = self.io.gather, self._counted  # type: ignore[method-assign]
        self.device = BlockDevice(self.io, disk, 1, size)
        self.device.resume(DEFAULT, self.rings)

    def ask(self, missing: NDArray[np.int64]) -> None:
        self.asked.append(dict(missing.tolist()))
        for page, write in missing.tolist():
            behind = self.page(page)
            assert behind is not None
            self.io.table[page] = behind << SHIFT | OPEN | WRITABLE * write

    def _counted(self, places: NDArray[np.int64], count: int, target: NDArray[np.uint8]) -> None:
        self.long_way += 1
        self.gather(places, count, target)

    @property
    def lent(self) -> DirectLoan | None:
        found = self.device._queues[0]._at_once._loan
        assert found is None or isinstance(found, DirectLoan)
        return found


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def memory() -> Iterator[SealedMemory]:
    with closing(SealedMemory()) as made:
        yield made


def good(rig: TurnedRig, sector: int, length: int = 4096) -> None:
    assert rig.do(IN, sector, into=length)[:2] == (OK, CONTENT[sector * SECTOR : sector * SECTOR + length])


def test_a_batch_asks_once_and_goes_through_at_once(image: Path, memory: SealedMemory) -> None:
    with opened_image(image) as fd:
        rig = TurnedRig(memory, Disk(fd))
        good(rig, 0)
        rig.asked, rig.long_way = [], 0
        posts = [rig.post(IN, 8 * n, into=8 * PAGE) for n in range(3)]
        write = rig.post(OUT, 512, b"\x5a" * 3 * PAGE)
        rig.serve()
        assert rig.long_way == 0 and len(rig.asked) == 1 and sum(rig.asked[0].values()) >= 3 * 8
        assert [post.data for post in posts] == [CONTENT[4096 * n : 4096 * n + 8 * PAGE] for n in range(3)]
        assert write.status == OK and image.read_bytes()[512 * SECTOR :][: 3 * PAGE] == b"\x5a" * 3 * PAGE
        assert {0, 1} == set(rig.asked[0].values()), "what the device only reads is lent for reading"
        rig.device.close()


def test_tables_are_asked_for_before_what_they_name(image: Path, memory: SealedMemory) -> None:
    with opened_image(image) as fd:
        rig = TurnedRig(memory, Disk(fd))
        good(rig, 0)
        assert DEFAULT >> VIRTIO_F_INDIRECT_DESC & 1
        rig.arena.take(1 << 16)  # no page of the one before
        rig.asked, rig.long_way = [], 0
        posted = rig.post(IN, 9, into=3 * PAGE, indirect=True, cuts=[1000])
        rig.serve()
        assert (posted.status, posted.data) == (OK, CONTENT[9 * SECTOR :][: 3 * PAGE])
        assert rig.long_way == 0 and len(rig.asked) == 2
        rig.device.close()


def test_a_ring_that_is_taken_back_waits_for_who_is_at_it(
    image: Path, memory: SealedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_image(image) as fd:
        rig = TurnedRig(memory, Disk(fd))
        good(rig, 0)
        lent, waited = rig.lent, threading.Event()
        assert lent is not None and lent.good
        rig.io.take_back(np.array([MEMORY // PAGE - 1]))
        assert lent.good, "another page"
        monkeypatch.setattr("pagewarden.memory.loan.time.sleep", lambda seconds: waited.set())
        assert enter(lent.gate)
        taker = threading.Thread(target=rig.io.take_back, args=(np.array([rig.rings[0].used // PAGE]),))
        taker.start()
        assert waited.wait(60) and taker.is_alive()
        leave(lent.gate)
        taker.join(60)
        assert not taker.is_alive() and not enter(lent.gate)
        rig.asked = []
        good(rig, 3)
        assert rig.lent is not lent and rig.rings[0].used // PAGE in rig.asked[0]
        rig.device.close()


def test_a_ring_in_pieces_is_served_the_long_way(image: Path, memory: SealedMemory) -> None:
    with opened_image(image) as fd:
        rig = TurnedRig(memory, Disk(fd), 512)  # its table of descriptors is two pages, which lie the other way round
        good(rig, 0)
        assert rig.lent is None and rig.long_way
        good(rig, 5, 1 << 16)
        rig.device.close()
