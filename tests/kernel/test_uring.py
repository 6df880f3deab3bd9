"""A submission holds what it has room for, and says how much that was."""

import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from live import require
from pagewarden.kernel.uring import ENTRIES, PARTS, Uring, why_none

PIECE = 64


@pytest.mark.parametrize("parts", [1, 20, 1000])
def test_what_there_is_no_room_for_is_left_for_the_next(tmp_path: Path, parts: int) -> None:
    """Runs of so many places each, more than a submission holds entries or struct iovec."""
    runs = ENTRIES + 5
    content = np.random.default_rng(parts).bytes(runs * parts * PIECE)
    (tmp_path / "file").write_bytes(content)
    at = np.arange(runs * parts)
    places = np.array([at * PIECE, np.full_like(at, PIECE)])
    k = np.arange(runs)
    todo = np.stack([0 * k, k * parts * PIECE, k * parts, (k + 1) * parts], axis=1)
    try:
        ring = Uring()
    except OSError as missing:
        require(False, why_none(missing))
        return
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    memory = mmap.mmap(-1, len(content))
    base = np.frombuffer(memory, np.uint8).ctypes.data
    counts = []
    try:
        while len(todo):
            moved = np.zeros(ENTRIES, np.uint8)
            counts.append(ring.together(fd, base, len(content), todo, places, moved))
            assert moved[: counts[-1]].all() and not moved[counts[-1] :].any()
            todo = todo[counts[-1] :]
    finally:
        os.close(fd)
        ring.close()
    room = min(ENTRIES, PARTS // parts)
    assert counts == [room] * (runs // room) + [runs % room] * (runs % room > 0)
    assert memory[:] == content
