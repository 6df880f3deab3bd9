"""Guests booted anew: `make guest-check`. Their kernel's own counters judge the model of its pool and of its driver.

Not of `make test`, which has the recorded answers; PAGEWARDEN_RECORD=1 records them again.
"""

import os
from pathlib import Path

import pytest

from pagewarden.lab import fetch
from pool_guest import BOOTS, PoolBoot, as_the_driver_maps, as_the_kernel_said, ask, record


@pytest.mark.parametrize("boot", BOOTS, ids=lambda boot: f"{boot.slots}-{boot.areas}-{boot.cpus}")
def test_a_guest_of_today(boot: PoolBoot, kernel: fetch.Kernel, tmp_path: Path) -> None:
    for said in ask(kernel, boot):
        if os.environ.get("PAGEWARDEN_RECORD") == "1":
            record(said)
        as_the_kernel_said(said, tmp_path)
        if said.name.startswith("driver-"):
            as_the_driver_maps(said, tmp_path)
