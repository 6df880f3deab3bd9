"""Messages of a front end, checked before anything is done about them: request, flags, bytes, descriptors.

A front end is hostile: what does not fit the table ends the connection, and no descriptor of it stays open.
"""

import os
import socket
from typing import NamedTuple

from pagewarden.abi import vhost_user as abi
from pagewarden.abi.vhost_user import BackRequest, FrontRequest
from pagewarden.kernel.files import receive_fds
from pagewarden.vocab import PagewardenError


class MessageShape(NamedTuple):
    """What comes along: bytes, descriptors; answered: the message has an answer of its own."""

    sizes: range
    fds: range = range(1)
    answered: bool = False


def _exactly(size: int, fds: range = range(1), answered: bool = False) -> MessageShape:
    return MessageShape(range(size, size + 1), fds, answered)


_WHOLE, _CUT = int(socket.MSG_WAITALL), int(socket.MSG_CTRUNC)
_ONE, _MAYBE = range(1, 2), range(2)
_U64, _STATE = abi.U64.size, abi.VRING_STATE.size
_CONFIG = range(abi.CONFIG_HEAD.size + 1, abi.CONFIG_HEAD.size + abi.CONFIG_MAX + 1)
_TABLES = range(
    abi.TABLE_HEAD.size + abi.REGION.size, abi.TABLE_HEAD.size + abi.MEMORY_REGIONS * abi.REGION.size + 1,
    abi.REGION.size,
)  # fmt: skip
SHAPES = {
    FrontRequest.GET_FEATURES: _exactly(0, answered=True),
    FrontRequest.SET_FEATURES: _exactly(_U64),
    FrontRequest.SET_OWNER: _exactly(0),
    FrontRequest.RESET_OWNER: _exactly(0),
    FrontRequest.SET_MEM_TABLE: MessageShape(_TABLES, range(1, abi.MEMORY_REGIONS + 1)),
    FrontRequest.SET_VRING_NUM: _exactly(_STATE),
    FrontRequest.SET_VRING_ADDR: _exactly(abi.VRING_ADDR.size),
    FrontRequest.SET_VRING_BASE: _exactly(_STATE),
    FrontRequest.GET_VRING_BASE: _exactly(_STATE, answered=True),
    FrontRequest.SET_VRING_KICK: _exactly(_U64, _MAYBE),
    FrontRequest.SET_VRING_CALL: _exactly(_U64, _MAYBE),
    FrontRequest.SET_VRING_ERR: _exactly(_U64, _MAYBE),
    FrontRequest.GET_PROTOCOL_FEATURES: _exactly(0, answered=True),
    FrontRequest.SET_PROTOCOL_FEATURES: _exactly(_U64),
    FrontRequest.GET_QUEUE_NUM: _exactly(0, answered=True),
    FrontRequest.SET_VRING_ENABLE: _exactly(_STATE),
    FrontRequest.SET_BACKEND_REQ_FD: _exactly(0, _ONE),
    FrontRequest.IOTLB_MSG: _exactly(abi.IOTLB.size),
    FrontRequest.GET_CONFIG: MessageShape(_CONFIG, answered=True),
    FrontRequest.SET_CONFIG: MessageShape(_CONFIG),
    FrontRequest.GET_INFLIGHT_FD: _exactly(abi.INFLIGHT.size, answered=True),
    FrontRequest.SET_INFLIGHT_FD: _exactly(abi.INFLIGHT.size, _ONE),
    FrontRequest.RESET_DEVICE: _exactly(0),
    FrontRequest.GET_MAX_MEM_SLOTS: _exactly(0, answered=True),
    FrontRequest.ADD_MEM_REG: _exactly(abi.SINGLE_REGION.size, _ONE),
    FrontRequest.REM_MEM_REG: _exactly(abi.SINGLE_REGION.size, _MAYBE),
    FrontRequest.SET_STATUS: _exactly(_U64),
    FrontRequest.GET_STATUS: _exactly(0, answered=True),
}
"""Every request that is served; all others end the connection, since no feature that needs them is offered."""


class FrontEndFault(PagewardenError):
    """The front end broke the protocol, or asked for what cannot be: nothing of the message was done."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the front end {what}")


class FrontMessage(NamedTuple):
    """One message. fds belong to whoever has it."""

    request: FrontRequest
    need_reply: bool
    payload: bytes
    fds: list[int]

    def close(self) -> None:
        """Close the descriptors that nobody took."""
        while self.fds:
            os.close(self.fds.pop())

    def take_fd(self) -> int | None:
        """The next descriptor, now the caller's; None where there is none."""
        return self.fds.pop(0) if self.fds else None


def receive(connection: socket.socket) -> FrontMessage | None:
    """The next message, None at the end of the connection. FrontEndFault; no descriptor is left open then."""
    try:
        head, fds, flags = receive_fds(connection, abi.HEADER.size, abi.MEMORY_REGIONS, _WHOLE)
    except ConnectionError:
        return None
    try:
        if not head and not fds:
            return None
        if flags & _CUT:
            raise FrontEndFault(f"sent more than {abi.MEMORY_REGIONS} descriptors with a message")
        if len(head) < abi.HEADER.size:
            raise FrontEndFault("went away in the midst of a message")
        request, need_reply, size = _judged(head, len(fds))
        payload = _all_of(connection, size)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return FrontMessage(request, need_reply, payload, fds)


def _judged(head: bytes, fds: int) -> tuple[FrontRequest, bool, int]:
    """Request, whether it wants a reply, and bytes to come."""
    number, flags, size = abi.HEADER.unpack(head)
    if number not in SHAPES:
        raise FrontEndFault(f"sent request {number}, which is not served and needs a feature that was not offered")
    request = FrontRequest(number)
    shape = SHAPES[request]
    if flags & ~abi.NEED_REPLY != abi.VERSION:
        raise FrontEndFault(f"sent {request.name} with flags {flags:#x}")
    if size not in shape.sizes:
        raise FrontEndFault(f"sent {request.name} with {size} bytes")
    if fds not in shape.fds:
        raise FrontEndFault(f"sent {request.name} with {fds} descriptors")
    return request, bool(flags & abi.NEED_REPLY), size


def _all_of(connection: socket.socket, size: int) -> bytes:
    try:
        payload = connection.recv(size, _WHOLE) if size else b""
    except ConnectionError:
        payload = b""
    if len(payload) < size:
        raise FrontEndFault("went away in the midst of a message")
    return payload


def answer(connection: socket.socket, request: FrontRequest, payload: bytes, *fds: int) -> None:
    """Answer a message; OSError when the front end is gone."""
    message = abi.HEADER.pack(request, abi.VERSION | abi.REPLY, len(payload)) + payload
    if fds:
        socket.send_fds(connection, [message], fds)
    else:
        connection.sendall(message)


def ask(request: BackRequest, payload: bytes) -> bytes:
    """A message of the back end's that wants a reply."""
    return abi.HEADER.pack(request, abi.VERSION | abi.NEED_REPLY, len(payload)) + payload
