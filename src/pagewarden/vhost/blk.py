"""A block device behind a socket: what `pagewarden serve blk` does."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Unpack

from pagewarden.kernel.door import punch_hole
from pagewarden.kernel.files import holder_name, lock
from pagewarden.vhost.confined import block_device
from pagewarden.vhost.hosts import ServeCounts
from pagewarden.vhost.kinds import RING, DeviceKind
from pagewarden.vhost.serve import ServeOptions, serve_device
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.vocab import UserMistake

QCOW2 = b"QFI\xfb"
QUEUES_MAX = 16


def disk_kind(fd: int, read_only: bool = False, queues: int = 1) -> DeviceKind:
    """A block device on this descriptor."""
    image = Disk(fd, read_only, punch=punch_hole)
    return DeviceKind(
        lambda view, size: BlockDevice(view, image, queues, size),
        block_device, (fd,), (queues, read_only), queues, shortest=RING,
    )  # fmt: skip


@contextmanager
def opened_disk(path: Path, read_only: bool) -> Iterator[int]:
    """A raw file or a block device, locked while it is open; UserMistake for anything else."""
    try:
        fd = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
    except OSError as error:
        raise UserMistake(f"--disk {path}: {error.strerror}; name a raw file or a block device") from error
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            raise UserMistake(f"--disk {path} is neither a file nor a block device; name one of them")
        _take(fd, path, read_only)
        if os.pread(fd, len(QCOW2), 0) == QCOW2:
            raw = path.with_suffix(".raw")
            raise UserMistake(f"--disk {path} is qcow2, not raw: qemu-img convert -O raw {path} {raw}")
        if not os.lseek(fd, 0, os.SEEK_END) // 512:
            raise UserMistake(f"--disk {path} has not even one sector; truncate -s SIZE {path} makes it larger")
        yield fd
    finally:
        os.close(fd)


def _take(fd: int, path: Path, read_only: bool) -> None:
    """Two that write one disk destroy it; who only reads it shares it. UserMistake says who has it. Where a file system
    has no locks, it goes on."""
    holder = None
    with suppress(OSError):
        holder = lock(fd, read_only)
    if holder is not None:
        raise UserMistake(
            f"--disk {path} is in use as a disk by {holder_name(holder)}: two guests that write it destroy what is on "
            "it; give each a disk of its own, or --readonly to all"
        )


def serve_block(
    path: Path | None,
    fd: int | None,
    disk: Path,
    *,
    queues: int = 1,
    read_only: bool = False,
    **options: Unpack[ServeOptions],
) -> ServeCounts:
    """Serve the disk, as serve_device does."""
    if not 1 <= queues <= QUEUES_MAX:
        raise UserMistake(f"--queues {queues}: expected 1 to {QUEUES_MAX}")
    with opened_disk(disk, read_only) as file:
        return serve_device(disk_kind(file, read_only, queues), path, fd, disk, **options)
