"""Faults on purpose at every system call that the warden makes to start and to end a host side: those through the door,
and those of `os`, `socket`, `select`, `fcntl`, `signal` and `subprocess` that pagewarden's modules ask for.
"""

import errno
import fcntl
import gc
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from injector import Calls, struck_calls

E = errno
ERRNOS: dict[str, tuple[int, ...]] = {
    "door": (E.ENOMEM, E.EPERM, E.EINVAL, E.EMFILE, E.ENFILE, E.EAGAIN, E.EBUSY),
    "open": (E.EMFILE, E.ENFILE, E.ENOMEM, E.EACCES, E.ENOENT, E.ELOOP),
    "close": (E.EIO, E.EINTR, E.ENOSPC),
    "fstat": (E.ENOMEM, E.EOVERFLOW),
    "readlink": (E.ENOENT, E.ENOMEM, E.EACCES),
    "ftruncate": (E.EIO, E.EFBIG, E.EPERM),
    "socketpair": (E.EMFILE, E.ENFILE, E.ENOMEM, E.ENOBUFS),
    "send": (E.ENOBUFS, E.ENOMEM, E.EPIPE, E.ECONNRESET, E.EAGAIN),
    "sendmsg": (E.ENOBUFS, E.ENOMEM, E.EPIPE, E.ECONNRESET, E.EAGAIN, E.ETOOMANYREFS, E.EMSGSIZE),
    "recvmsg": (E.ENOMEM, E.ECONNRESET, E.EAGAIN, E.ENOBUFS),
    "poll": (E.ENOMEM, E.EINVAL),
    "fcntl": (E.EMFILE, E.EINVAL, E.EPERM),
    "fork": (E.EAGAIN, E.ENOMEM, E.ENOSYS),
    "pidfd_send_signal": (E.EPERM, E.ENOMEM),
    "kill": (E.EPERM,),
    "wait": (),
}
"""What the manual pages of each list; EINTR is left to Python, which tries again by itself (PEP 475), but for close.
kill(2) of one's own child and waiting do not fail: there the exception of a signal handler alone."""
GIVES = ("open", "socketpair", "fork", "fcntl", "door", "recvmsg")
"""What gives a descriptor or a process: an exception after it, before Python has stored it, has nobody who could know
of it; these are struck before only."""
Choose = Callable[[int, str], "BaseException | None"]


class Counted:
    """Counts the calls; `choose(number from 1, name)` says what a call raises, if anything. An errno comes instead of
    the call, but close has closed all the same (close(2))."""

    def __init__(self, choose: Choose, after: bool = False) -> None:
        self.choose, self.after, self.made, self.struck = choose, after, 0, ""

    def around(self, name: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        self.made += 1
        fault = self.choose(self.made, name)
        if fault is None:
            return call(*arguments, **named)
        self.struck += f" {name}"
        if (self.after and name not in GIVES) or (name == "close" and isinstance(fault, OSError)):
            call(*arguments, **named)
        try:
            raise fault
        finally:
            del fault  # it refers to this frame

    def wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **named: self.around(name, call, *arguments, **named)


class _Door(Calls):
    def __init__(self, counted: Counted) -> None:
        super().__init__({})
        self._counted = counted

    def around(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return self._counted.around("door", call, *arguments)


class _Poll:
    def __init__(self, poll: Any, counted: Counted) -> None:
        self.register, self.unregister = poll.register, poll.unregister
        self.poll = counted.wrapped("poll", poll.poll)


@contextmanager
def every_call(counted: Counted) -> Iterator[None]:
    """All of them are counted here, whoever makes them."""
    poll = select.poll
    with pytest.MonkeyPatch.context() as patch, struck_calls(_Door(counted)):
        for module, names in {
            os: ("open", "close", "fstat", "readlink", "ftruncate"),
            socket: ("socketpair",),
            socket.socket: ("send", "sendmsg", "recvmsg", "close"),
            fcntl: ("fcntl",),
            signal: ("pidfd_send_signal",),
            subprocess.Popen: ("kill", "wait"),
        }.items():
            for name in names:
                patch.setattr(module, name, _method(counted, name, getattr(module, name)))
        patch.setattr(subprocess, "_fork_exec", counted.wrapped("fork", subprocess._fork_exec))  # type: ignore[attr-defined]
        patch.setattr(select, "poll", lambda: _Poll(poll(), counted))
        gc.disable()
        try:
            yield
        finally:
            gc.enable()


def _method(counted: Counted, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def around(*arguments: Any, **named: Any) -> Any:
        return counted.around(name, call, *arguments, **named)

    return around


# -- what is left ------------------------------------------------------------------------------------------------------


def descriptors() -> dict[str, int]:
    """What this process has open, by what it is, how often."""
    found: dict[str, int] = {}
    with os.scandir("/proc/self/fd") as entries:
        for entry in entries:
            try:
                kind = os.readlink(entry.path).split(":[")[0]
            except OSError:
                continue
            found[kind] = found.get(kind, 0) + 1
    return found


def descendants(root: int) -> set[int]:
    """The processes below, zombies left out."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fd = os.open(f"/proc/{name}/stat", os.O_RDONLY)
            except OSError:
                continue
            try:
                state, parent = os.read(fd, 4096).rsplit(b")", 1)[1].split(None, 2)[:2]
            except OSError:
                continue
            finally:
                os.close(fd)
            if state not in b"ZX":
                parents[int(name)] = int(parent)
    found: set[int] = set()
    while new := {pid for pid, parent in parents.items() if parent in found | {root}} - found:
        found |= new
    return found


def settled(allowed: set[int]) -> set[int]:
    """Processes below this one that are not of these, once those that were killed are gone: waits for that."""
    for _ in range(20_000):
        left = descendants(os.getpid()) - allowed
        if not left:
            break
        time.sleep(0.005)
    return left
