"""What a stock driver maps of a request: as the kernel's own tracepoints say of a guest, request by request."""

from pathlib import Path

import numpy as np
import pytest

from pagewarden.workload.driver import VirtioBlk, mappings_of
from pagewarden.workload.load import load
from pagewarden.workload.model import Workload, single
from pool_guest import Said, as_the_driver_maps, recorded

SAID = [said for said in recorded() if said.name.startswith("driver-")]


@pytest.mark.parametrize("said", SAID, ids=lambda said: said.name)
def test_maps_unmaps_and_bounces_are_those_of_a_guest(said: Said, tmp_path: Path) -> None:
    as_the_driver_maps(said, tmp_path)


def test_sizes_from_4_kib_to_1_mib_both_ways_flush_and_discard_were_asked() -> None:
    assert {said.name for said in SAID} >= {
        *(f"driver-{way}-{size}" for way in ("read", "write") for size in ("4k", "64k", "256k", "1m")),
        "driver-flush", "driver-discard",
    }  # fmt: skip


def test_pages_that_lie_apart_are_segments_and_split_a_request() -> None:
    """1 MiB in 254 and 2 pages, as seen in a guest whose buffers were single pages."""
    sizes = [size for size, _ in VirtioBlk().read(1 << 20)]
    assert sizes == [16, *[4096] * 254, 1, 256 * 16, 16, *[4096] * 2, 1, 4 * 16]


def test_as_many_requests_are_in_flight_as_asked() -> None:
    five = Workload("w", "made", np.zeros(5, np.bool_), np.arange(5, dtype=np.uint64), np.full(5, 4096, np.uint32))
    for depth in (1, 2, 5, 9):
        found = mappings_of(five, VirtioBlk(), depth)
        live = np.cumsum(np.where(found.opens, 1, -1))
        assert live.max() == 4 * min(depth, 5) and live[-1] == 0 and live.min() >= 0
        assert (found.maker[~found.opens] < np.flatnonzero(~found.opens)).all()


def test_groups_of_jobs_that_wait_for_others_have_depths_of_their_own(tmp_path: Path) -> None:
    """The most that is mapped at once: 64 requests of 4 mappings, then 2 of which each has 258, not 64 of those."""
    job = tmp_path / "two.fio"
    small, large = "[a]\nbs=4k\niodepth=64\nsize=1m\n", "[b]\nstonewall\nbs=1m\niodepth=2\nsize=8m\n"
    job.write_text(f"[global]\nioengine=libaio\nrw=read\n{small}{large}")
    found = mappings_of(load(job), VirtioBlk())
    live = np.cumsum(np.where(found.opens, 1, -1))
    border = int(np.flatnonzero(live == 0)[0]) + 1
    assert live[:border].max() == 64 * 4 and live[border:].max() == 2 * len(VirtioBlk().read(1 << 20)) and live[-1] == 0
    assert (found.maker[~found.opens] < np.flatnonzero(~found.opens)).all()


def test_jobs_side_by_side_have_depths_of_their_own_that_add_up(tmp_path: Path) -> None:
    """64 requests of 1 MiB, each 258 mappings of 515 slots and more, beside 2 x 3 of 4 KiB: not 70 of either."""
    job = tmp_path / "beside.fio"
    large, small = "[a]\nbs=1m\niodepth=64\nsize=80m\n", "[b]\nnumjobs=3\nbs=4k\niodepth=2\nsize=400k\n"
    job.write_text(f"[global]\nioengine=libaio\nrw=randread\n{large}{small}")
    found = load(job)
    assert found.owner is not None and found.until is not None
    flying = np.array([[owner == of for owner in found.owner] for of in (0, 1)])  # requests of each, in flight then
    for of, most in ((0, 64), (1, 6)):
        ended = [int(flying[of, :at][found.until[:at] <= at].sum()) for at in range(found.requests + 1)]
        assert max(np.cumsum(flying[of]) - ended[:-1]) == most
    made = mappings_of(found, VirtioBlk())
    assert np.cumsum(np.where(made.opens, 1, -1)).max() == 64 * len(VirtioBlk().read(1 << 20)) + 6 * 4
    assert made.notes[-1] == "in flight at once: at most 70" and found.depth == 70


def test_a_depth_that_nobody_says_is_said_to_be_assumed() -> None:
    assert "--depth N" in mappings_of(single(), VirtioBlk()).notes[-1]
    assert mappings_of(single(), VirtioBlk(), 2).notes == ("in flight at once: at most 1",)


def test_reads_and_writes_differ_in_direction_alone() -> None:
    read, write = (mappings_of(single(8192, write=way), VirtioBlk()) for way in (False, True))
    assert np.array_equal(read.size, write.size) and (read.direction != write.direction).sum() == 4
