"""A device that is killed at any moment, and the one that takes its place: no request, no flushed write is lost."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagewarden.virtio.disk import Disk
from restart_kit import SECTORS, Guest
from virtio_kit import IN, SECTOR, FakeView, Rig
from waits import SOON

KILLS = 220


def warm(tmp_path: Path) -> None:
    """Load what is compiled before the first fork."""
    with (tmp_path / "warm").open("w+b") as file:
        file.truncate(SECTOR)
        Rig(FakeView(1 << 20), Disk(file.fileno())).do(IN, 0, into=SECTOR)


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    warm(tmp_path)
    files = [os.memfd_create("guest")]
    files += [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in ("cache", "keeps")]
    for file in files[1:]:
        os.ftruncate(file, SECTORS * SECTOR)
    made = Guest((files[0], files[1], files[2]), random.Random(5))
    yield made
    for file in [*files, *made.kick, *made.interrupt]:
        os.close(file)


@pytest.mark.parametrize("power", [False, True])
def test_killed_at_random_points_it_loses_nothing(guest: Guest, power: bool) -> None:
    dice = random.Random(11 + power)
    during = 0
    for _ in range(KILLS // 2):
        by_steps = dice.random() < 0.6  # else by the guest, right after it has rung so many times
        guest.start(dice.randint(1, 120) if by_steps else -1)
        end = guest.run(time.monotonic() + SOON, dice.randint(1, 60), -1 if by_steps else dice.randint(1, 12))
        assert end != "late", f"requests never came back: {guest.pending}"
        during += end != "finished"
        guest.end()
        if power and dice.random() < 0.5:
            guest.lose_power()
    assert during > KILLS // 8, "too few died at work for the test to say much"
    guest.start()
    assert guest.run(time.monotonic() + SOON, 100) == "finished", f"requests never came back: {guest.pending}"
    guest.end()
    assert guest.completed > KILLS
    whole = b"".join(guest.content[sector] for sector in range(SECTORS))
    assert os.pread(guest.cache, 1 << 20, 0) == whole
    assert all(set(data) == {0xA5} for _, data in guest.untouched())
    guest.lose_power()
