"""Who connects to a destination: all are heard side by side, and only who proves that it has the key is served."""

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

from pagewarden.keep.moving.destination import Caller, introduced
from pagewarden.kernel.door import readable
from pagewarden.kernel.files import Pipe
from pagewarden.vocab import PAGE_SIZE
from pagewarden.vocab.closing import Closing
from pagewarden.vocab.errors import PagewardenError

MOST = 16
"""Strangers that are listened to at once; one more, and the oldest of them goes."""


class Callers(Closing):
    """A silent one holds nobody up, nor do many: who has the key says so with its first record, in milliseconds, and
    waits in line from then on. The listener is the caller's own."""

    def __init__(
        self, listener: socket.socket, key: bytes, *, say: Callable[[str], object] = lambda what: None,
        patience: float = 10.0,
    ) -> None:  # fmt: skip
        """say: hears why somebody was refused, from any thread. patience: as of `receive`."""
        self._listener, self._key, self._say, self._patience = listener, key, say, patience
        self._strangers: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()
        self._line: SimpleQueue[Caller | OSError | None] = SimpleQueue()
        self._end = Pipe(PAGE_SIZE)
        self._thread = threading.Thread(target=self._accept, name="pagewarden-callers", daemon=True)
        self._thread.start()

    def next(self) -> Caller | None:
        """Wait for one that has the key; None: `stop` was called. OSError: nobody can connect any more."""
        found = self._line.get()
        if isinstance(found, OSError):
            raise found
        return found

    def _accept(self) -> None:
        try:
            while self._end.receive not in readable([self._listener.fileno(), self._end.receive], None):
                connection, _ = self._listener.accept()
                with self._lock:
                    if len(self._strangers) == MOST:
                        _hang_up(self._strangers.pop(next(iter(self._strangers))))
                    thread = threading.Thread(target=self._listen, args=[connection], daemon=True)
                    self._strangers[thread] = connection
                    thread.start()
        except OSError as error:
            self._line.put(error)

    def _listen(self, connection: socket.socket) -> None:
        try:
            self._line.put(introduced(connection, self._key, self._patience))
        except PagewardenError as error:
            self._say(f"refused who came: {error}")
            connection.close()
        finally:
            with self._lock:
                self._strangers.pop(threading.current_thread(), None)

    def stop(self) -> None:
        """Nobody is heard any more; who waits in `next` goes on. Again is allowed."""
        self._line.put(None)

    def close(self) -> None:
        """Hang up on everybody who is not served."""
        self.stop()
        os.write(self._end.transmit, b"\0")
        self._thread.join()
        with self._lock:
            left = dict(self._strangers)
        for thread, connection in left.items():
            _hang_up(connection)
            thread.join()
        while not self._line.empty():
            if isinstance(caller := self._line.get(), Caller):
                caller.connection.close()
        self._end.close()


def _hang_up(connection: socket.socket) -> None:
    """Who reads there goes on."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
