"""The kernel that this room's tests boot."""

import os

import pytest

from kernels import bootable, x86
from pagewarden.lab import fetch

NAME = os.environ.get("PAGEWARDEN_LAB_KERNEL", "debian:6.12")


@pytest.fixture(scope="module")
def kernel() -> fetch.Kernel:
    return bootable(NAME, x86)
