"""What the host side is given besides the memory: open files as descriptions of its own, by the caller's numbers."""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from errno import EPERM

from pagewarden.kernel import confine
from pagewarden.kernel.files import flags
from pagewarden.memory.isolated.messages import FDS_MAX
from pagewarden.vocab import Refused, UserMistake

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
