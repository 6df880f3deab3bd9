"""Disks that are served to a guest of the lab."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSIDE = Path(__file__).parent.parent / "lab" / "guest" / "served_disk.py"
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
def served(disk: Path, place: Path, mode: str, *more: str) -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
    """`pagewarden serve blk --json` on the disk, and QEMU's words for a chardev of the mode's name."""
    socket = place / f"{mode}.sock"
    words = ["serve", "blk", "--socket", str(socket), "--disk", str(disk), "--mode", mode, "--json", *more]
    process = subprocess.Popen(
        [sys.executable, "-m", "pagewarden", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert "serving" in process.stderr.readline()
        yield process, ["-chardev", f"socket,id={mode},path={socket}"]
    finally:
        process.kill()
        process.communicate()
