"""Words between the warden and the process of a device: records over a SOCK_SEQPACKET socket, checked by both.

A record is a kind, a number and pairs of 64-bit numbers. I/O addresses and offsets in the window count in pages.
"""

import errno
import os
import socket
from collections.abc import Sequence
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pagewarden.kernel.files import receive_fds
from pagewarden.vocab import Refused

HEAD = Struct("<Iq4x")
PAIRS_MAX = 4096
"""Pairs of a record: 64 KiB, which a socket takes at once."""
FDS_MAX = 3
RECORD_MAX = HEAD.size + 16 * PAIRS_MAX


class WireKind(IntEnum):
    """What a record says; the first are the warden's, the others the device's."""

    FEATURES = 1  # number: the driver's; everything stops
    START = 2  # number: a ring; (entries, descriptor table), (avail, used), [place, entries]; kick, call, [file]
    CALL = 3  # number: a ring; its new call
    STOP = 4  # number: a ring
    GRANT = 5  # (I/O page, entry of the table: see translated), or NOT_NOW, or NEVER
    CLOSE = 6  # number: of this order; (I/O page that is no more, page of the window to close or -1)
    MISS = 10  # (I/O page, 1 where it is to be written)
    CLOSED = 11  # number: of the order
    STOPPED = 12  # number: a ring; (chains done, 0)
    BROKEN = 13  # number: a ring that waits for its driver's reset


NOT_NOW, NEVER = 0, -1
FDS: dict[int, int] = {WireKind.START: FDS_MAX, WireKind.CALL: 1}
"""Descriptors of a record at most; the others have none."""


class WireRecord(NamedTuple):
    """One record; pairs: int64, shape (n, 2)."""

    kind: WireKind
    number: int
    pairs: NDArray[np.int64]
    fds: list[int]


def pack(kind: WireKind, number: int = 0, pairs: "Sequence[tuple[int, int]] | NDArray[np.int64]" = ()) -> bytes:
    """One record's bytes."""
    return HEAD.pack(kind, number) + np.asarray(pairs, np.int64).tobytes()


def send(channel: socket.socket, data: bytes, fds: tuple[int, ...] = (), wait: bool = True) -> None:
    """Refused(EAGAIN) where the other end does not read and we do not wait; OSError when it is gone."""
    try:
        if fds:
            socket.send_fds(channel, [data], fds)
        else:
            channel.send(data, 0 if wait else socket.MSG_DONTWAIT)
    except BlockingIOError:
        raise Refused(errno.EAGAIN, "the device's process does not read what it is told") from None


def receive(channel: socket.socket, accepted: range, wait: bool = True) -> WireRecord | None:
    """The next record, None at the end. Refused(EPROTO) for what is none of the accepted kinds; BlockingIOError where
    there is none and we do not wait."""
    try:
        data, fds, got = receive_fds(channel, RECORD_MAX + 1, FDS_MAX, 0 if wait else socket.MSG_DONTWAIT)
    except ConnectionResetError:
        return None
    if not data:
        return None
    try:
        size = len(data) - HEAD.size
        if size < 0 or size % 16 or len(data) > RECORD_MAX or got & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise Refused(errno.EPROTO, f"a record of {len(data)} bytes")
        kind, number = HEAD.unpack_from(data)
        if kind not in accepted:
            raise Refused(errno.EPROTO, f"a record of kind {kind}")
        if len(fds) > FDS.get(kind, 0):
            raise Refused(errno.EPROTO, f"a record of kind {kind} with {len(fds)} descriptors")
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return WireRecord(WireKind(kind), number, np.frombuffer(data, np.int64, offset=HEAD.size).reshape(-1, 2), fds)


WARDENS = range(WireKind.FEATURES, WireKind.CLOSE + 1)
DEVICES = range(WireKind.MISS, WireKind.BROKEN + 1)
