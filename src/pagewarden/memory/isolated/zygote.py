"""A clean process that forks the host sides of one memory. It never maps the memory.

It keeps a reference on each host side's userfaultfd for as long as that lives: were the warden's the only one, its
death would take the guard off the window. When the warden goes, it kills the host side first.
"""

import errno
import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from struct import Struct
from typing import Any

from pagewarden.kernel.door import readable
from pagewarden.memory.isolated import side
from pagewarden.vocab import Refused, UserMistake

ANSWER = Struct("<q")
REQUEST_MAX = 128 << 10
"""Bytes of a pickled function and its arguments: one message of a SOCK_SEQPACKET socket."""
FDS_MAX = 64
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "NUMBA_CACHE_DIR", "TMPDIR")
"""What a host side inherits of the warden's environment; the rest may hold secrets."""


class Zygote:
    """The warden's end: asks for one host side at a time."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pagewarden.memory.isolated", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    **{name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
                },
            )

    def fork(
        self,
        size: int,
        file: int,
        channel: socket.socket,
        fds: tuple[int, ...],
        function: Callable[..., object],
        arguments: tuple[Any, ...],
    ) -> tuple[int, int]:
        """Start a host side; its pid and a pidfd. The function must be importable by name, it and its arguments small:
        UserMistake. The caller sees to it that none runs."""
        if "<" in function.__qualname__ or function.__module__ == "__main__":
            raise UserMistake(
                f"{function.__qualname__} of {function.__module__} cannot be imported by a new process: "
                "define it at the top of a module"
            )
        request = pickle.dumps((size, os.getpid(), function.__module__, function.__qualname__, arguments))
        if len(request) > REQUEST_MAX or len(fds) > FDS_MAX - 2:
            raise UserMistake(
                f"{len(request)} bytes of arguments and {len(fds)} descriptors are too many to pass "
                f"(at most {REQUEST_MAX} and {FDS_MAX - 2}): put the data into a file and keep that"
            )
        socket.send_fds(self._control, [request], [file, channel.fileno(), *fds])
        pid, pidfds = self._answer(None)
        return pid, pidfds[0]

    @property
    def dead(self) -> bool:
        """Has it come to an end on its own? Its host side then did too."""
        return self._process.poll() is not None

    def ended(self, timeout: float | None) -> int:
        """How the host side ended: its exit status, or minus the signal; Refused(ETIMEDOUT)."""
        status, _ = self._answer(timeout)
        return status

    def close(self) -> None:
        """End the host side, then the zygote."""
        self._control.close()
        self._process.wait()

    def _answer(self, timeout: float | None) -> tuple[int, list[int]]:
        if not readable([self._control.fileno()], timeout):
            raise Refused(errno.ETIMEDOUT, f"the host side still runs after {timeout} s")
        try:
            raw, fds, _, _ = socket.recv_fds(self._control, ANSWER.size, 1)
        except ConnectionResetError:
            raw = b""
        if len(raw) != ANSWER.size:
            raise Refused(errno.ESRCH, "the process that starts host sides has died")
        return int(ANSWER.unpack(raw)[0]), fds


def serve(control: socket.socket) -> None:
    """The zygote's whole life: fork a host side when asked, wait for its end, until the warden is gone."""
    while True:
        request, fds, _, _ = socket.recv_fds(control, REQUEST_MAX, FDS_MAX)
        if not request:
            return
        with suppress(Exception):  # once, for all that follow: a restart is quick; the host side says what is wrong
            importlib.import_module(pickle.loads(request)[2])
        keeper, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            _become_host_side(fds, theirs, request)
        theirs.close()
        for fd in fds:
            os.close(fd)
        pidfd = os.pidfd_open(pid)
        socket.send_fds(control, [ANSWER.pack(pid)], [pidfd])
        with keeper:  # the host side's userfaultfd lies in its queue until that is dead
            status = _end_of(pid, pidfd, control)
        control.send(ANSWER.pack(status))


def _end_of(pid: int, pidfd: int, control: socket.socket) -> int:
    """Wait for the host side; kill it when the warden is gone (it says nothing else meanwhile)."""
    if control.fileno() in readable([control.fileno(), pidfd], None):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _become_host_side(fds: list[int], keeper: socket.socket, request: bytes) -> None:
    size, warden, module, qualname, arguments = pickle.loads(request)
    function: Any = importlib.import_module(module)
    for name in qualname.split("."):
        function = getattr(function, name)
    channel = socket.socket(fileno=fds[1])
    side.run(size, fds[0], channel, keeper, tuple(fds[2:]), warden, function, arguments)
