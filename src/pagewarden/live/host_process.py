"""The untrusted host side as the warden's side knows it. Everything it says is checked."""

import errno
import os
import socket

from pagewarden.live import messages
from pagewarden.live.messages import Kind, Message
from pagewarden.live.userfault import Userfault
from pagewarden.live.zygote import Zygote
from pagewarden.vocab import Refused, Unavailable

START_TIMEOUT = 30.0
"""Seconds that a host side may take to give everything up."""


class HostProcess:
    """A host side that runs; a malformed message ends it."""

    def __init__(self, zygote: Zygote, channel: socket.socket, pid: int) -> None:
        self.pid = pid
        self._zygote = zygote
        self._channel = channel
        self._status: int | None = None

    def receive(self, timeout: float | None = None) -> Message | None:
        """Its next REPORT (value, data) or its DONE; None when it is dead. Refused(ETIMEDOUT), and Refused(EPROTO)
        after killing it for a message that is none of ours."""
        return self._expect(timeout, (Kind.REPORT, Kind.DONE))

    def tell(self, value: int) -> None:
        """Give its function a number; OSError when it is dead."""
        messages.send(self._channel, Kind.TELL, value)

    def wait(self, timeout: float | None = None) -> int:
        """How it ended: 0, 1 when its function raised, or minus the signal. Refused(ETIMEDOUT)."""
        if self._status is None:
            self._status = self._zygote.ended(timeout)
            self._channel.close()
        return self._status

    def kill(self) -> int:
        """End it, and how it ended."""
        if self._status is None:
            self._zygote.kill()
        return self.wait()

    def _expect(self, timeout: float | None, kinds: tuple[Kind, ...], fds: int = 0) -> Message | None:
        try:
            return messages.receive(self._channel, timeout, kinds, fds)
        except Refused as refused:
            if refused.errno == errno.EPROTO:
                self.kill()
            raise

    def greet(self) -> tuple[int, Userfault]:
        """Its window's address and its userfaultfd; Unavailable when it could not set itself up."""
        hello = self._expect(START_TIMEOUT, (Kind.HELLO, Kind.DONE), 1)
        if hello is None or hello.kind is not Kind.HELLO:
            raise Unavailable("the host side did not start", "its error is on standard error")
        guard = Userfault.adopt(hello.fds[0])
        try:
            if os.readlink(f"/proc/self/fd/{guard.fd}") != "anon_inode:[userfaultfd]":
                raise Refused(errno.EPROTO, "the host side sent a descriptor that is no userfaultfd")
            ready = self._expect(START_TIMEOUT, (Kind.READY, Kind.DONE))
            if ready is None or ready.kind is not Kind.READY:
                words = ready.data.decode(errors="replace") if ready else "it died"
                raise Unavailable(f"the host side could not give up its rights: {words}", "see standard error")
        except BaseException:
            guard.close()
            raise
        return hello.value, guard

    def go(self) -> None:
        messages.send(self._channel, Kind.GO)
