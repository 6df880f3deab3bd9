"""What the warden and the untrusted host side say to each other: one fixed record, and nothing is ever unpickled."""

import errno
import os
import socket
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from pagewarden.kernel.door import readable
from pagewarden.vocab import Refused

RECORD = Struct("<IIq240s")
"""kind, length of data, value, data: 256 bytes on a SOCK_SEQPACKET socket."""
DATA_MAX = 240


class Kind(IntEnum):
    HELLO = 1  # host: my window starts at `value`; its userfaultfd comes with this message
    READY = 2  # host: I have given up everything
    REPORT = 3  # host: a value and a few bytes, for whoever steers the warden
    DONE = 4  # host: the function returned; value is 0, or 1 when it raised, with the words in data
    GO = 5  # warden: run
    TELL = 6  # warden: a value for the function


class Message(NamedTuple):
    kind: Kind
    value: int
    data: bytes
    fds: list[int]


def send(channel: socket.socket, kind: Kind, value: int = 0, data: bytes = b"", fds: tuple[int, ...] = ()) -> None:
    """Send one record; OSError, ValueError for more than DATA_MAX bytes."""
    if len(data) > DATA_MAX:
        raise ValueError(f"{len(data)} bytes do not fit a message of {DATA_MAX}")
    socket.send_fds(channel, [RECORD.pack(kind, len(data), value, data)], fds)


def receive(channel: socket.socket, timeout: float | None, accepted: tuple[Kind, ...], fds: int = 0) -> Message | None:
    """The next record, None at the end. It comes from whoever is at the other end, so every field is checked:
    Refused(EPROTO) for anything malformed or not accepted now, Refused(ETIMEDOUT) after `timeout` seconds."""
    if not readable([channel.fileno()], timeout):
        raise Refused(errno.ETIMEDOUT, f"no message in {timeout} s")
    try:
        raw, got, flags, _ = socket.recv_fds(channel, RECORD.size + 1, max(fds, 1))
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


def _checked(raw: bytes, flags: int, got: list[int], accepted: tuple[Kind, ...], fds: int) -> Message:
    if len(raw) != RECORD.size or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(got) != fds:
        raise Refused(errno.EPROTO, f"a message of {len(raw)} bytes and {len(got)} descriptors is none of ours")
    kind, length, value, data = RECORD.unpack(raw)
    if kind not in accepted or length > DATA_MAX:
        raise Refused(errno.EPROTO, f"message kind {kind}, length {length}, is not accepted now")
    return Message(Kind(kind), value, data[:length], got)
