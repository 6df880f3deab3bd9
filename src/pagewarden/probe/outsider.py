"""A process of the host side's own user but outside its sandbox, which reaches into others when the host side asks."""

import os
import socket
from collections.abc import Callable, Mapping
from struct import Struct
from typing import NoReturn, TypeAlias

from pagewarden.kernel import confine
from pagewarden.probe.registry import SAMPLE

Access: TypeAlias = Callable[[int, int], bytes]
"""Reaches for an address of a process: access(pid, address), the bytes seen; OSError."""
REQUEST = Struct("<24sqQ")
"""Name of the access, pid, address."""
ANSWER = Struct(f"<q{SAMPLE}s")
"""errno or 0, the bytes seen (padded)."""


class Outsider:
    """Forked at once, so make it before the memory exists; `fd` asks it. It lives as long as anybody can ask.
    privileged: whether it stays root where it is that; an untrusted host side is nobody there, and so is this."""

    def __init__(self, accesses: Mapping[str, Access], privileged: bool = False) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.fd = self._ours.fileno()
        if os.fork() == 0:
            self._ours.close()
            _serve(theirs, accesses, privileged)
        theirs.close()


def _serve(channel: socket.socket, accesses: Mapping[str, Access], privileged: bool) -> NoReturn:
    try:
        if not privileged:
            if os.geteuid() == 0:
                confine.become_nobody()
            confine.drop_capabilities()  # also those that an ordinary user was granted
        while request := channel.recv(REQUEST.size):
            name, pid, address = REQUEST.unpack(request)
            channel.send(_answer(accesses[name.rstrip(b"\0").decode()], pid, address))
    finally:
        os._exit(0)


def _answer(access: Access, pid: int, address: int) -> bytes:
    try:
        return ANSWER.pack(0, access(pid, address))
    except OSError as error:
        return ANSWER.pack(error.errno or 0, b"")


def ask(fd: int, name: str, pid: int, address: int) -> bytes:
    """The bytes that the outsider saw; OSError as it had it."""
    os.write(fd, REQUEST.pack(name.encode(), pid, address))
    code, seen = ANSWER.unpack(os.read(fd, ANSWER.size))
    if code:
        raise OSError(code, os.strerror(code))
    return bytes(seen)
