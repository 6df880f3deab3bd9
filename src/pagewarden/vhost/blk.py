"""A block device behind a socket: what `pagewarden serve blk` does."""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from pagewarden.kernel.door import punch_hole
from pagewarden.kernel.listening import listening
from pagewarden.vhost.guarded import GuardedHost, ServedDisk
from pagewarden.vhost.hosts import OpenHost, ServeCounts, view_of
from pagewarden.vhost.iommu import IommuHost
from pagewarden.vhost.pool import PoolHost
from pagewarden.vhost.regions import GuestRegions
from pagewarden.vhost.server import Server, until_signal
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.vocab import PAGE_SIZE, UserMistake

ServeMode: TypeAlias = Literal["iommu", "pool", "open"]
MODES: tuple[ServeMode, ...] = get_args(ServeMode)
QCOW2 = b"QFI\xfb"
QUEUES_MAX = 16


def pages_between(given: str) -> range:
    """Guest physical pages from `ADDR-ADDR`, the second beyond the pool as Linux says it (kernel/dma/swiotlb.c,
    swiotlb_print_info). UserMistake."""
    try:
        first, stop = (int(part, 0) for part in given.split("-"))
        if first % PAGE_SIZE or not 0 <= first < stop <= 1 << 52:
            raise ValueError
    except ValueError:
        raise UserMistake(
            f"--pool {given}: expected ADDR-ADDR in whole pages; in the guest, dmesg | grep 'software IO TLB' says them"
        ) from None
    return range(first // PAGE_SIZE, -(-stop // PAGE_SIZE))


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
    pool: range | None = None,
    say: Callable[[str], None] = lambda what: None,
    tell: Callable[[Mapping[str, object]], object] = lambda event: None,
    live: Callable[[ServeCounts], None] | None = None,
) -> ServeCounts:
    """Serve the disk at a new socket, or at one that was inherited, until the front end's process or a signal ends it;
    what was done. allow_lazy: serve a guest that takes pages back late; probe: the device's process tries pages that
    are not lent all the while, and what answers is a violation; pool: see PoolHost; say: hears what went wrong;
    tell: what happens, event by event; live: hears the counts about once a second. UserMistake, Unavailable."""
    if not 1 <= queues <= QUEUES_MAX:
        raise UserMistake(f"--queues {queues}: expected 1 to {QUEUES_MAX}")
    counts = ServeCounts()

    def heard(what: str) -> None:
        tell({"event": "said", "what": what})
        say(what)

    counts.tell = tell
    with until_signal(), ExitStack() as opened:
        file = opened.enter_context(opened_disk(disk, read_only))
        memory = opened.enter_context(closing(GuestRegions()))
        view = opened.enter_context(closing(view_of(memory)))
        image = Disk(file, read_only, punch=punch_hole)
        device = BlockDevice(view, image, queues)
        opened.callback(device.close)
        host: OpenHost | GuardedHost = OpenHost(device, memory, queues, counts)
        served = ServedDisk(view, image, memory, queues, counts, heard, sealed=read_only, probe=probe)
        if mode == "iommu":
            host = IommuHost(served, allow_lazy=allow_lazy)
        elif mode == "pool":
            host = PoolHost(served, pool=pool)
        opened.callback(host.close)
        opened.callback(host.count)
        listener = opened.enter_context(listening(path, fd))
        heard(f"serving {disk} at {path if path is not None else f'descriptor {fd}'}")
        server = Server(listener, host, memory, heard)
        if live is not None:

            def look() -> None:
                host.count()
                live(counts)

            server.live = look
        server.run(stay)
    return counts
