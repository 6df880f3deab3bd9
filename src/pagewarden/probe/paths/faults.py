"""userfaultfd as the host's own tool: a second one on top of the window, or one that it finds among its descriptors."""

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator

from pagewarden.abi import uffd
from pagewarden.kernel import door
from pagewarden.probe import raw
from pagewarden.probe.registry import Direction, Target, path
from pagewarden.vocab import Unavailable

READ, WRITE = Direction.READ, Direction.WRITE
MODES = uffd.UFFDIO_REGISTER_MODE_MISSING | uffd.UFFDIO_REGISTER_MODE_MINOR
FEATURES = uffd.UFFD_FEATURE_SIGBUS | uffd.UFFD_FEATURE_MISSING_SHMEM | uffd.UFFD_FEATURE_MINOR_SHMEM
"""SIGBUS so that a look at a page that stays closed fails instead of waiting for ever."""


def fresh() -> int:
    """A userfaultfd of our own."""
    try:
        fd = door.syscall("userfaultfd", os.O_CLOEXEC)
    except PermissionError:
        fd = door.syscall("userfaultfd", os.O_CLOEXEC | uffd.UFFD_USER_MODE_ONLY)
    door.ioctl(fd, uffd.UFFDIO_API, ctypes.byref(uffd.uffdio_api(uffd.UFFD_API, FEATURES, 0)))
    return fd


def userfaultfd() -> None:
    """Unavailable where userfaultfd cannot do MINOR faults on shared memory."""
    try:
        os.close(fresh())
    except OSError as error:
        raise Unavailable(f"no userfaultfd for shared memory ({error})", "needs CONFIG_USERFAULTFD=y") from error


def range_of(target: Target) -> uffd.uffdio_range:
    """The page, as userfaultfd's calls take it."""
    return uffd.uffdio_range(target.address, target.length)


def resolve(fd: int, target: Target) -> None:
    """Open the page, as the warden would: an entry that is there is given its permissions back, where the kernel knows
    of read and write protection; a page that is open already stays so."""
    with contextlib.suppress(OSError):
        door.ioctl(fd, uffd.UFFDIO_RWPROTECT, ctypes.byref(uffd.uffdio_rwprotect(range_of(target), 0)))
    with contextlib.suppress(FileExistsError):
        door.ioctl(fd, uffd.UFFDIO_CONTINUE, ctypes.byref(uffd.uffdio_continue(range_of(target), 0, 0)))


def on_top(target: Target) -> None:
    """Register the page with our own userfaultfd and open it."""
    with contextlib.suppress(OSError):  # EBUSY: it has one already
        fd = fresh()
        door.ioctl(fd, uffd.UFFDIO_REGISTER, ctypes.byref(uffd.uffdio_register(range_of(target), MODES, 0)))
        resolve(fd, target)


def kept() -> Iterator[int]:
    """The userfaultfds among this process's descriptors."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if "userfaultfd" in os.readlink(f"/proc/self/fd/{name}"):
                yield int(name)


def any_kept(target: Target) -> list[int]:
    """The same, at least one; FileNotFoundError, or Unavailable where the memory has none at all."""
    found = list(kept())
    if not found and target.host == target.warden:
        raise Unavailable("no userfaultfd guards this memory", "try uffd-window")
    if not found:
        raise FileNotFoundError(2, "no userfaultfd among the descriptors")
    return found


def by_any(target: Target, act: Callable[[int], object]) -> None:
    """Try it by every userfaultfd that is there; OSError when none will do, the last one's."""
    failed: OSError | None = None
    for fd in any_kept(target):
        try:
            act(fd)
        except OSError as error:
            failed = error
        else:
            return
    if failed is not None:
        raise failed


def by_kept(target: Target) -> None:
    """Open the page by the memory's own userfaultfd."""
    by_any(target, lambda fd: resolve(fd, target))


def unregistered(target: Target) -> None:
    """Take the guard off the page by the memory's own userfaultfd."""
    by_any(target, lambda fd: door.ioctl(fd, uffd.UFFDIO_UNREGISTER, ctypes.byref(range_of(target))))


def register(name: str, about: str, act: Callable[[Target], None]) -> None:
    """Two paths of one act: it, then a read of the page; it, then a write."""

    @path(name, READ, about=f"{about}, then a look", requires=userfaultfd)
    def read(target: Target) -> bytes:
        act(target)
        return raw.look(target.address)

    @path(name, WRITE, about=f"{about}, then a write", requires=userfaultfd)
    def write(target: Target) -> bytes:
        act(target)
        return raw.poke(target.address)


register("userfaultfd-on-top", "a userfaultfd of the host's own on the page, whatever it answers", on_top)
register("userfaultfd-kept", "UFFDIO_RWPROTECT and CONTINUE by a userfaultfd found among the descriptors", by_kept)
register("userfaultfd-unregister", "UFFDIO_UNREGISTER by a userfaultfd found among the descriptors", unregistered)
