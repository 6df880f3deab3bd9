"""Disks that are served to a guest of the lab."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSIDE = Path(__file__).parent.parent / "lab" / "guest" / "served_disk.py"
EXAMPLE = Path(__file__).parents[2] / "examples" / "random_device.py"
RANDOM = [
    *("-device", "pcie-root-port,id=rp2,slot=2,addr=0x1c"),
    *(
        "-device",
        "vhost-user-rng-pci,chardev=random,bus=rp2,iommu_platform=on,ats=on,indirect_desc=off,queue_reset=off",
    ),
]
"""Of the entropy device behind the same one. QEMU takes the driver's features whatever the back end offered
(hw/virtio/vhost-user-rng.c, vu_rng_get_features), so that what it does not know is off; behind a port it is modern."""
BEHIND_IOMMU = [
    *("-device", "intel-iommu,intremap=off,device-iotlb=on"),
    *("-device", "pcie-root-port,id=rp,slot=1,addr=0x1b"),
    *("-device", "vhost-user-blk-pci,chardev=iommu,bus=rp,iommu_platform=on,ats=on,disable-legacy=on"),
]
"""QEMU's words for a device behind an IOMMU of its own."""
LIMIT = 900.0
"""Seconds for a boot and its requests, beside busy neighbours."""


def block(seed: int, size: int) -> bytes:
    """As the guest makes it, too."""
    return hashlib.shake_128(seed.to_bytes(8, "little")).digest(size)


@contextmanager
def random_numbers(place: Path) -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
    """The worked example's device, and QEMU's words for its chardev."""
    socket = place / "random.sock"
    with _serving([str(EXAMPLE), str(socket)]) as process:
        yield process, ["-chardev", f"socket,id=random,path={socket}"]


@contextmanager
def served(disk: Path, place: Path, mode: str, *more: str) -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
    """`pagewarden serve blk --json` on the disk, and QEMU's words for a chardev of the mode's name."""
    with serving(disk, place / f"{mode}.sock", mode, *more) as (process, socket):
        yield process, ["-chardev", f"socket,id={mode},path={socket}"]


@contextmanager
def serving(
    disk: Path, socket: Path, mode: str, *more: str, program: tuple[str, str] = ("-m", "pagewarden")
) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """The same at a socket, by a program that takes the words of pagewarden."""
    words = ["serve", "blk", "--socket", str(socket), "--disk", str(disk), "--mode", mode, "--json", *more]
    with _serving([*program, *words]) as process:
        yield process, socket


@contextmanager
def _serving(words: list[str]) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert "serving" in process.stderr.readline()
        yield process
    finally:
        process.kill()
        process.communicate()
