"""Asked of a kernel with UFFD_FEATURE_RWP: is protection alone enough to shut out a host side that is not trusted, its
page left where it is? It opens nothing itself, and has a disk without a page cache, of the size that is named.

Prints JSON. `protect` and `replace`: what the disk got of a page that was taken back while a write from it was under
way, "before" what lay there then, "after" what the guest wrote later. `touched`: which of its own calls (all of them
allowed to a host side) made the page answer again. `elsewhere`: what the kernel says of a protection from outside once
it has mapped something else there.
"""

import errno
import json
import mmap
import os
import select
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from pagewarden.abi import memory as uapi
from pagewarden.kernel.door import memfd
from pagewarden.kernel.region import Region
from pagewarden.kernel.uffd import RWP_FEATURES, RWP_GUARD, Userfault
from pagewarden.memory.isolated.replace import GuestView, Replacing
from pagewarden.vocab import PAGE_SIZE

PAGES = 4
PAGE = 2
"""The one that it is about; the last is private all the time."""
BEFORE, AFTER = b"\x0b", b"\xaf"
WRITE, BEGINS, DONE, EARLY = b"w", b"!", b".", b"-"
"""What is said of a write; EARLY: its page was taken back before it began."""


def disk_of(size: int) -> str:
    """The block device of so many bytes."""
    (found,) = (path.parent.name for path in Path("/sys/block").glob("vd*/size") if int(path.read_text()) * 512 == size)
    return f"/dev/{found}"


def host_side(channel: socket.socket, file: int, disk: int) -> None:
    region, guard = Region(PAGES * PAGE_SIZE), Userfault(RWP_FEATURES)
    region.place(file)
    guard.register(region.address, region.size, RWP_GUARD)
    socket.send_fds(channel, [region.address.to_bytes(8, "little")], [guard.fd])
    page = region.memory[PAGE * PAGE_SIZE : (PAGE + 1) * PAGE_SIZE]
    with mmap.mmap(-1, 1 << 20) as filling:
        while channel.recv(1) == WRITE:
            os.pwritev(disk, [filling], PAGE_SIZE)  # from here on the disk makes everybody wait
            channel.send(BEGINS)
            try:
                os.pwritev(disk, [page], 0)
                channel.send(DONE)
            except OSError as error:
                assert error.errno == errno.EFAULT
                channel.send(EARLY)
    scratch = memfd("ask", PAGE_SIZE)

    def answers() -> bool:
        try:
            return os.pwritev(scratch.fd, [page], 0) > 0
        except OSError as error:
            assert error.errno == errno.EFAULT
            return False

    def protected(offset: int, length: int) -> None:
        for prot in (uapi.PROT_READ, uapi.PROT_NONE, uapi.PROT_READ | uapi.PROT_WRITE):
            region.protect(prot, offset, length)

    tries: dict[str, Callable[[], object]] = {
        "nothing": lambda: None,
        "mprotect": lambda: protected(0, PAGES * PAGE_SIZE),
        "mprotect, one page": lambda: protected(PAGE * PAGE_SIZE, PAGE_SIZE),
        "madvise(DONTNEED)": lambda: region.advise_all(uapi.MADV_DONTNEED),
        "madvise(GUARD_*)": lambda: region.advise_all(uapi.MADV_GUARD_INSTALL, uapi.MADV_GUARD_REMOVE),
    }
    touched = []
    for name, attempt in tries.items():
        attempt()
        touched += [name] * answers()
        channel.send(b"t")
        channel.recv(1)  # shut again, if that changed anything
    region.bar()
    channel.send(json.dumps(touched).encode())
    channel.recv(1)


def under_way(channel: socket.socket) -> bool:
    return not select.select([channel], [], [], 0)[0]


def begun(pid: int, channel: socket.socket) -> None:
    """Wait until the write is under way in the kernel, or was."""
    while under_way(channel) and Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "D":
        pass


def warden(channel: socket.socket, pid: int, file: int, path: str) -> dict[str, object]:
    word, fds, *_ = socket.recv_fds(channel, 8, 1)
    guard, start = Userfault.adopt(fds[0]), int.from_bytes(word, "little")
    view = GuestView(PAGES * PAGE_SIZE)
    view.place(file)
    replacing = Replacing(file, view.address, view.size)
    shut, let = guard.protector(start, True), guard.protector(start, False)
    at, found = PAGE * PAGE_SIZE, dict[str, object]()

    def in_time(take_back: Callable[[int, int], object]) -> bool:
        """Take the page back during a write, and have the guest write to it; False: it was over, or had not begun."""
        view.memory[at : at + PAGE_SIZE] = BEFORE * PAGE_SIZE
        let(at, PAGE_SIZE)
        assert guard.map_present(start + at, PAGE_SIZE)[1] in (0, errno.EEXIST)
        channel.send(WRITE)
        assert channel.recv(1) == BEGINS
        begun(pid, channel)
        take_back(at, PAGE_SIZE)
        view.memory[at : at + PAGE_SIZE] = AFTER * PAGE_SIZE
        return under_way(channel) & (channel.recv(1) == DONE)

    ways: dict[str, Callable[[int, int], object]] = {"protect": shut, "replace": replacing.replace}
    for name, take_back in ways.items():
        while not in_time(take_back):
            pass
        with open(path, "rb") as disk:
            found[name] = {BEFORE: "before", AFTER: "after"}.get(disk.read(PAGE_SIZE)[:1], "?")
    guard.map_present(start + at, PAGE_SIZE)  # the page is there
    shut(0, view.size)
    channel.send(b"?")
    for _ in range(5):
        assert channel.recv(1) == b"t"
        shut(0, view.size)
        channel.send(b"?")
    found["touched"] = json.loads(channel.recv(1000))
    try:
        shut(at, PAGE_SIZE)
        found["elsewhere"] = "done"
    except OSError as error:
        found["elsewhere"] = errno.errorcode[error.errno or 0]
    return found


def main() -> None:
    path = disk_of(int(sys.argv[1]))
    file, disk = memfd("memory", PAGES * PAGE_SIZE), os.open(path, os.O_RDWR | os.O_DIRECT)
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if not (pid := os.fork()):
        here.close()
        host_side(there, file.fd, disk)
        os._exit(0)
    there.close()
    print(json.dumps(warden(here, pid, file.fd, path)))


if __name__ == "__main__":
    main()
