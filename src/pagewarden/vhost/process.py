"""The warden's end of a confined device: its process, the orders to it, and what it says."""

import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np

from pagewarden.kernel.door import memfd
from pagewarden.memory.isolated.process import START_TIMEOUT, HostProcess
from pagewarden.vhost import confined, wire
from pagewarden.vhost.lent import LentWindow
from pagewarden.vhost.wire import WireKind, WireRecord
from pagewarden.vocab import Refused

PATIENCE = 5.0
"""Seconds that the device's process has to close a page, or to stop a ring: afterwards it is killed."""


class ConfinedProcess:
    """One process after the other. channel: where it is heard, None while there is none."""

    def __init__(self, program: Callable[..., None]) -> None:
        """program: what the process runs."""
        self.program = program
        self.host: HostProcess | None = None
        self.channel: socket.socket | None = None
        self.gone = False
        """Its channel ended while it was waited for: it died, which may be known here before it is known elsewhere."""
        self.backlog: deque[WireRecord] = deque()
        """Records that came while another was waited for."""
        self._counters = memfd("pagewarden-counters", 8 * confined.COUNTERS)
        self.nobody = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """An eventfd that nobody hears."""

    def start(self, window: LentWindow, probe: bool, files: tuple[int, ...], words: tuple[object, ...]) -> None:
        """Start it with the window; it gets a channel, its counters, probe, these files and words. Unavailable."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = theirs.fileno(), self._counters.fd, *files
        try:
            self.host = window.spawn(self.program, (*fds[:2], probe, *files, *words), fds, START_TIMEOUT, [])
            self.host.go()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self.channel, self.gone = ours, False

    def order(self, kind: WireKind, number: int, pairs: Sequence[tuple[int, int]] = (), *fds: int) -> None:
        """Tell the process something; that it is dead, or does not read, is found out by whoever waits for it."""
        if self.channel is not None:
            try:
                wire.send(self.channel, wire.pack(kind, number, pairs), fds, wait=False)
            except (OSError, Refused):
                self.channel.shutdown(socket.SHUT_RDWR)

    def wait(self, kind: WireKind, number: int) -> WireRecord | None:
        """This record; others wait their turn. None where it does not come in time, or never."""
        until = time.monotonic() + PATIENCE
        while (channel := self.channel) is not None:
            poll = select.poll()
            poll.register(channel, select.POLLIN)
            if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                return None
            try:
                record = wire.receive(channel, wire.DEVICES)
            except Refused:
                return None
            self.gone = record is None
            if record is None or (record.kind, record.number) == (kind, number):
                return record
            if record.kind is not WireKind.CLOSED:  # an order before it, of the same lot
                self.backlog.append(record)
        return None

    def bury(self, window: LentWindow | None) -> None:
        """Nobody has the window afterwards."""
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.close()
        if window is not None:
            window.bar()
        host, self.host = self.host, None
        if host is not None:
            with suppress(Refused):
                host.receive(1.0)  # its last words
        self.backlog.clear()

    def counters(self) -> list[int]:
        """What the device's process says of itself: see confined."""
        data = os.pread(self._counters.fd, 8 * confined.COUNTERS, 0)
        return list(np.frombuffer(data, np.int64).tolist())

    def close(self) -> None:
        """Give everything back. Twice is once."""
        self._counters.close()
        nobody, self.nobody = self.nobody, -1
        if nobody >= 0:
            os.close(nobody)
