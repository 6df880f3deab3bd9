"""A block device behind a socket: what `pagewarden serve blk` does."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from pagewarden.kernel.door import punch_hole
from pagewarden.kernel.listening import listening
from pagewarden.vhost.hosts import OpenHost, ServeCounts, view_of
from pagewarden.vhost.iommu import IommuHost
from pagewarden.vhost.regions import GuestRegions
from pagewarden.vhost.server import Server, until_signal
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.vocab import UserMistake

ServeMode: TypeAlias = Literal["iommu", "open"]
MODES: tuple[ServeMode, ...] = get_args(ServeMode)
QCOW2 = b"QFI\xfb"
QUEUES_MAX = 16


@contextmanager
def opened_disk(path: Path, read_only: bool) -> Iterator[int]:
    """A raw file or a block device; UserMistake for anything else."""
    try:
        fd = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
    except OSError as error:
        raise UserMistake(f"--disk {path}: {error.strerror}; name a raw file or a block device") from error
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            raise UserMistake(f"--disk {path} is neither a file nor a block device; name one of them")
        if os.pread(fd, len(QCOW2), 0) == QCOW2:
            raw = path.with_suffix(".raw")
            raise UserMistake(f"--disk {path} is qcow2, not raw: qemu-img convert -O raw {path} {raw}")
        if not os.lseek(fd, 0, os.SEEK_END) // 512:
            raise UserMistake(f"--disk {path} has not even one sector; truncate -s SIZE {path} makes it larger")
        yield fd
    finally:
        os.close(fd)


def serve_block(
    path: Path | None,
    fd: int | None,
    disk: Path,
    *,
    mode: ServeMode = "iommu",
    queues: int = 1,
    read_only: bool = False,
    stay: bool = False,
    allow_lazy: bool = False,
    probe: bool = False,
    say: Callable[[str], None] = lambda what: None,
) -> ServeCounts:
    """Serve the disk at a new socket, or at one that was inherited, until the front end's process or a signal ends it;
    what was done. allow_lazy: serve a guest that takes pages back late; probe: the device's process tries pages that
    are not lent all the while, and what answers is a violation; say: hears what went wrong. UserMistake,
    Unavailable."""
    if not 1 <= queues <= QUEUES_MAX:
        raise UserMistake(f"--queues {queues}: expected 1 to {QUEUES_MAX}")
    counts = ServeCounts()
    with until_signal(), ExitStack() as opened:
        file = opened.enter_context(opened_disk(disk, read_only))
        memory = opened.enter_context(closing(GuestRegions()))
        view = opened.enter_context(closing(view_of(memory)))
        image = Disk(file, read_only, punch=punch_hole)
        device = BlockDevice(view, image, queues)
        opened.callback(device.close)
        host: OpenHost | IommuHost = OpenHost(device, memory, queues, counts)
        if mode == "iommu":
            host = opened.enter_context(
                closing(
                    IommuHost(
                        view, image, memory, queues, counts, say,
                        sealed=read_only, allow_lazy=allow_lazy, probe=probe,
                    )
                )
            )  # fmt: skip
        opened.callback(host.count)
        listener = opened.enter_context(listening(path, fd))
        say(f"serving {disk} at {path if path is not None else f'descriptor {fd}'}")
        Server(listener, host, memory, say).run(stay)
    return counts
