"""The kernel that this room's tests boot."""

import os

import pytest

from pagewarden.lab import fetch, initramfs, qemu
from pagewarden.vocab import Unavailable

NAME = os.environ.get("PAGEWARDEN_LAB_KERNEL", "debian:6.12")


@pytest.fixture(scope="module")
def kernel() -> fetch.Kernel:
    """A kernel that can be booted here; a skip with the reason, or a failure where PAGEWARDEN_REQUIRE_LAB=1."""
    try:
        if lack := qemu.lack():
            raise Unavailable("no kernel can be booted here", lack)
        initramfs.busybox()
        return fetch.kernel(NAME)
    except Unavailable as missing:
        if os.environ.get("PAGEWARDEN_REQUIRE_LAB") == "1":
            pytest.fail(str(missing))
        pytest.skip(str(missing))
