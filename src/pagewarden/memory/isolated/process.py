"""The untrusted host side as the warden's side knows it. Everything it says is checked, every wait has an end."""

import errno
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress

from pagewarden.kernel import confine
from pagewarden.kernel.door import Descriptor, readable
from pagewarden.kernel.uffd import Userfault
from pagewarden.memory.ending import insist, shut
from pagewarden.memory.isolated import messages, room
from pagewarden.memory.isolated.messages import Message, MessageKind
from pagewarden.memory.isolated.request import ENDED
from pagewarden.memory.isolated.zygote import PATIENCE, Fate, pid_of
from pagewarden.memory.own_process import OwnProcess, closed
from pagewarden.vocab import PAGE_SIZE, InternalError, Refused, Unavailable

START_TIMEOUT = 120.0
"""Seconds that a host side may take to start: importing the function's module may compile code."""
SEND_TIMEOUT = 10.0
"""Seconds that a host side which does not read is given before a doorbell is refused."""
WORDS_MAX = 64 << 10
"""Bytes of what a host side prints that are kept and passed on."""


def _printable(data: bytes) -> str:
    """What it says reaches no terminal as it is."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in data.decode(errors="replace"))


class HostProcess(OwnProcess):
    """A host side that runs; a malformed message ends it.

    pid: as this process sees it, -1 where /proc does not say. address: where its window starts, in its address space.
    guard: its userfaultfd, once it has greeted, kept until its address space is gone. outcomes: what became of each
    part of the room; missing: those that this host does not have. buried: it is dead, and nothing of it is open here
    any more. words: what it printed, escaped, the first 64 KiB.
    """

    def __init__(self, channel: socket.socket, pidfd: Descriptor, fate: Fate) -> None:
        super().__init__()
        self.pid = pid_of(pidfd.fd)
        self.address = 0
        self.guard: Userfault | None = None
        self.missing: tuple[room.Lack, ...] = ()
        self.outcomes = room.Outcomes()
        self.words = ""
        self._pidfd, self._fate, self._channel = pidfd, fate, channel
        self._reading = threading.Lock()
        self._status: int | None = None
        self.buried = False

    # -- talk ----------------------------------------------------------------------------------------------------------

    def receive(self, timeout: float | None = None) -> Message | None:
        """Its next REPORT (value, data) or its DONE; None when it is dead, which it is as soon as it hangs up. Without
        a timeout a host side that says nothing is waited for until it dies: that is the caller's wish.
        Refused(ETIMEDOUT), and Refused(EPROTO) after killing it for a message that is none of ours."""
        return self._expect(timeout, (MessageKind.REPORT, MessageKind.DONE))

    def tell(self, value: int, timeout: float = SEND_TIMEOUT) -> None:
        """Give its function a number; OSError when it is dead, Refused(ETIMEDOUT) when it does not read."""
        messages.send(self._channel, MessageKind.TELL, value, timeout=timeout)

    def go(self) -> None:
        """Let its function run. That it has died meanwhile is said by whatever is asked of it next."""
        with suppress(BrokenPipeError, ConnectionResetError):
            messages.send(self._channel, MessageKind.GO, self.pid, timeout=SEND_TIMEOUT)

    def _expect(self, timeout: float | None, kinds: tuple[MessageKind, ...], fds: int = 0) -> Message | None:
        if self._channel.fileno() < 0:
            raise closed()
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            ready = readable([self._channel.fileno(), *([] if self.buried else [self._pidfd.fd])], left)
            if not ready:
                raise Refused(errno.ETIMEDOUT, f"no message in {timeout} s")
            if self._channel.fileno() not in ready:  # dead, and it had said nothing more
                return None
            try:
                message = self._receive((*kinds, MessageKind.WORDS), fds)
            except Refused as refused:
                if refused.errno == errno.ETIMEDOUT:  # another thread, which waits for its end, took the words
                    continue
                raise
            if message is None or message.kind is not MessageKind.WORDS:
                return message
            self._hear(message.data)
            if until is not None and time.monotonic() >= until:
                raise Refused(errno.ETIMEDOUT, f"nothing but words in {timeout} s")

    def _receive(self, kinds: tuple[MessageKind, ...], fds: int) -> Message | None:
        try:
            with self._reading:
                message = messages.receive(self._channel, 0, kinds, fds if self.guard is None else 0)
        except Refused as refused:
            if refused.errno == errno.EPROTO:
                self.end()
            raise
        if message is None:  # it hung up: it is on its way out, or has nothing more to do
            self.end()
        return message

    def _hear(self, data: bytes) -> None:
        """Keep and pass on what it prints."""
        text = _printable(data)[: WORDS_MAX - len(self.words)]
        self.words += text
        if text and sys.stderr is not None:
            sys.stderr.write(text)

    # -- its start -----------------------------------------------------------------------------------------------------

    def greet(self, file: int, fds: tuple[int, ...], timeout: float = START_TIMEOUT) -> None:
        """Give it the memory and its descriptors once nobody can look into it, learn its window's address and
        userfaultfd, and what it could not give up; Unavailable when it could not set itself up."""
        self._step(timeout, MessageKind.ASK)
        messages.send(self._channel, MessageKind.MEMORY, fds=(file, *fds))
        hello = self._step(timeout, MessageKind.HELLO, 1)
        self.address, self.guard = hello.value, Userfault.adopt(confine.lift(hello.fds[0]))
        if os.readlink(f"/proc/self/fd/{self.guard.fd}") != "anon_inode:[userfaultfd]":
            raise Refused(errno.EPROTO, "the host side sent a descriptor that is no userfaultfd")
        if self.address <= 0 or self.address % PAGE_SIZE:
            raise Refused(errno.EPROTO, f"the host side's window cannot start at {self.address:#x}")
        self.outcomes = room.Outcomes.unpacked(self._step(timeout, MessageKind.READY).data)
        self.missing = room.lacks(self.outcomes)

    def _step(self, timeout: float, kind: MessageKind, fds: int = 0) -> Message:
        """Its next message, which must be this one; Unavailable with its words otherwise."""
        try:
            message = self._expect(timeout, (kind, MessageKind.DONE) if not fds else (kind,), fds)
        except Refused as refused:
            raise Unavailable(f"the host side did not start: {refused}", "try again, or import less") from refused
        if message is None or message.kind is not kind:
            words = _printable(message.data).strip() if message else "it died"
            what, _, advice = words.rpartition("; ")
            raise Unavailable(f"the host side could not set itself up: {what or words}", advice or "see what it says")
        return message

    # -- its end -------------------------------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> int:
        """How it ended: 0, 1 when its function raised, or minus the signal. What it prints goes to `words` then, as
        far as no report lies before it. Without a timeout one that does not end is waited for.
        Refused(ETIMEDOUT), and Refused(ESRCH) when nobody can tell any more."""
        if self._status is None:
            if self.buried:
                raise Refused(
                    errno.ESRCH, "the host side is dead, and when it was buried nobody could tell how it ended"
                )
            try:
                self._hear_until_dead(timeout)
            except OSError as error:
                raise Refused(error.errno or errno.EIO, f"poll: {error.strerror}") from error
            try:
                self._status, _ = self._fate.read(ENDED, PATIENCE)
            except (Refused, OSError) as lost:
                raise Refused(errno.ESRCH, f"the host side is dead, and nobody can tell how it ended: {lost}") from lost
        return self._status

    def _hear_until_dead(self, timeout: float | None) -> None:
        until, hears = None if timeout is None else time.monotonic() + timeout, True
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            ready = readable([self._pidfd.fd, *([self._channel.fileno()] if hears else [])], left)
            if not ready:
                why = "" if hears else ": it may wait for what it reported to be received, until that is None"
                raise Refused(errno.ETIMEDOUT, f"the host side still runs after {timeout} s{why}")
            if self._channel.fileno() in ready:
                hears = self._hear_next()
            elif self._pidfd.fd in ready:
                return

    def _hear_next(self) -> bool:
        """Keep what it printed next; False: it has said something else first, or nothing more."""
        with self._reading, suppress(OSError, Refused):
            head = self._channel.recv(4, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            if int.from_bytes(head, sys.byteorder) == MessageKind.WORDS:
                message = messages.receive(self._channel, 0, (MessageKind.WORDS,))
                self._hear(message.data if message else b"")
                return True
        return False

    @property
    def dead(self) -> bool:
        """Has it come to its end?"""
        return self.buried or bool(readable([self._pidfd.fd], 0))

    def kill(self) -> int:
        """End it, and how it ended; Refused(ESRCH) as for wait."""
        insist(self.end)
        return self.wait(0)

    def end(self) -> None:
        """See that it is dead; InternalError when it does not die."""
        if self.buried:
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd.fd, signal.SIGKILL)
        if not readable([self._pidfd.fd], PATIENCE):
            raise InternalError(f"process {self.pid} does not die of SIGKILL: it waits in the kernel")

    def forked(self) -> None:
        if not self.buried:
            self.buried = True
            self._pidfd.close()
            self._close()

    def _close(self) -> None:
        shut(self._fate, self._channel)

    def bury(self) -> None:
        """Kill it, then let go of its guard, once its address space is gone, and of everything else, whatever
        interrupts that. InternalError when it does not die: the guard is kept then."""
        insist(self.end, self._learn_how, self._let_pidfd_go, self._let_guard_go, self._close)

    def _learn_how(self) -> None:
        """How it ended, while the zygote can still tell."""
        if self.buried:
            return
        with suppress(Refused, OSError):
            self.wait(0)

    def _let_pidfd_go(self) -> None:
        if not self.buried and self.dead:
            self.buried = True
            self._pidfd.close()

    def _let_guard_go(self) -> None:
        if self.guard is not None and self.guard not in _undead:
            _undead.append(self.guard)
        _let_go()


_undead: list[Userfault] = []
"""Guards of host sides that are dead but whose address space is not gone yet."""


def _let_go() -> None:
    """Close each guard once the kernel says that its address space is gone."""
    until = time.monotonic() + PATIENCE
    while _undead:
        for one in [one for one in _undead if one.fd < 0 or one.gone()]:
            shut(one)
            _undead.remove(one)
        if time.monotonic() > until:
            return  # the next one looks again
        if _undead:
            time.sleep(0.0002)
