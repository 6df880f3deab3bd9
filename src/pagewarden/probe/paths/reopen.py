"""The memory behind the window, got at again: through /proc, kept descriptors, or the process that holds it."""

import os
from collections.abc import Callable, Iterator

from pagewarden.kernel import door
from pagewarden.kernel.door import syscall
from pagewarden.kernel.mappings import mappings
from pagewarden.probe import raw
from pagewarden.probe.outsider import Access
from pagewarden.probe.paths import peers
from pagewarden.probe.paths.mappings import mapping_of, place_of
from pagewarden.probe.registry import SAMPLE, Direction, Target, anywhere, path
from pagewarden.vocab import Unavailable

READ, WRITE = Direction.READ, Direction.WRITE


def by_map_files(target: Target) -> int:
    """The window's file, opened through /proc/self/map_files."""
    found = mapping_of(target)
    return os.open(f"/proc/self/map_files/{found.start:x}-{found.stop:x}", os.O_RDWR)


def descriptors(pid: int, target: Target) -> Iterator[int]:
    """Numbers of a process's descriptors of the window's file."""
    inode = mapping_of(target).file[1]
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.stat(f"/proc/{pid}/fd/{name}").st_ino == inode:
                yield int(name)
        except FileNotFoundError:
            continue  # the listing's own descriptor


def by_proc_fd(target: Target) -> int:
    """The window's file, opened through /proc/PID/fd of the warden."""
    for number in descriptors(target.warden, target):
        return os.open(f"/proc/{target.warden}/fd/{number}", os.O_RDWR)
    raise FileNotFoundError(2, "no descriptor of the memory")


def by_pidfd(target: Target) -> int:
    """The window's file, taken from the warden by pidfd_getfd(2)."""
    for number in descriptors(target.warden, target):
        return syscall("pidfd_getfd", os.pidfd_open(target.warden), number, 0)
    raise FileNotFoundError(2, "no descriptor of the memory")


def map_files() -> None:
    """Unavailable where a process may not follow its own map_files links."""
    own = next(each for each in mappings(os.getpid()) if each.file[1])
    try:
        os.close(os.open(f"/proc/self/map_files/{own.start:x}-{own.stop:x}", os.O_RDONLY))
    except OSError as error:
        raise Unavailable(
            f"/proc/self/map_files cannot be followed ({error.strerror})",
            "needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN",
        ) from error


def register(
    name: str,
    about: str,
    find: Callable[[Target], int],
    calls: tuple[str, ...] = (),
    requires: Callable[[], None] = anywhere,
) -> None:
    """The file found again, mapped, and used."""

    def mapped(target: Target) -> int:
        return door.map_anywhere(target.length, find(target), place_of(target))

    @path(name, READ, about=f"{about}, mapped again, then a look", calls=calls, requires=requires)
    def read(target: Target) -> bytes:
        return raw.look(mapped(target))

    @path(name, WRITE, about=f"{about}, mapped again, then a write", calls=calls, requires=requires)
    def write(target: Target) -> bytes:
        return raw.poke(mapped(target))


register("map_files", "/proc/self/map_files", by_map_files, requires=map_files)
register("proc-fd", "/proc/PID/fd of the warden", by_proc_fd)
register("pidfd_getfd", "the warden's descriptor by pidfd_getfd(2)", by_pidfd, ("pidfd_getfd",))


@path("sendfile", READ, opens=raw.pair)
def sendfile(target: Target) -> bytes:
    """sendfile(2) to a socket from the file, opened again through /proc."""
    left, right = target.fds
    os.sendfile(right, by_proc_fd(target), place_of(target), SAMPLE)
    return os.read(left, SAMPLE)


@path("splice-fd", READ)
def splice_fd(target: Target) -> bytes:
    """splice(2) to a pipe from the file, opened again through /proc."""
    with raw.pipe() as (receive, transmit):
        os.splice(by_proc_fd(target), transmit, SAMPLE, offset_src=place_of(target))
        return os.read(receive, SAMPLE)


def open_mapping(target: Target) -> int:
    """The page's address in the warden, not by the window; Unavailable where the memory is mapped once only."""
    if target.warden != target.host:
        return target.open_mapping
    own, place = mapping_of(target), place_of(target)
    for each in mappings(target.warden):
        address = each.start + place - each.offset
        if each.file == own.file and each.start <= address < each.stop and address != target.address:
            return address
    raise Unavailable("this memory is mapped once only", "nothing is missing")


def _register_warden(name: str, direction: Direction, access: Access, about: str) -> None:
    @path(name, direction, requires=peers.peers, about=about)
    def touch(target: Target) -> bytes:
        address = open_mapping(target)
        if name == "warden-mapping" and target.warden == target.host:
            return raw.look(address) if direction is READ else raw.poke(address)
        return peers.from_outside(target, access, target.warden, address)


_register_warden(
    "warden-mapping", READ, peers.vm_read,
    "The warden's open mapping: a look in its own process, process_vm_readv(2) from another one.",
)  # fmt: skip
_register_warden(
    "warden-mapping", WRITE, peers.vm_write,
    "The warden's open mapping: a write in its own process, process_vm_writev(2) from another one.",
)  # fmt: skip
for _direction, _access, _does in (READ, peers.mem_read, "reads"), (WRITE, peers.mem_write, "writes"):
    _about = f"Another process of the same user {_does} the warden's open mapping through /proc/PID/mem."
    _register_warden("warden-mem", _direction, _access, _about)
_about = "Another process of the same user attaches to the warden and reads its open mapping."
_register_warden("ptrace-attach", READ, peers.attach_and_peek, _about)
