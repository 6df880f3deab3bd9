"""Moving the window's page, rather than its bytes, through pipes and sockets: each step holds a reference (GUP)."""

import ctypes
import os
import socket
from contextlib import ExitStack

from pagewarden.kernel.door import syscall
from pagewarden.probe import raw
from pagewarden.probe.registry import MARK, SAMPLE, Attempt, Direction, Target, path
from pagewarden.vocab import PAGE_SIZE, Unavailable

READ, WRITE = Direction.READ, Direction.WRITE
SO_ZEROCOPY, MSG_ZEROCOPY = 60, 0x4000000
"""include/uapi/asm-generic/socket.h; Python's socket module has no names for them."""
FILLER = 256 << 10
"""Bytes queued ahead, so that what follows stays in the send queue: well above the receiver's buffer."""


def vmsplice(fd: int, target: Target, length: int = SAMPLE) -> None:
    """Window's bytes into a pipe by reference, or out of one by copy, as the end of the pipe says."""
    piece = raw.vector((target.address, length))
    syscall("vmsplice", fd, ctypes.addressof(piece), 1, 0)


@path("vmsplice", READ, calls=("vmsplice",))
def vmsplice_out(target: Target) -> bytes:
    """vmsplice(2) of the window into a pipe."""
    with raw.pipe() as (receive, transmit):
        vmsplice(transmit, target)
        return os.read(receive, SAMPLE)


@path("vmsplice-before", READ, calls=("vmsplice",))
def vmsplice_before(target: Target) -> Attempt:
    """A page put into a pipe by vmsplice(2) before the conversion, read from the pipe after it."""
    with raw.pipe() as (receive, transmit):
        vmsplice(transmit, target)
        yield
        return os.read(receive, SAMPLE)


@path("vmsplice-into", WRITE, calls=("vmsplice",))
def vmsplice_into(target: Target) -> bytes:
    """vmsplice(2) from a pipe into the window."""
    with raw.pipe() as (receive, transmit):
        os.write(transmit, MARK)
        vmsplice(receive, target, len(MARK))
        return b""


@path("splice", READ, opens=raw.pair, calls=("splice",))
def splice(target: Target) -> bytes:
    """vmsplice(2) into a pipe, splice(2) on to a socket."""
    left, right = target.fds
    with raw.pipe() as (receive, transmit):
        vmsplice(transmit, target)
        os.splice(receive, right, SAMPLE)
        return os.read(left, SAMPLE)


@path("splice-to-file", READ, opens=raw.file(), calls=("splice",))
def splice_to_file(target: Target) -> bytes:
    """vmsplice(2) into a pipe, splice(2) on to a file."""
    with raw.pipe() as (receive, transmit):
        vmsplice(transmit, target)
        os.splice(receive, target.fds[0], SAMPLE)
        return os.pread(target.fds[1], SAMPLE, 0)


@path("tee", READ, calls=("tee",))
def tee(target: Target) -> bytes:
    """vmsplice(2) into a pipe, tee(2) to a second one."""
    with raw.pipe() as (receive, transmit), raw.pipe() as (second, into):
        vmsplice(transmit, target)
        syscall("tee", receive, into, SAMPLE, 0)
        return os.read(second, SAMPLE)


@path("tee-before", READ, calls=("tee",))
def tee_before(target: Target) -> Attempt:
    """A reference doubled by tee(2) before the conversion, the second pipe read after it."""
    with raw.pipe() as (receive, transmit), raw.pipe() as (second, into):
        vmsplice(transmit, target)
        syscall("tee", receive, into, SAMPLE, 0)
        os.read(receive, SAMPLE)
        yield
        return os.read(second, SAMPLE)


def connection() -> tuple[socket.socket, socket.socket]:
    """A TCP connection over the loopback (transmit, receive); the receiver's buffer is small."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        transmit = socket.socket()
        transmit.connect(listener.getsockname())
        receive, _ = listener.accept()
    transmit.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * FILLER)
    transmit.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    return transmit, receive


def zerocopy() -> None:
    """Unavailable without TCP or SO_ZEROCOPY."""
    try:
        for end in connection():
            end.close()
    except OSError as error:
        raise Unavailable(f"no zero-copy TCP on the loopback ({error})", "bring up lo; needs Linux 4.14") from error


def queued_zerocopy() -> None:
    """The same, and Unavailable where the send queue has no room for what is to lie ahead of the page."""
    zerocopy()
    transmit, receive = connection()
    with transmit, receive:
        transmit.setblocking(False)
        queued = 0
        try:
            while queued < FILLER + PAGE_SIZE:
                queued += transmit.send(bytes(FILLER + PAGE_SIZE - queued))
        except BlockingIOError:
            raise Unavailable(
                f"a send would block: the queue took {queued} of {FILLER + PAGE_SIZE} bytes, SO_SNDBUF is "
                f"{transmit.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)}",
                f"set net.core.wmem_max to {4 * FILLER} or more",
            ) from None


def connected(opened: ExitStack) -> tuple[int, ...]:
    """What opens the connection for a path: (transmit, receive)."""
    return tuple(opened.enter_context(end).fileno() for end in connection())


def send(target: Target) -> None:
    """Send the page without copying it."""
    syscall("sendto", target.fds[0], target.address, PAGE_SIZE, MSG_ZEROCOPY, 0, 0)


def receive_all(target: Target, length: int) -> bytes:
    """So many bytes, in as many pieces as they come."""
    received = b""
    while len(received) < length:
        received += os.read(target.fds[1], length - len(received))
    return received


@path("msg_zerocopy", READ, requires=zerocopy, opens=connected, locks=True)
def send_zerocopy(target: Target) -> bytes:
    """send(2) with MSG_ZEROCOPY from the window."""
    send(target)
    return receive_all(target, PAGE_SIZE)


@path("msg_zerocopy-before", READ, requires=queued_zerocopy, opens=connected, locks=True)
def send_zerocopy_before(target: Target) -> Attempt:
    """A page queued with MSG_ZEROCOPY behind a closed receive window, let through after the conversion."""
    os.write(target.fds[0], bytes(FILLER))
    send(target)
    yield
    return receive_all(target, FILLER + PAGE_SIZE)[FILLER:]
