"""Kernels that tests boot under QEMU."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from pagewarden.lab import fetch, initramfs, pkvm, qemu
from pagewarden.vocab import Unavailable

SAME_CPU = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
"""Compiled code that is the same here and inside: what this machine has compiled, the emulated one need not."""


def compile_here(*words: str) -> None:
    """Run this interpreter with these words here first, however it ends: what is compiled by that would take minutes
    inside."""
    subprocess.run([sys.executable, *words], env={**os.environ, **SAME_CPU}, stdout=subprocess.DEVNULL)


def bootable(name: str, check: Callable[[], object]) -> fetch.Kernel:
    """That kernel; where it cannot be booted a skip with the reason, or a failure where PAGEWARDEN_REQUIRE_LAB=1.
    check raises Unavailable for what this machine lacks."""
    try:
        check()
        return fetch.kernel(name)
    except Unavailable as missing:
        if os.environ.get("PAGEWARDEN_REQUIRE_LAB") == "1":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


def x86() -> None:
    """Raises Unavailable where none of x86-64 can be booted."""
    _raise(qemu.lack())
    initramfs.busybox()


def arm64() -> None:
    """The same for arm64."""
    _raise(pkvm.lack())
    pkvm.emulator(lambda what: None)


def _raise(lack: str) -> None:
    if lack:
        raise Unavailable("no kernel can be booted here", lack)
