"""What a stock driver maps of a request: as the kernel's own tracepoints say of a guest, request by request."""

from pathlib import Path

import numpy as np
import pytest

from pagewarden.workload.driver import VirtioBlk, mappings_of
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
    load = Workload("w", "made", np.zeros(5, np.bool_), np.arange(5, dtype=np.uint64), np.full(5, 4096, np.uint32))
    for depth in (1, 2, 5, 9):
        found = mappings_of(load, VirtioBlk(), depth)
        live = np.cumsum(np.where(found.opens, 1, -1))
        assert live.max() == 4 * min(depth, 5) and live[-1] == 0 and live.min() >= 0
        assert (found.maker[~found.opens] < np.flatnonzero(~found.opens)).all()


def test_reads_and_writes_differ_in_direction_alone() -> None:
    read, write = (mappings_of(single(8192, write=way), VirtioBlk()) for way in (False, True))
    assert np.array_equal(read.size, write.size) and (read.direction != write.direction).sum() == 4
