"""A guest that bounces: its rings and its pool are lent, and nothing else, whatever the device asks for."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from front_end import BackEndError
from iommu_front import FEATURES, PAGE
from pagewarden.abi.virtio import VIRTIO_F_INDIRECT_DESC
from pagewarden.memory import PrivateMemory
from pagewarden.vhost import pool
from pagewarden.vhost.serve import pages_between
from pagewarden.virtio.disk import Disk
from pagewarden.vocab import UserMistake
from served_rig import MEMORY, ServedRig, ServerThread, opened_image
from virtio_kit import DEFAULT, IN, OK, SECTOR
from waits import in_time

CONTENT = np.random.default_rng(3).bytes(1 << 20)


@contextmanager
def bounced(place: Path, lent: range | str, features: int = DEFAULT) -> Iterator[tuple[ServerThread, ServedRig]]:
    """A rig whose ring begins to run on a device that is lent this pool."""
    image = place / "disk"
    image.write_bytes(CONTENT)
    with (
        opened_image(image) as fd,
        PrivateMemory(MEMORY, "memfd", shared=True) as memory,
        closing(ServerThread(image, pool=lent)) as server,
        server.connected() as connection,
    ):
        rig = ServedRig(memory, connection, Disk(fd), features, 128)
        with closing(rig.front):
            yield server, rig


def begin(rig: ServedRig, size: int = 1 << 14) -> None:
    """A request is under way, whose buffer no one before lay in: the rig gives out memory upwards."""
    rig.post(IN, 0, into=size)
    rig.drivers[0].publish()
    rig.queue.kick()


def ring_pages(rig: ServedRig) -> set[int]:
    return {page for first, size in rig.rings[0].parts for page in range(first // PAGE, (first + size - 1) // PAGE + 1)}


def read(rig: ServedRig, sector: int, size: int = 4096) -> None:
    assert rig.do(IN, sector, into=size)[:2] == (OK, CONTENT[sector * SECTOR : sector * SECTOR + size])


def test_a_pool_is_learned_then_frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bounced(tmp_path, "learned") as (server, rig):
        for n in range(8):
            read(rig, n)
        window, lent = server.guard._window, set(server.guard.grants.pages)
        assert window is not None and ring_pages(rig) & lent
        for page in range(MEMORY // PAGE):
            assert window.answers(page * PAGE) == (page in lent)
        monkeypatch.setattr(pool, "SETTLED", 0)
        begin(rig)
        assert in_time(lambda: server.counts.refused > 0)
        assert any("not in the pool" in trouble for trouble in server.counts.trouble)
        assert max(server.guard.grants.pages) == max(lent)
    assert server.counts.pages_ever >= len(lent) and server.counts.byte_seconds > 0


def test_a_table_of_its_own_lies_in_the_pool_too(tmp_path: Path) -> None:
    with bounced(tmp_path, range(MEMORY // PAGE)) as (server, rig):
        assert rig.front.features >> VIRTIO_F_INDIRECT_DESC & 1
        posted = rig.post(IN, 9, into=4096, indirect=True, cuts=[1000])
        rig.serve()
        assert (posted.status, posted.data) == (OK, CONTENT[9 * SECTOR : 9 * SECTOR + 4096])
        assert server.counts.refused == 0


def test_a_pool_that_is_given_is_all(tmp_path: Path) -> None:
    last = range(MEMORY // PAGE - 1, MEMORY // PAGE)
    with bounced(tmp_path, last) as (server, rig):
        begin(rig)
        assert in_time(lambda: server.counts.refused > 0)
        assert set(server.guard.grants.pages) <= ring_pages(rig)
    with bounced(tmp_path, range(MEMORY // PAGE)) as (server, rig):
        read(rig, 1)
        assert server.counts.refused == 0


def test_buffers_that_are_no_pool_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "POOL_MOST", 1)
    with bounced(tmp_path, "learned") as (server, rig):
        begin(rig)
        assert in_time(lambda: any("swiotlb=force" in said for said in server.said))


def test_a_device_behind_an_iommu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackEndError), bounced(tmp_path, "learned", FEATURES):
        pass


def test_pages_of_a_pool_are_read_as_linux_says_them() -> None:
    assert pages_between("0x7bff7000-0x7fff7000") == range(0x7BFF7, 0x7FFF7)
    for wrong in ("1", "0x1000-", "0x2000-0x1000", "0x10-0x2000", "a-b", "0x1000-0x2000-0x3000"):
        with pytest.raises(UserMistake, match="ADDR-ADDR"):
            pages_between(wrong)
