"""Where others come to this process: the socket that they connect to, and the signals that end it."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from pagewarden.vocab import UserMistake


@contextmanager
def heard(end: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """SIGTERM and Ctrl-C call `end` meanwhile."""
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def listening(path: Path | None, fd: int | None) -> Iterator[socket.socket]:
    """A Unix socket to listen at: a new one at the path, which goes with it, or one that was inherited. UserMistake."""
    if (path is None) == (fd is None):
        raise UserMistake("where does QEMU come to: give --socket PATH, or --fd N for a socket that was inherited")
    if fd is not None:
        try:
            listener = socket.socket(fileno=fd)
            if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) or listener.family != socket.AF_UNIX:
                raise OSError
        except OSError:
            raise UserMistake(
                f"--fd {fd} is no Unix socket that listens; let whoever starts this listen first"
            ) from None
        with listener:
            yield listener
        return
    assert path is not None
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener:
        _bind(listener, path)
        try:
            listener.listen(1)
            yield listener
        finally:
            with suppress(OSError):
                path.unlink()


def _bind(listener: socket.socket, path: Path) -> None:
    """At the path; one that nobody listens at any more is taken over."""
    if path.is_socket():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            else:
                raise UserMistake(f"{path}: somebody listens there already; end it, or take another --socket")
    try:
        listener.bind(str(path))
    except OSError as error:
        raise UserMistake(
            f"--socket {path}: {error.strerror or error}; name a new file in a directory that is there"
        ) from error
