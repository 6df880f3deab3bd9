"""Waiting for a front end, serving it, and waiting for it to come again, until it ends or somebody ends us."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from pagewarden.kernel.door import polling
from pagewarden.kernel.files import peer
from pagewarden.kernel.listening import heard
from pagewarden.vhost.device_host import PolledHost
from pagewarden.vhost.messages import FrontEndFault
from pagewarden.vhost.regions import GuestRegions
from pagewarden.vhost.session import FrontSession
from pagewarden.vocab import Refused

COMPLAINTS = 16
"""Lines about one connection."""
UNKNOWN, GONE = -1, -2
"""In place of the descriptor of a front end's process."""


class SignalEnd(Exception):
    """Somebody ended us: by a signal."""


@contextmanager
def until_signal() -> Iterator[None]:
    """SIGTERM and Ctrl-C end the block, which is no error."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SignalEnd

    with suppress(SignalEnd), heard(end):
        yield


class Server:
    """Serves one front end after the other."""

    def __init__(
        self, listener: socket.socket, host: PolledHost, memory: GuestRegions, say: Callable[[str], None]
    ) -> None:
        self._listener, self._host, self._memory, self._say = listener, host, memory, say
        self.live: Callable[[], None] | None = None
        """Called about once a second, where there is one."""
        self._due = 0.0

    def run(self, stay: bool = False) -> None:
        """Until the process that connected has ended; stay: for ever."""
        peer = UNKNOWN
        try:
            while self._waited_for(peer):
                connection, _ = self._listener.accept()
                if peer >= 0:
                    os.close(peer)
                peer = UNKNOWN if stay else _pidfd(connection)
                self.serve(connection)
        finally:
            if peer >= 0:
                os.close(peer)

    def _waited_for(self, peer: int) -> bool:
        """A front end has come; False where the one that went is gone for good."""
        poll = polling([self._listener.fileno(), *([peer] if peer >= 0 else [])])
        while not (ready := poll.poll(0 if peer == GONE else self._pause())) and peer != GONE:
            self._tick()
        return self._listener.fileno() in dict(ready)

    def _pause(self) -> int | None:
        """Milliseconds that a wait may last."""
        return None if self.live is None else 1000

    def _tick(self) -> None:
        if self.live is not None and (now := time.monotonic()) >= self._due:
            self._due = now + 1
            self.live()

    def serve(self, connection: socket.socket) -> None:
        """One front end, until it or its connection ends; what it broke is said, and all that it lent is given back."""
        session = FrontSession(connection, self._host, self._memory)
        self._complaints = 0
        try:
            self._talk(session)
        except FrontEndFault as fault:
            self._complain(f"{fault}; the connection was ended")
        finally:
            session.close()

    def _complain(self, what: str) -> None:
        """Say it, but no front end fills a disk with it."""
        self._complaints += 1
        if self._complaints <= COMPLAINTS:
            self._say(what)

    def _talk(self, session: FrontSession) -> None:
        """Messages and kicks, until the connection ends."""
        acts: dict[int, Callable[[], bool]] = {}
        busy: dict[int, Callable[[], bool]] = {}
        talk = session.connection.fileno()
        poll = polling([talk])
        while True:
            self._tick()
            for fd, _ in poll.poll(0 if busy else self._pause()):
                if fd in acts:
                    busy[fd] = acts[fd]
                elif fd == talk and not self._heard(session):
                    return
            if acts is self._host.polled:
                busy = {fd: act for fd, act in busy.items() if act()}
            if acts is not self._host.polled:
                acts = self._host.polled
                poll = polling([talk, *acts])
                busy = dict(acts)  # each has its turn, whatever was heard before

    def _heard(self, session: FrontSession) -> bool:
        try:
            going_on = session.serve()
            if session.refused:
                self._complain(session.refused)
            return going_on
        except Refused as refused:
            raise FrontEndFault(f"asked for what cannot be: {refused}") from refused
        except ConnectionError:
            return False


def _pidfd(connection: socket.socket) -> int:
    """Of the process at the other end; UNKNOWN where it is not to be had (another PID namespace), GONE where it ended
    before it was heard."""
    pid = peer(connection)
    try:
        return os.pidfd_open(pid) if pid > 0 else UNKNOWN
    except ProcessLookupError:
        return GONE
    except OSError:
        return UNKNOWN
