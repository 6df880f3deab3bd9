"""How big a pool must be, and what mappings cost: answers that were worked out by hand, and the verbs."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pagewarden.cli import app
from pagewarden.studies.compare.mappings import mapping_counts
from pagewarden.studies.pool import pool_fit
from pagewarden.vocab import UserMistake
from pagewarden.workload.driver import VirtioBlk, mappings_of
from pagewarden.workload.model import Workload
from pool_guest import mappings, recorded

SAID = {said.name: said for said in recorded()}


def reads(count: int, length: int) -> Workload:
    return Workload(
        "reads", "made", np.zeros(count, np.bool_), np.arange(count, dtype=np.uint64), np.full(count, length, np.uint32)
    )


def test_64_reads_of_4_kib_take_five_slots_each() -> None:
    found = pool_fit(mappings_of(reads(100, 4096), VirtioBlk(), 64))
    assert found.fits and found.peak == 320 and found.smallest == 512 and found.parameter == "swiotlb=512,1,force"
    assert found.taken.sum() == 320 and found.worst == 255, "when the 64th request's last mapping is there"


def test_one_slot_too_few_is_refused_and_the_next_power_of_two_is_not() -> None:
    load = mappings_of(reads(100, 4096), VirtioBlk(), 27)  # 135 slots
    small = pool_fit(load, 128)
    assert not small.fits and small.full[0].used == 106 and small.smallest == 256
    assert pool_fit(load, small.smallest).fits


def test_a_mapping_of_more_than_a_segment_fits_no_pool() -> None:
    found = pool_fit(mappings_of(reads(1, 1 << 20), VirtioBlk(contiguous=1 << 20, segment=1 << 20)))
    assert not found.fits and found.smallest is None and "larger than 256 KiB" in found.full[0].why


def test_what_a_full_pool_said_of_itself(tmp_path: Path) -> None:
    said = SAID["mixed-full"]
    load = mappings(said, tmp_path)
    found = pool_fit(load, said.slots, said.areas, base=said.base)
    assert len(found.full) == load.failed.sum() and found.peak == said.peak
    assert "not in the trace" in " ".join(found.notes) and found.smallest and found.smallest > said.slots


def test_a_pool_is_what_the_kernel_grants() -> None:
    found = pool_fit(mappings_of(reads(1, 4096), VirtioBlk()), 300, 3)
    assert (found.pool.slots, found.pool.areas) == (512, 4) and "rounds up" in found.notes[-1]


def test_what_a_guest_has_by_default_is_no_more_than_assumed() -> None:
    load = mappings_of(reads(1, 4096), VirtioBlk(), 1)
    assumed = pool_fit(load).notes
    assert "6 % of their memory" in assumed[-2] and "--areas N" in assumed[-1]
    assert pool_fit(load, 512, 2).notes == load.notes


def test_a_base_that_no_mapping_lies_behind_is_refused_and_those_outside_are_counted(tmp_path: Path) -> None:
    said = SAID["4k-alone"]
    load = mappings(said, tmp_path)
    lowest = int(load.address.min())
    for base in (lowest + (1 << 30), lowest - (1 << 30), 0):
        with pytest.raises(UserMistake, match=f"no mapping of trace lies in the .* they lie from {lowest:#x} to"):
            pool_fit(load, said.slots, said.areas, base=base)
    higher = lowest + 4096
    outside = int((load.address[load.made] < higher).sum())
    notes = pool_fit(load, said.slots, said.areas, base=higher).notes
    assert f"{outside:,} mappings lie outside of the pool from {higher:#x}" in notes
    assert not any("outside" in note for note in pool_fit(load, said.slots, said.areas, base=lowest).notes)


@pytest.mark.parametrize(
    ("words", "slots"), [("64M", 32768), ("64MiB", 32768), ("1k", 1), ("3K", 2), ("4g", 2097152), ("2048b", 1)]
)
def test_slots_in_bytes_are_said_in_slots(words: str, slots: int, tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["pool", str(tmp_path), "--slots", words])
    assert f"--slots {words}: expected a number of slots of 2 KiB, not bytes; {words} is {slots} slots" in str(
        found.output
    )


def test_an_alignment_that_is_none() -> None:
    with pytest.raises(UserMistake, match="power of two"):
        pool_fit(mappings_of(reads(1, 4096), VirtioBlk()), align=3)


def test_a_buffer_that_the_device_fills_is_copied_twice() -> None:
    (read,) = mapping_counts(mappings_of(reads(10, 4096), VirtioBlk(), 1), timed=False)
    assert (read.maps, read.copies, read.copied_bytes) == (40, 40 + 20, 10 * (16 + 48 + 2 * 4096 + 2))
    assert (read.misses, read.invalidations, read.opened_pages) == (40, 40, 40)
    assert (read.peak_pages, read.peak_bytes) == (4, 4161)
    assert read.open_byte_seconds is None


def test_pages_that_mappings_share_are_open_once(tmp_path: Path) -> None:
    """The header and the status of a request lie in one page of the guest's memory."""
    load = mappings(SAID["4k-alone"], tmp_path)
    (found,) = mapping_counts(load)
    assert found.maps == 80 and found.bounced == 80 and found.peak_pages == 3 and found.open_byte_seconds
    assert found.opened_pages == 60, "header and status together"


def test_verbs_and_their_status(tmp_path: Path) -> None:
    trace = tmp_path / "trace.txt"
    trace.write_text(SAID["mixed-full"].trace)
    small = CliRunner().invoke(app, ["pool", str(trace), "--slots", "512", "--json"])
    assert small.exit_code == 1 and json.loads(small.output)["fits"] is False
    ample = CliRunner().invoke(app, ["pool", str(trace), "--slots", "4096"])
    assert ample.exit_code == 0 and ample.output.startswith("Answer: 4,096 slots (8 MiB) suffice")
    for words, match in (
        (["pool", str(trace), "--base", "x"], "--base x"),
        (["pool", str(trace), "--depth", "2"], "--depth"),
    ):
        assert match in str(CliRunner().invoke(app, words).output)
    counted = CliRunner().invoke(app, ["compare", str(trace), "--json"])
    assert json.loads(counted.output)["devices"][0]["maps"] > 0
