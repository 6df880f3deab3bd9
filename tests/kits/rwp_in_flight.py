"""Asked of a kernel with UFFD_FEATURE_RWP: what becomes of an untrusted host side's read or write of a disk that is
under way when its page is taken back? It has a disk that is slow, of the size that is named.

Prints JSON. By the way that it is done, what the disk got of a write (for a read: what the guest has): "before", what
lay in the page while it was shared; "after", what the guest wrote later; "refused": EFAULT, and neither.
"""

import errno
import json
import mmap
import os
import select
import sys
from pathlib import Path

from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory
from pagewarden.memory.isolated.process import HostProcess
from pagewarden.memory.isolated.protected import IsolatedRwp
from pagewarden.memory.isolated.side import HostSide

PLACE, FILLING = 2 << 20, 1 << 20
"""Where on the disk they read and write, and the bytes of a write that makes it slow."""
ODD = 100
"""Bytes: so few that the rest of the block is read first."""
BEFORE, AFTER, DISKS = b"\x0b", b"\xaf", b"\0"


def disk_of(size: int) -> str:
    """The block device of so many bytes."""
    (found,) = (path.parent.name for path in Path("/sys/block").glob("vd*/size") if int(path.read_text()) * 512 == size)
    return f"/dev/{found}"


def move(host: HostSide, reads: bool, length: int) -> None:
    """Each time that it is told, say so, move so many bytes between page 0 and the disk, and say how that went."""
    page = host._region.memory[:length]
    while host.listen():
        host.report(0)
        try:
            (os.preadv if reads else os.pwritev)(host.fds[0], [page], PLACE)
            host.report(0)
        except OSError as error:
            host.report(error.errno or errno.EIO)


def under_way(host: HostProcess) -> bool:
    return not select.select([host._channel], [], [], 0)[0]


def begun(host: HostProcess) -> None:
    """Wait until it is in the kernel, waiting for the disk, or was."""
    state = Path(f"/proc/{host.pid}/stat")
    while under_way(host) and state.read_text().rsplit(")", 1)[1].split()[0] != "D":
        pass


def said(host: HostProcess) -> int:
    message = host.receive(600)
    assert message is not None
    return message.value


def in_time(memory: PrivateMemory, host: HostProcess, disk: int, protects: bool) -> int | None:
    """Take the page back meanwhile, and have the guest write to it; its errno, None: it was over, or had not begun."""
    with mmap.mmap(-1, FILLING) as filling:
        filling.write(DISKS * FILLING)
        os.pwritev(disk, [memoryview(filling)[:PAGE_SIZE]], PLACE)
        os.posix_fadvise(disk, 0, 0, os.POSIX_FADV_DONTNEED)
        os.pwritev(disk, [filling], 0)  # from here on the disk makes everybody wait
    memory.private_write(0, BEFORE * PAGE_SIZE)
    memory.share(PageRange(0, 1))
    host.tell(1)
    said(host)
    begun(host)
    if protects:
        memory._backing.replaces = False  # type: ignore[attr-defined]
    memory.unshare(PageRange(0, 1))
    late = not under_way(host)
    memory.private_write(0, AFTER * PAGE_SIZE)
    code = said(host)
    return None if late else code


def tried(path: str, flags: int, reads: bool = False, protects: bool = False, length: int = PAGE_SIZE) -> str:
    disk, fd = os.open(path, os.O_RDWR | os.O_DIRECT), os.open(path, os.O_RDWR | flags)
    with PrivateMemory(4 * PAGE_SIZE, isolated=True) as memory:
        assert isinstance(memory._backing, IsolatedRwp)
        host = memory.spawn(move, reads, length, fds=(fd,))
        assert memory._backing.replaces == bool(flags)
        while (code := in_time(memory, host, disk, protects)) is None:
            pass
        with mmap.mmap(-1, PAGE_SIZE) as block:
            os.fdatasync(fd)
            os.preadv(disk, [block], PLACE)
            got = memory.private_read(0, 1) if reads else block[:1]
        moved = memory.statistics()["hyp_copies"]
    os.close(disk)
    os.close(fd)
    assert code in (0, errno.EFAULT) and (protects or bool(moved) == bool(flags)), (code, moved)
    shows = {BEFORE: "before", AFTER: "after", DISKS: "refused" if code else "?"}
    return shows[got] if not reads else "refused" if code and got == AFTER else "?"


def main() -> None:
    path = disk_of(int(sys.argv[1]))
    ways = {
        "replace, O_DIRECT": tried(path, os.O_DIRECT),
        "protect, O_DIRECT": tried(path, os.O_DIRECT, protects=True),
        "protect, write": tried(path, 0, length=ODD),
        "protect, read": tried(path, 0, reads=True),
    }
    print(json.dumps(ways))


if __name__ == "__main__":
    import rwp_in_flight  # what a host side runs has to be found by name

    rwp_in_flight.main()
