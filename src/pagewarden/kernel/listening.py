"""Where others come to this process: the socket that they connect to, and the signals that end it."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import Struct
from types import FrameType

from pagewarden.vocab import UserMistake

_TIME = Struct("@ll")
"""struct timeval."""
BACKLOG = 16
"""Connections that wait to be accepted where anybody may come: one more is refused (a Unix socket's) or delayed."""


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


def _place(where: str) -> Path | tuple[str, int]:
    """PATH of a Unix socket, or HOST:PORT, where an IPv6 address has brackets; UserMistake."""
    host, colon, port = where.rpartition(":")
    if "/" in where or not colon:
        return Path(where)
    if not port.isdecimal() or int(port) > 65535 or not host:
        raise UserMistake(f"{where}: expected HOST:PORT, or the path of a Unix socket, with a / if it has a colon")
    return host.removeprefix("[").removesuffix("]"), int(port)


@contextmanager
def listening_at(where: str) -> Iterator[tuple[socket.socket, str]]:
    """A socket to listen at, and where that is: port 0 is any that is free. UserMistake."""
    place = _place(where)
    if isinstance(place, Path):
        with listening(place, None) as listener:
            listener.listen(BACKLOG)
            yield listener, where
        return
    try:
        family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        listener = socket.create_server(place, family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        raise UserMistake(f"{where} cannot be listened at: {_why(error)}; name an address of this host") from error
    with listener:
        yield listener, f"{where.rpartition(':')[0]}:{listener.getsockname()[1]}"


def connected(where: str, patience: float) -> socket.socket:
    """A connection to who listens there. UserMistake."""
    place = _place(where)
    try:
        if isinstance(place, Path):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                seconds, rest = divmod(patience, 1)
                limit = _TIME.pack(int(seconds), int(rest * 1e6))  # a full backlog is waited for (af_unix.c)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
                connection.connect(str(place))
                connection.settimeout(patience)
            except BaseException:
                connection.close()
                raise
            return connection
        connection = socket.create_connection(place, patience)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    except (OSError, UnicodeError) as error:
        raise UserMistake(f"nobody answers at {where} ({_why(error)}): start who listens there first") from error


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


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
