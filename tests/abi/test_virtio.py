"""Sizes and offsets as the specification has them, and values against the kernel's header where it is installed."""

import re
from pathlib import Path

import numpy as np
import pytest

from live import require
from pagewarden.abi import virtio, virtio_blk

HEADERS = Path("/usr/include/linux")
CONFIG = {
    "capacity": 0,
    "size_max": 8,
    "seg_max": 12,
    "cylinders": 16,
    "heads": 18,
    "sectors": 19,
    "blk_size": 20,
    "physical_block_exp": 24,
    "alignment_offset": 25,
    "min_io_size": 26,
    "opt_io_size": 28,
    "writeback": 32,
    "unused0": 33,
    "num_queues": 34,
    "max_discard_sectors": 36,
    "max_discard_seg": 40,
    "discard_sector_alignment": 44,
    "max_write_zeroes_sectors": 48,
    "max_write_zeroes_seg": 52,
    "write_zeroes_may_unmap": 56,
    "unused1": 57,
    "max_secure_erase_sectors": 60,
    "max_secure_erase_seg": 64,
    "secure_erase_sector_alignment": 68,
}


@pytest.mark.parametrize(
    ("dtype", "size", "offsets"),
    [
        (virtio.virtq_desc, 16, {"addr": 0, "len": 8, "flags": 12, "next": 14}),
        (virtio.virtq_used_elem, 8, {"id": 0, "len": 4}),
        (virtio_blk.virtio_blk_req, 16, {"type": 0, "reserved": 4, "sector": 8}),
        (virtio_blk.virtio_blk_discard_write_zeroes, 16, {"sector": 0, "num_sectors": 8, "flags": 12}),
        (virtio_blk.virtio_blk_config, 72, CONFIG),
    ],
    ids=lambda value: "",
)
def test_structs_lie_as_specified(dtype: "np.dtype[np.void]", size: int, offsets: dict[str, int]) -> None:
    assert dtype.itemsize == size and dtype.fields is not None
    assert {name: field[1] for name, field in dtype.fields.items()} == offsets


def defined(header: str) -> dict[str, int]:
    """Numbers that a header defines."""
    path = HEADERS / header
    require(path.exists(), f"{path} is not installed (linux-libc-dev)")
    found = re.findall(r"^#define[ \t]+(\w+)[ \t]+(0x[0-9a-fA-F]+|\d+)\b", path.read_text(), re.M)
    return {name: int(value, 0) for name, value in found}


@pytest.mark.parametrize(
    ("module", "header", "prefix", "theirs"),
    [
        (virtio_blk, "virtio_blk.h", "VIRTIO_BLK_", "VIRTIO_BLK_"),
        (virtio, "virtio_ring.h", "VIRTQ_DESC_F_", "VRING_DESC_F_"),
        (virtio, "virtio_ring.h", "VIRTQ_AVAIL_F_", "VRING_AVAIL_F_"),
        (virtio, "virtio_ring.h", "VIRTQ_USED_F_", "VRING_USED_F_"),
        (virtio, "virtio_config.h", "VIRTIO_F_", "VIRTIO_F_"),
    ],
)
def test_names_have_the_kernels_values(module: object, header: str, prefix: str, theirs: str) -> None:
    known = defined(header)
    if header == "virtio_config.h":  # what the specification calls VIRTIO_F_*, the kernel calls VIRTIO_RING_F_*
        known |= {name.replace("_RING_F_", "_F_"): value for name, value in defined("virtio_ring.h").items()}
    ours = {name.replace(prefix, theirs): value for name, value in vars(module).items() if name.startswith(prefix)}
    assert len(ours) > 0 and {name: known.get(name) for name in ours} == ours
