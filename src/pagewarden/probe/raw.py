"""Bare calls for the paths: an address goes in, an OSError or bytes come out. Nothing here dereferences in Python."""

import contextlib
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from ctypes import Array, addressof

from pagewarden.abi import memory as uapi
from pagewarden.abi.memory import iovec
from pagewarden.kernel.door import prctl, syscall
from pagewarden.probe.registry import MARK, SAMPLE, Died, Opens
from pagewarden.vocab import Unavailable

PR_SET_PTRACER, PR_SET_PTRACER_ANY = 0x59616D61, -1  # include/uapi/linux/prctl.h


def make_dumpable() -> None:
    """Let this process be looked into by its own user; its files in /proc are root's otherwise (proc(5))."""
    prctl(uapi.PR_SET_DUMPABLE, 1)
    with contextlib.suppress(OSError):  # EINVAL without the Yama module, which would let only ancestors in
        prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY)


def own_memory(length: int) -> int:
    """Fresh anonymous memory of this process, for as long as it lives; the address."""
    flags = uapi.MAP_PRIVATE | uapi.MAP_ANONYMOUS
    return syscall("mmap", 0, length, uapi.PROT_READ | uapi.PROT_WRITE, flags, -1, 0)


def vector(*pieces: tuple[int, int]) -> Array[iovec]:
    """An iovec array of (address, bytes) pieces."""
    return (iovec * len(pieces))(*[iovec(*piece) for piece in pieces])


def vectored(name: str, fd: int, *pieces: tuple[int, int], offset: int | None = None) -> int:
    """readv, writev, preadv or pwritev with pieces given by address."""
    array = vector(*pieces)
    position = () if offset is None else (offset, 0)
    return syscall(name, fd, addressof(array), len(pieces), *position)


def look(address: int, length: int = SAMPLE) -> bytes:
    """Bytes at an address, by the kernel's checked copy into a pipe (EFAULT instead of a signal)."""
    with pipe() as (receive, transmit):
        return os.read(receive, syscall("write", transmit, address, length))


def poke(address: int, data: bytes = MARK) -> bytes:
    """Change bytes at an address, by the kernel's checked copy out of a pipe."""
    with pipe() as (receive, transmit):
        os.write(transmit, data)
        syscall("read", receive, address, len(data))
    return b""


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's (read end, write end), closed afterwards."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def pair(opened: contextlib.ExitStack) -> tuple[int, ...]:
    """Two connected stream sockets."""
    return tuple(opened.enter_context(end).fileno() for end in socket.socketpair())


@contextlib.contextmanager
def scratch(content: bytes = b"", flags: int = 0) -> Iterator[tuple[int, int]]:
    """An unnamed file on disk (in TMPDIR) that holds `content`, opened twice, each with a position of its own; flags:
    more flags of the first, O_DIRECT say. Unavailable where there can be none: that is no refusal of the access on
    trial."""
    directory = os.environ.get("TMPDIR", "/tmp")
    try:
        first = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        advice = "set TMPDIR to a directory on a disk that everybody may write"
        raise Unavailable(f"no unnamed file in {directory} ({error.strerror})", advice) from error
    try:
        if content:
            os.pwrite(first, content, 0)
        try:
            fd = os.open(f"/proc/self/fd/{first}", os.O_RDWR | os.O_CLOEXEC | flags)
        except FileNotFoundError as error:
            raise Unavailable(
                "an open file cannot be opened again without /proc", "mount -t proc proc /proc"
            ) from error
        try:
            yield fd, first
        finally:
            os.close(fd)
    finally:
        os.close(first)


def file(content: bytes = b"", flags: int = 0) -> Opens:
    """What opens a scratch file for a path."""
    return lambda opened: opened.enter_context(scratch(content, flags))


class Helper:
    """Another process of the same user (a fork), which runs a function when told and hands back its bytes."""

    def __init__(self, function: Callable[[], bytes], before: Callable[[], bytes] = bytes) -> None:
        """Forks at once; `before` has run in it when this returns, `function` runs when `result` is asked for."""
        self._go, self._answer, ready = os.pipe(), os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._serve(function, before, ready[1])
        os.close(self._go[0])
        os.close(self._answer[1])
        os.close(ready[1])
        os.read(ready[0], 1)
        os.close(ready[0])

    def _serve(self, function: Callable[[], bytes], before: Callable[[], bytes], ready: int) -> None:
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            for number in (signal.SIGBUS, signal.SIGSEGV):
                signal.signal(number, signal.SIG_DFL)
            os.close(self._go[1])
            try:
                before()
                os.write(ready, b"!")
                os.read(self._go[0], 1)
                os.write(self._answer[1], b"+" + function())
            except OSError as error:
                os.write(self._answer[1], b"-%d" % (error.errno or 0))
        finally:
            os._exit(0)

    def result(self) -> bytes:
        """Let it run, wait for its end; raises what it raised (OSError), or Died."""
        os.close(self._go[1])
        with open(self._answer[0], "rb") as stream:
            answer = stream.read()
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            raise Died(os.WTERMSIG(status))
        if not answer.startswith(b"+"):
            number = int(answer[1:] or 0)
            raise OSError(number, os.strerror(number))
        return answer[1:]


def elsewhere(function: Callable[[], bytes]) -> bytes:
    """Run a function in a forked process, now."""
    return Helper(function).result()
