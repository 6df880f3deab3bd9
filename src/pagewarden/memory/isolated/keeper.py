"""Whoever has a host side: starts it in its room, one at a time, judges the room, and ends it."""

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from pagewarden.abi import memory as uapi
from pagewarden.kernel.door import Descriptor, prctl
from pagewarden.memory.ending import Composed, insist, shut
from pagewarden.memory.isolated import side, zygote
from pagewarden.memory.isolated.descriptors import descriptions_of_its_own
from pagewarden.memory.isolated.process import START_TIMEOUT, HostProcess
from pagewarden.memory.isolated.request import SpawnRequest
from pagewarden.memory.isolated.room import Lack, Level, broken
from pagewarden.memory.isolated.zygote import Zygote
from pagewarden.vocab import InternalError, Refused, Unavailable


class HostKeeper(Composed):
    """A file of memory, and the host side that has a window on it.

    While one exists this process is undumpable: none of the same user may trace it or open its /proc/PID/mem and fd.
    level: True, or "best-effort" where the host side may run though a part of its room is not to be had. Unavailable
    for True where the room does not keep every promise.
    """

    def __init__(self, level: Level = True) -> None:
        self._level = level
        self._zygote: Zygote | None = None
        self._host: HostProcess | None = None
        self.missing: tuple[Lack, ...] = ()
        super().__init__()

    def _take(self, file: Descriptor, size: int) -> None:
        self._file = self.own(file.lift())  # a number of 0 to 2 would reach every child
        self.file, self.size = self._file.fd, size

    def _keep_apart(self) -> None:
        """The last step of a constructor."""
        self.own(_Undumpable())
        try:
            self._look_at_the_room()
        except BaseException:
            self.close()
            raise

    def _hand_over(self, fds: tuple[int, ...], given: tuple[int, ...]) -> None:
        """The host side is about to be given these; given: the caller's, the same where one is no description of its
        own."""

    def _open(self, host: HostProcess, runs: list[tuple[int, int]]) -> None:
        """Its window is to answer in these runs."""

    def _look_at_the_room(self) -> None:
        """What is missing of it: for the first memory of a process a host side that does nothing finds that out."""
        known = zygote.missing.get(os.geteuid())
        if known is not None:
            self._judge(known)
            return
        try:
            self.spawn(side.nothing, (), (), START_TIMEOUT, [])
        except Refused as lost:
            raise Unavailable(f"an untrusted host side could not be started: {lost}", "try again") from lost
        self._forget_host()

    def spawn(
        self,
        function: Callable[..., object],
        arguments: tuple[Any, ...],
        fds: tuple[int, ...],
        patience: float,
        runs: list[tuple[int, int]],
    ) -> HostProcess:
        """Start the host side and greet it: its window answers in the runs, for which nothing is allocated, and it runs
        after `go`. Unavailable as for the class: the room of each is looked at."""
        if self._host is not None and self._host.dead:
            self._forget_host()
        if self._host is not None:
            raise Refused(errno.EBUSY, "the memory has a host side already: one at a time")
        request = SpawnRequest.checked(self.size, fds, function, arguments)
        with descriptions_of_its_own(fds, self.file) as own:
            self._hand_over(own, fds)
            for tries_left in (1, 0):
                try:
                    self._host = self._ask(function.__module__, request, patience)
                    self._host.greet(self.file, own, patience)
                    zygote.missing[os.geteuid()] = self._host.missing
                    self._judge(self._host.missing)
                    self._open(self._host, runs)
                    return self._host
                except BaseException as error:
                    insist(self._forget_host)
                    died_with_zygote = self._zygote is not None and self._zygote.dead
                    if not tries_left or not died_with_zygote or not isinstance(error, (Refused, Unavailable, OSError)):
                        raise
        raise InternalError("not reached")

    def _ask(self, module: str, request: bytes, patience: float) -> HostProcess:
        if self._zygote is not None and self._zygote.dead:
            self._give_zygote()
        if self._zygote is None:
            self._zygote = zygote.take(self)
        ours, theirs = (zygote.lifted(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        try:
            try:
                ours.send(request, socket.MSG_DONTWAIT)
                pidfd, fate = self._zygote.fork(module.encode(), theirs, patience)
            finally:
                insist(lambda: shut(theirs))
            return HostProcess(ours, pidfd, fate)
        except BaseException:
            insist(lambda: shut(ours))
            raise

    def _judge(self, missing: tuple[Lack, ...]) -> None:
        self.missing = missing
        if self._level is True and (reasons := broken(missing)):
            raise Unavailable(
                f"an untrusted host side cannot be kept apart here ({'; '.join(reasons)})",
                "allow user namespaces (sysctl user.max_user_namespaces) or Landlock with signal scopes (Linux 6.12), "
                "or say isolated='best-effort' and read mem.missing",
            )

    def bar(self) -> None:
        """What cannot be closed is destroyed: end the host side, whatever interrupts that."""
        if self._host is None:
            return
        try:
            insist(self._host.end)
        finally:
            if not self._host.dead and self._zygote is not None:
                self._zygote.kill()

    def close(self) -> None:
        try:
            insist(self._forget_host, self._give_zygote)
        finally:
            super().close()

    def _forget_host(self) -> None:
        try:
            if self._host is not None:
                self._host.bury()
        finally:
            if self._host is not None and self._host.buried:
                self._host = None

    def _give_zygote(self) -> None:
        if self._zygote is not None:
            zygote.give(self._zygote, self)
            self._zygote = None


_isolating: dict[int, int] = {}
"""For each isolated memory of this process, whether the process was dumpable before all of them (PR_GET_DUMPABLE)."""


class _Undumpable:
    """While there is one, so is this process."""

    def __init__(self) -> None:
        before = next(iter(_isolating.values()), None)
        _isolating[id(self)] = prctl(uapi.PR_GET_DUMPABLE) if before is None else before
        prctl(uapi.PR_SET_DUMPABLE, 0)

    def close(self) -> None:
        """Twice is once."""
        before = _isolating.get(id(self))
        if before is not None:
            if len(_isolating) == 1:
                prctl(uapi.PR_SET_DUMPABLE, min(before, 1))  # 2 cannot be set
            _isolating.pop(id(self), None)

    __del__ = close
