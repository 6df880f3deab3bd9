"""The model agrees: what `compare` and `pool` say of a guest's mappings is what a served disk sees of them."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from iommu_front import PAGE, IommuRig
from mapped_guest import Frames, MappedGuest, MappedPages, without_tables
from pagewarden.abi.vhost_user import VHOST_ACCESS_RO
from pagewarden.memory import PrivateMemory
from pagewarden.sim.swiotlb import replay
from pagewarden.studies.compare.mappings import mapping_counts
from pagewarden.studies.pool import pool_fit
from pagewarden.virtio.disk import Disk
from pagewarden.workload.dma_mappings import SLOT, TO_DEVICE, DmaMappings
from pagewarden.workload.driver import VirtioBlk, mappings_of
from pagewarden.workload.model import Workload
from pool_guest import mappings, recorded
from served_rig import ServedRig, ServerThread, opened_image
from virtio_kit import DEFAULT, IN, OK

SAID = {said.name: said for said in recorded()}
OFFERED = VirtioBlk(segments=126, contiguous=64 << 10, indirect=False)
"""As `serve --mode iommu` offers itself: a queue of 128 entries, and no tables beside it."""
MEMORY, POOLS = 128 << 20, 16 << 20
"""Bytes of the memory; where the first pool begins in it, as many bytes before the next."""


class Served(NamedTuple):
    """A device that has its rings; number: of what comes next on it."""

    server: ServerThread
    rig: Any
    memory: PrivateMemory
    number: "count[int]"


@contextmanager
def served(place: Path, kind: type[ServedRig], *more: Any, **guarded: Any) -> Iterator[Served]:
    """One for all tests of a mode; a request is done on it, so that its rings are open."""
    image = place / "disk"
    image.write_bytes(bytes(2 << 20))
    with (
        opened_image(image) as fd,
        PrivateMemory(MEMORY, "memfd", shared=True) as memory,
        closing(ServerThread(image, **guarded)) as server,
        server.connected() as connection,
    ):
        rig = kind(memory, connection, Disk(fd), *more)
        with closing(rig.front):
            assert rig.do(IN, 0, into=512)[0] == OK
            yield Served(server, rig, memory, count(1))
    assert server.counts.refused == server.counts.violations == 0 and not server.said


@pytest.fixture(scope="module")
def behind_iommu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("iommu"), IommuRig, allow_lazy=False) as made:
        rings = {page for at, size in made.rig.rings[0].parts for page in (at // PAGE, (at + size - 1) // PAGE)}
        for page in {page for page, _ in made.rig.iommu.asked} - rings:
            made.rig.iommu.take_back(page * PAGE, PAGE)
        assert made.server.counts.open_now == len(rings)
        yield made


@pytest.fixture(scope="module")
def bounced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("pool"), ServedRig, DEFAULT, 128, pool=range(MEMORY // PAGE)) as made:
        yield made


def made_load(depth: int) -> DmaMappings:
    """Reads and writes as linux-virtio-blk maps them."""
    length = np.array([4096, 1 << 16, 1 << 20, 4096, 8192, 1 << 18] * 3, np.uint32)
    write = np.arange(len(length)) % 3 == 1
    requests = Workload("made", "made", write, np.arange(len(length), dtype=np.uint64), length)
    return mappings_of(requests, OFFERED, depth)


@pytest.mark.parametrize(
    "name", ["driver-1", "driver-8", "4k-alone", "4k-deep", "4k-writes", "64k-reads", "driver-flush", "driver-read-1m"]
)
def test_an_iommu_s_misses_updates_invalidates_opens_and_closes(
    name: str, behind_iommu: Served, tmp_path: Path
) -> None:
    """Of mappings that a guest's kernel made, and of those that the model of its driver makes: the model's."""
    server, rig, memory, number = behind_iommu
    load = without_tables(mappings(SAID[name], tmp_path)) if name in SAID else made_load(int(name[-1]))
    (expected,) = mapping_counts(load, timed=False)
    front, counts, rings = rig.iommu, server.counts, rig.iommu.mapped
    opened, held = counts.pages_opened, counts.open_now
    front.asked, front.updates, front.invalidates, counts.max_open = [], 0, 0, held
    pages = MappedPages(load, next(number) << 20, Frames(PAGE))
    front.mapped = lambda io_page: pages.behind.get(io_page, rings(io_page))
    guest = MappedGuest(rig, memory.window, load, pages.place, lambda event: front.take_back(*pages.end(event)))
    guest.play(tables=False)
    front.mapped = rings
    assert guest.requests > 3 and counts.open_now == held, "as many are closed as were opened"
    found = len(front.asked), front.updates, front.invalidates
    assert found == (expected.misses, expected.misses, expected.invalidations)
    assert (counts.pages_opened - opened, counts.max_open - held) == (expected.opened_pages, expected.peak_pages)
    to_read = sum(access == VHOST_ACCESS_RO for _, access in front.asked)
    assert to_read == pages.count[load.direction == TO_DEVICE].sum()


@pytest.mark.parametrize("name", ["4k-deep", "64k-reads", "mixed-ample", "1m-writes", "areas-spill", "smallest-4k"])
def test_a_pool_s_pages_are_those_that_the_model_gives_out(name: str, bounced: Served, tmp_path: Path) -> None:
    """The guest's kernel said where each mapping went, and most slots in use; `pool` says so by itself."""
    server, rig, memory, number = bounced
    said = SAID[name]
    load, start = mappings(said, tmp_path), next(number) * POOLS
    fit = pool_fit(load, said.slots, said.areas, base=said.base)
    slot = replay(load, fit.pool, said.base).slot[load.made]
    first = (start + slot * SLOT) // PAGE
    last = (start + slot * SLOT + load.size[load.made] - 1) // PAGE
    predicted = {page for a, z in zip(first.tolist(), last.tolist(), strict=True) for page in range(a, z + 1)}

    def place(event: int) -> tuple[int, int]:
        address = start + int(load.address[event]) - said.base
        return address, address

    before = server.counts.pages_opened
    guest = MappedGuest(rig, memory.window, load, place)
    guest.play(tables=True)
    lent = set(server.guard.grants.pages)
    assert guest.requests > 3 and fit.fits and fit.peak == said.peak
    assert {page for page in lent if start <= page * PAGE < start + POOLS} == predicted
    assert server.counts.pages_opened - before == len(predicted)
