"""What is asked of open files beside reading and writing: pipes of a size, flags, and advisory locks."""

import ctypes
import errno
import fcntl
import json
import os
import socket
import struct
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path

from pagewarden.kernel.door import Descriptor, opened_path, syscall

_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)  # as an enum, a microsecond slower
_UCRED = struct.Struct("iII")
"""struct ucred: pid, uid, gid (include/linux/socket.h)."""


class Pipe:
    """A pipe of about so many bytes; `size` is what the kernel gave. OSError where there is none to be had."""

    def __init__(self, size: int) -> None:
        pair = islice(iter(os.pipe, None), 1)
        self._ends = list(map(Descriptor, chain.from_iterable(pair)))  # one C call: an end has an owner at once
        self.receive, self.transmit = self._ends[0].fd, self._ends[1].fd
        with suppress(OSError):  # EPERM: over what a user may have (fs/pipe.c, pipe_set_size)
            fcntl.fcntl(self.transmit, fcntl.F_SETPIPE_SZ, size)
        self.size = fcntl.fcntl(self.transmit, fcntl.F_GETPIPE_SZ)

    def close(self) -> None:
        """Both ends; what is in it is gone. Twice is once."""
        for end in self._ends:
            end.close()


def receive_fds(connection: socket.socket, size: int, most: int, flags: int = 0) -> tuple[bytes, list[int], int]:
    """recvmsg(2): bytes, at most `most` descriptors, close-on-exec, and what the kernel says of the message (MSG_*).
    socket.recv_fds does not pass its flags on (CPython 3.11, Lib/socket.py). OSError."""
    fds = array("i")
    room = socket.CMSG_LEN(most * fds.itemsize)
    data, ancillary, said, _ = connection.recvmsg(size, room, flags | _CLOEXEC)
    for level, kind, part in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(part[: len(part) - len(part) % fds.itemsize])
    return data, fds.tolist(), said


def peer(connection: socket.socket) -> int:
    """The pid of the process that connected, or listened (SO_PEERCRED, unix(7)); 0: it is in another PID namespace."""
    pid, _, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(pid)


def write_at(fd: int, data: bytes | memoryview, at: int) -> None:
    """All of it from this offset on, in as many calls as it takes; OSError, with some written perhaps."""
    left = memoryview(data)
    while left:
        done = os.pwrite(fd, left, at)
        left, at = left[done:], at + done


def zeroes() -> Descriptor | None:
    """A file that reads as zeroes without end, the kernel's own /dev/zero; None where there is none to be had."""
    with suppress(OSError):
        file = opened_path("/dev/zero", os.O_RDONLY | os.O_CLOEXEC)
        if os.fstat(file.fd).st_rdev == os.makedev(1, 5):  # Documentation/admin-guide/devices.txt
            return file  # else it is something that a container put there
    return None


def flags(fd: int) -> int:
    """What the file was opened with, and what was set since (O_*); OSError."""
    return fcntl.fcntl(fd, fcntl.F_GETFL)


def keeps_its_size(fd: int) -> bool:
    """Is it sealed, so that nobody makes it shorter (F_SEAL_SHRINK)? Only a file of memfd_create(2) can be."""
    with suppress(OSError):
        return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK)
    return False


def file_system(fd: int) -> int:
    """What kind of file system the file is in: f_type of fstatfs(2), as in include/uapi/linux/magic.h. OSError."""
    found = (ctypes.c_long * 32)()  # struct statfs is 15 (include/uapi/asm-generic/statfs.h)
    syscall("fstatfs", fd, ctypes.addressof(found))
    return found[0] & 0xFFFFFFFF


def lock(fd: int, shared: bool, wait: bool = False) -> int | None:
    """Take an advisory lock on the open file (flock(2)), gone when its last descriptor is closed: None, or the pid of
    who has it, 0 where /proc does not say. wait: until it can be had. OSError where there are no locks."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno != errno.EWOULDBLOCK:
            raise
        return _holder(fd)
    return None


def holder_name(pid: int) -> str:
    """Who has a lock, in words, by what `lock` said."""
    if pid == os.getpid():
        return "this very process"
    with suppress(OSError):
        return f"process {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})"
    return f"process {pid}" if pid else "a process that this one cannot see"


def unlock(fd: int) -> None:
    """Give it back, if it was there."""
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)


def _holder(fd: int) -> int:
    """Of a flock on this file: /proc/locks has lines `1: FLOCK ADVISORY WRITE pid major:minor:inode start end`, the
    device numbers in hexadecimal (fs/locks.c, lock_get_status)."""
    status = os.fstat(fd)
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with suppress(OSError), open("/proc/locks") as lines:
        for line in lines:
            words = line.split()
            if words[1] == "FLOCK" and words[5] == place:
                return max(int(words[4]), 0)
    return 0


@contextmanager
def event_lines(path: Path | None) -> Iterator[Callable[[Mapping[str, object]], object]]:
    """What appends events to a file, where one is named: a JSON object a line, with the time in seconds since 1970.
    OSError."""
    if path is None:
        yield lambda event: None
        return
    with open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab", 0) as file:
        yield lambda event: file.write(json.dumps({"time": round(time.time(), 3), **event}).encode() + b"\n")
