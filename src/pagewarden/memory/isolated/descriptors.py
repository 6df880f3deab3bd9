"""What the host side is given besides the memory: open files as descriptions of its own, by the caller's numbers."""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from errno import EPERM

from pagewarden.kernel import confine
from pagewarden.kernel.files import file_system, flags
from pagewarden.memory.isolated.messages import FDS_MAX
from pagewarden.vocab import Refused, UserMistake

COPYING = (0xEF53, 0x58465342, 0x9123683E, 0x01021994)
"""File systems that copy what is read and written without O_DIRECT: ext2 to ext4, XFS, btrfs, tmpfs
(include/uapi/linux/magic.h; fs/xfs/libxfs/xfs_format.h, XFS_SB_MAGIC)."""
KEPT_FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_DIRECT | os.O_SYNC | os.O_DSYNC | os.O_NOATIME


@contextmanager
def descriptions_of_its_own(fds: tuple[int, ...], memory: int) -> Iterator[tuple[int, ...]]:
    """The files behind the descriptors, opened again, in the same order: offsets and flags that the host side changes
    are its own then. What cannot be opened again (a pipe, a socket, an eventfd, a file that may no longer be opened)
    goes as it is. UserMistake, and Refused(EPERM) for the memory itself."""
    if len(set(fds)) != len(fds) or len(fds) > FDS_MAX:
        raise UserMistake(f"{len(fds)} descriptors to keep, some of them twice or more than {FDS_MAX}")
    with ExitStack() as opened:
        own = []
        for fd in fds:
            try:
                status = os.fstat(fd)
            except OSError as error:
                raise UserMistake(f"descriptor {fd} is not open here: {error.strerror}") from error
            if stat.S_ISDIR(status.st_mode):
                raise UserMistake(
                    f"descriptor {fd} is a directory, in which a host side can open nothing: keep its files"
                )
            if os.path.samestat(status, os.fstat(memory)):
                raise Refused(EPERM, "the memory itself is not for the host side to keep")
            again = _opened_again(fd, status.st_mode)
            if again != fd:
                opened.callback(os.close, again)
            own.append(again)
        yield tuple(own)


def _opened_again(fd: int, mode: int) -> int:
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
        with suppress(OSError):
            return confine.lift(os.open(f"/proc/self/fd/{fd}", flags(fd) & KEPT_FLAGS | os.O_CLOEXEC))
    return fd


def may_pin(fd: int, own: bool) -> bool:
    """May reads and writes of it take the caller's pages by reference, as O_DIRECT does? False where the kernel is
    known to copy: pipes, eventfds, and, with a description of its own (nobody else sets its flags), block devices and
    the files of COPYING without O_DIRECT. A socket may bring any file later. docs/isolation.md says what pins."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
        copies = stat.S_ISBLK(mode) or file_system(fd) in COPYING
        return not (own and copies) or bool(flags(fd) & os.O_DIRECT)
    return not stat.S_ISFIFO(mode) and os.readlink(f"/proc/self/fd/{fd}") != "anon_inode:[eventfd]"
