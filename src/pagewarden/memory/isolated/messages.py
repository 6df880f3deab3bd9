"""What the warden and the untrusted host side say to each other: one fixed record, and nothing is ever unpickled."""

import errno
import os
import select
import socket
import time
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from pagewarden.kernel.door import readable
from pagewarden.kernel.files import receive_fds
from pagewarden.vocab import Refused

RECORD = Struct("<IIq240s")
"""kind, length of data, value, data: 256 bytes on a SOCK_SEQPACKET socket."""
DATA_MAX = 240
FDS_MAX = 200
"""Descriptors of one message; the kernel's limit is 253 (include/net/scm.h, SCM_MAX_FD)."""


class MessageKind(IntEnum):
    """Who says it, and what it means."""

    HELLO = 1  # host: my window starts at `value`; its userfaultfd comes with this message
    READY = 2  # host: I have given up everything; data: what became of each part of the room
    REPORT = 3  # host: a value and a few bytes, for whoever steers the warden
    DONE = 4  # host: the function returned; value is 0, or 1 when it raised, with the words in data
    GO = 5  # warden: run; `value` is your process id as I see it
    TELL = 6  # warden: a value for the function
    ASK = 7  # host: nobody can look into me any more: the memory, please
    MEMORY = 8  # warden: the memory and the descriptors to keep come with this message
    WORDS = 9  # host: a part of what the function prints


class Message(NamedTuple):
    """What came over the channel, with the descriptors that came along."""

    kind: MessageKind
    value: int
    data: bytes
    fds: list[int]


def send(
    channel: socket.socket,
    kind: MessageKind,
    value: int = 0,
    data: bytes = b"",
    fds: tuple[int, ...] = (),
    timeout: float | None = None,
) -> None:
    """Send one record; OSError, ValueError for more than DATA_MAX bytes, Refused(ETIMEDOUT) when the other end has not
    made room after `timeout` seconds."""
    if len(data) > DATA_MAX:
        raise ValueError(f"{len(data)} bytes do not fit a message of {DATA_MAX}")
    record = RECORD.pack(kind, len(data), value, data)
    if fds:
        socket.send_fds(channel, [record], fds)
        return
    until = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            channel.send(record, 0 if until is None else socket.MSG_DONTWAIT)
            return
        except BlockingIOError:
            left = max(0.0, (until or 0.0) - time.monotonic())
            if not left or not readable([channel.fileno()], left, select.POLLOUT):
                raise Refused(errno.ETIMEDOUT, f"the other end has not read for {timeout} s") from None


def receive(
    channel: socket.socket, timeout: float | None, accepted: tuple[MessageKind, ...], fds: int = 0
) -> Message | None:
    """The next record, None at the end. It comes from whoever is at the other end, so every field is checked:
    Refused(EPROTO) for anything malformed or not accepted now, Refused(ETIMEDOUT) after `timeout` seconds.

    fds: how many descriptors must come along. Where none may, none is taken: the kernel drops them.
    """
    if timeout is not None and not readable([channel.fileno()], timeout):
        raise Refused(errno.ETIMEDOUT, f"no message in {timeout} s")
    got: list[int] = []
    try:
        if fds:
            raw, got, flags = receive_fds(channel, RECORD.size + 1, fds)
        else:
            raw, _, flags, _ = channel.recvmsg(RECORD.size + 1)
    except ConnectionResetError:
        return None
    if not raw and not got:
        return None
    try:
        return _checked(raw, flags, got, accepted, fds)
    except Refused:
        for fd in got:
            os.close(fd)
        raise


def _checked(raw: bytes, flags: int, got: list[int], accepted: tuple[MessageKind, ...], fds: int) -> Message:
    if len(raw) != RECORD.size or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(got) != fds:
        raise Refused(errno.EPROTO, f"a message of {len(raw)} bytes and {len(got)} descriptors is none of ours")
    kind, length, value, data = RECORD.unpack(raw)
    if kind not in accepted or length > DATA_MAX:
        raise Refused(errno.EPROTO, f"message kind {kind}, length {length}, is not accepted now")
    return Message(MessageKind(kind), value, data[:length], got)
