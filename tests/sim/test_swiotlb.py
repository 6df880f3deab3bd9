"""The bounce pool as the kernel's allocator keeps it: recorded guests, and small cases worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewarden.sim.swiotlb import SEGMENT, Pool, granted, replay
from pagewarden.workload.dma_mappings import SLOT, DmaMappings
from pagewarden.workload.driver import VirtioBlk, mappings_of
from pagewarden.workload.model import single
from pool_guest import Said, as_the_kernel_said, recorded

FAILED = "dma_addr=ffffffffffffffff"
SAID = recorded()


def test_there_are_enough_of_all_kinds() -> None:
    assert len(SAID) >= 20 and {said.areas for said in SAID} == {1, 2}
    assert sum(FAILED in said.trace for said in SAID) >= 8 and sum(said.cpus > 1 for said in SAID) >= 2


@pytest.mark.parametrize("said", SAID, ids=lambda said: said.name)
def test_as_the_kernel_counted(said: Said, tmp_path: Path) -> None:
    as_the_kernel_said(said, tmp_path)


def load_of(*acts: tuple[int, int]) -> DmaMappings:
    """(size, -1) maps; (_, k) ends the k-th event."""
    count = len(acts)
    opens = np.array([maker < 0 for _, maker in acts])
    zeros = np.zeros(count, np.uint64)
    return DmaMappings(
        "load", "made", opens, np.array([maker for _, maker in acts]), np.array([size for size, _ in acts]),
        np.zeros(count, np.uint8), np.zeros(count, np.int16), np.zeros(count, np.int16), np.arange(count),
        np.ones(count, np.bool_), np.zeros(count, np.bool_), zeros, zeros,
    )  # fmt: skip


def test_a_page_is_aligned_and_less_is_not() -> None:
    found = replay(load_of((1, -1), (4096, -1), (1, -1), (1, -1)), Pool(128))
    assert found.slot.tolist() == [0, 2, 4, 5] and found.used.tolist() == [1, 3, 4, 5]


def test_no_mapping_crosses_a_segment() -> None:
    found = replay(load_of((100 * SLOT, -1), (100 * SLOT, -1), (100 * SLOT, -1)), Pool(256))
    assert found.slot.tolist() == [0, 128, -1] and found.refused.tolist() == [2] and found.used[2] == 200


def test_more_than_a_segment_never_fits() -> None:
    assert replay(load_of((SEGMENT * SLOT + 1, -1)), Pool(32768)).refused.tolist() == [0]


def test_the_search_goes_on_where_it_ended() -> None:
    found = replay(load_of((1, -1), (1, 0), (1, -1)), Pool(128))
    assert found.slot.tolist() == [0, -1, 1]


def test_an_area_that_is_full_leaves_it_to_the_next() -> None:
    found = replay(load_of((128 * SLOT, -1), (SLOT, -1), (128 * SLOT, -1)), Pool(256, 2))
    assert found.slot.tolist() == [0, 128, -1] and found.refused.tolist() == [2]


def test_a_devices_alignment_keeps_the_offset_in_the_page() -> None:
    """NVMe: min_align_mask 4095; a buffer at 0x1800 + 512 keeps both bits, and takes the slot for its offset."""
    load = load_of((4096, -1))
    load.origin[0] = 0x1800 + 512
    found = replay(load, Pool(128, align=4096))
    assert found.slot.tolist() == [1] and found.used.tolist() == [3]


@pytest.mark.parametrize(
    ("asked", "pool"), [((1, 1), (128, 1)), ((129, 1), (256, 1)), ((300, 3), (512, 4)), ((128, 4), (512, 4))]
)
def test_what_the_kernel_grants(asked: tuple[int, int], pool: tuple[int, int]) -> None:
    assert granted(*asked) == Pool(*pool)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9 * SLOT), st.integers(0, 40)), max_size=60), st.sampled_from([1, 2]))
def test_slots_are_had_by_one_at_a_time_and_come_back(drawn: list[tuple[int, int]], areas: int) -> None:
    """Against a set: what is granted was free, lies in one segment, and the count is the set's size."""
    acts: list[tuple[int, int]] = []
    for size, end in drawn:
        live = [at for at, (_, maker) in enumerate(acts) if maker < 0 and at not in [m for _, m in acts]]
        acts.append((acts[live[end % len(live)]][0], live[end % len(live)]) if live and end > 20 else (size, -1))
    if not acts:
        return
    load, held = load_of(*acts), dict[int, range]()
    found = replay(load, Pool(256, areas))
    for at, (size, maker) in enumerate(acts):
        if maker >= 0:
            held.pop(maker, None)
        elif (slot := int(found.slot[at])) >= 0:
            run = range(slot, slot + -(-size // SLOT))
            assert run[0] // SEGMENT == run[-1] // SEGMENT and not any(set(run) & set(other) for other in held.values())
            held[at] = run
        assert found.used[at] == sum(map(len, held.values()))
    assert found.taken.sum() == sum(map(len, held.values()))


def test_a_request_of_a_stock_driver_takes_five_slots() -> None:
    found = replay(mappings_of(single(4096, write=False), VirtioBlk()), Pool(128))
    assert found.used.max() == 5 and found.used[-1] == 0
