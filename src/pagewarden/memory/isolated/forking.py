"""The zygote's own life: it forks a host side when the warden asks for one, and says how each ended."""

import errno
import importlib
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from pagewarden.abi import memory as uapi
from pagewarden.abi.confinement import CLONE_NEWPID
from pagewarden.kernel import confine
from pagewarden.kernel.door import prctl, readable
from pagewarden.kernel.files import receive_fds
from pagewarden.memory.isolated import room
from pagewarden.memory.isolated.request import ANSWER, ENDED, REQUEST_MAX, STARTED, SpawnRequest
from pagewarden.memory.isolated.side import Entrance

OWN_NAMESPACE = "/proc/self/ns/pid"
IMPORTED_LATE = {"numba": "numpy.ma"}
"""What a library imports when it is first used, which is too late where there are no files."""


class _Child(NamedTuple):
    fate: socket.socket
    pidfd: int


class _Life:
    def __init__(self, control: socket.socket, found: room.Outcomes) -> None:
        self.control, self.found = control, found
        found.attempt(room.Part.OOM, room.be_killed_first)
        self.empty = room.empty_root(found)
        self._here = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        prctl(uapi.PR_SET_DUMPABLE, 0)
        self._children: dict[int, _Child] = {}

    def run(self) -> None:
        """Fork a host side when asked, say how each ended, until the warden is gone."""
        while True:
            ready = readable([self.control.fileno(), *(child.pidfd for child in self._children.values())], None)
            self._reap()
            if self.control.fileno() in ready and not self._serve():
                return

    def _serve(self) -> bool:
        module, fds, _ = receive_fds(self.control, REQUEST_MAX, 2)
        if not module:
            return False
        failed = None
        try:  # once, for all that follow: a restart is quick
            importlib.import_module(module.decode())
            for loaded, lazy in IMPORTED_LATE.items():
                if loaded in sys.modules:
                    importlib.import_module(lazy)
        except Exception as error:  # the host side says it: what failed once may fail in another way when tried again
            failed = error
        channel, fate = fds[0], socket.socket(fileno=fds[1])
        pid = 0
        try:
            pid = self._fork(channel, failed)
            child = self._children[pid] = _Child(fate, os.pidfd_open(pid))
        except OSError as error:
            if pid:
                os.kill(pid, signal.SIGKILL)
            with fate, suppress(OSError):
                fate.send(ANSWER.pack(STARTED, error.errno or errno.EIO))
            return True
        finally:
            os.close(channel)
        try:
            socket.send_fds(fate, [ANSWER.pack(STARTED, 0)], [child.pidfd])
        except OSError:  # it must not wait for what cannot be said
            fate.close()
        return True

    def _fork(self, channel: int, failed: Exception | None) -> int:
        """A child in a PID namespace of its own, where one is to be had; threads and the next child need this process's
        again: without a way back all ends."""
        alone = self.found.attempt(room.Part.OWN_PID, lambda: confine.unshare(CLONE_NEWPID))
        parent = os.getpid()
        try:
            pid = os.fork()
            if pid == 0:
                _become_host_side(channel, failed, self.empty, self.found, parent)
            return pid
        finally:
            try:
                if alone:
                    confine.enter(self._here, CLONE_NEWPID)
            except OSError:
                os._exit(1)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if child := self._children.pop(pid, None):
                os.close(child.pidfd)
                with child.fate, suppress(OSError):
                    child.fate.send(ANSWER.pack(ENDED, os.waitstatus_to_exitcode(status)), socket.MSG_DONTWAIT)


def serve(control: socket.socket, found: room.Outcomes) -> None:
    """The zygote's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _Life(control, found).run()


def _become_host_side(channel: int, failed: Exception | None, empty: int, found: room.Outcomes, parent: int) -> None:
    try:
        if os.getppid() not in (0, parent):
            os._exit(1)
        request = os.read(channel, REQUEST_MAX)
        size, warden, numbers, *_ = pickle.loads(request)
        entrance = Entrance(size, channel, numbers, warden, empty, found)

        def find() -> tuple[Callable[..., object], tuple[Any, ...]]:
            if failed is not None:
                raise failed
            asked = SpawnRequest(*pickle.loads(request))
            function: Any = importlib.import_module(asked.module)
            for name in asked.qualname.split("."):
                function = getattr(function, name)
            return function, asked.arguments

        entrance.run(find)
    finally:
        os._exit(1)
