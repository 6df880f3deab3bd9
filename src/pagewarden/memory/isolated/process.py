"""The untrusted host side as the warden's side knows it. Everything it says is checked."""

import errno
import os
import signal
import socket
from contextlib import suppress

from pagewarden.kernel.door import readable
from pagewarden.kernel.uffd import Userfault
from pagewarden.memory.isolated import messages
from pagewarden.memory.isolated.messages import Kind, Message
from pagewarden.memory.isolated.zygote import Zygote
from pagewarden.vocab import Refused, Unavailable

START_TIMEOUT = 30.0
"""Seconds that a host side may take to give everything up."""


class HostProcess:
    """A host side that runs; a malformed message ends it."""

    def __init__(self, zygote: Zygote, channel: socket.socket, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.address = 0
        """Where its window starts, in its address space."""
        self.guard: Userfault | None = None
        """Its userfaultfd, once it has greeted. Its last reference must not go before the process has."""
        self._pidfd = pidfd
        self._zygote = zygote
        self._channel = channel
        self._status: int | None = None

    def receive(self, timeout: float | None = None) -> Message | None:
        """Its next REPORT (value, data) or its DONE; None when it is dead, which it is as soon as it hangs up.
        Refused(ETIMEDOUT), and Refused(EPROTO) after killing it for a message that is none of ours."""
        return self._expect(timeout, (Kind.REPORT, Kind.DONE))

    def tell(self, value: int) -> None:
        """Give its function a number; OSError when it is dead."""
        messages.send(self._channel, Kind.TELL, value)

    def wait(self, timeout: float | None = None) -> int:
        """How it ended: 0, 1 when its function raised, or minus the signal. Refused(ETIMEDOUT), and Refused(ESRCH) when
        nobody can tell any more."""
        if self._status is None:
            if self._pidfd < 0:
                raise Refused(errno.ESRCH, "the host side is dead, and who knew how is dead too")
            self._status = self._zygote.ended(timeout)
        return self._status

    @property
    def dead(self) -> bool:
        """Has it come to its end?"""
        return self._pidfd < 0 or bool(readable([self._pidfd], 0))

    def kill(self) -> int:
        """End it, and how it ended; Refused(ESRCH) as for wait."""
        self._kill()
        return self.wait()

    def _kill(self) -> None:
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            readable([self._pidfd], None)

    def _expect(self, timeout: float | None, kinds: tuple[Kind, ...], fds: int = 0) -> Message | None:
        try:
            message = messages.receive(self._channel, timeout, kinds, fds)
        except Refused as refused:
            if refused.errno == errno.EPROTO:
                self._kill()
            raise
        if message is None:  # it hung up: it is on its way out, or has nothing more to do
            self._kill()
        return message

    def greet(self) -> None:
        """Learn its window's address and userfaultfd; Unavailable when it could not set itself up."""
        hello = self._expect(START_TIMEOUT, (Kind.HELLO,), 1)
        if hello is None:
            raise Unavailable("the host side did not start", "its error is on standard error")
        self.address, self.guard = hello.value, Userfault.adopt(hello.fds[0])
        if os.readlink(f"/proc/self/fd/{self.guard.fd}") != "anon_inode:[userfaultfd]":
            raise Refused(errno.EPROTO, "the host side sent a descriptor that is no userfaultfd")
        ready = self._expect(START_TIMEOUT, (Kind.READY, Kind.DONE))
        if ready is None or ready.kind is not Kind.READY:
            words = ready.data.decode(errors="replace") if ready else "it died"
            raise Unavailable(f"the host side could not give up its rights: {words}", "see standard error")

    def go(self) -> None:
        """Let its function run."""
        messages.send(self._channel, Kind.GO)

    def bury(self) -> None:
        """See that it is dead, then let go of its guard and of everything else."""
        self._kill()
        with suppress(Refused):  # how it ended, while the zygote can still tell
            self.wait()
        if self.guard is not None:
            self.guard.close()
        os.close(self._pidfd)
        self._pidfd = -1
        self._channel.close()
