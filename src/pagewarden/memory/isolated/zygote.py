"""A clean process that forks the host sides of this process's isolated memories. It never has a memory.

It is the init of a PID namespace: with its end the kernel ends everything that the host sides are. What it is asked
comes from the warden alone, over a socket that no host side ever has.
"""

import errno
import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from struct import Struct
from typing import Any, NamedTuple

from pagewarden.abi import memory as uapi
from pagewarden.abi.confinement import CLONE_NEWPID
from pagewarden.kernel import confine
from pagewarden.kernel.door import prctl, readable
from pagewarden.memory.isolated import room
from pagewarden.memory.isolated.ending import insist, shut
from pagewarden.memory.isolated.side import Entrance
from pagewarden.memory.own_process import OwnProcess
from pagewarden.vocab import Refused, Unavailable, UserMistake

ANSWER = Struct("<qq")
"""What the zygote says of a host side: first (0, 0 or an errno), its pidfd along, then (1, exit status)."""
STARTED, ENDED = 0, 1
REQUEST_MAX = 128 << 10
"""Bytes of a pickled function and its arguments: one message of a SOCK_SEQPACKET socket."""
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "TMPDIR")
"""What a host side inherits of the warden's environment; the rest may hold secrets."""
OWN_NAMESPACE = "/proc/self/ns/pid"
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""A process with threads cannot be forked safely: libraries start none when they are imported."""


IMPORTED_LATE = {"numba": "numpy.ma"}
"""What a library imports when it is first used, which is too late where there are no files."""


class SpawnRequest(NamedTuple):
    """What the warden asks for: a host side on a memory of `size` bytes that runs a function."""

    size: int
    warden: int
    numbers: tuple[int, ...]
    module: str
    qualname: str
    arguments: tuple[Any, ...]

    @classmethod
    def checked(
        cls, size: int, numbers: tuple[int, ...], function: Callable[..., object], arguments: tuple[Any, ...]
    ) -> bytes:
        """The request, pickled; UserMistake unless the function can be imported by name and all of it is small."""
        if "<" in function.__qualname__ or function.__module__ == "__main__":
            raise UserMistake(
                f"{function.__qualname__} of {function.__module__} cannot be imported by a new process: "
                "define it at the top of a module"
            )
        request = cls(size, os.getpid(), numbers, function.__module__, function.__qualname__, arguments)
        data = pickle.dumps(tuple(request))
        if len(data) > REQUEST_MAX:
            raise UserMistake(
                f"{len(data)} bytes of arguments are too many to pass (at most {REQUEST_MAX}): put the data into a "
                "file and keep that"
            )
        return data


# -- the warden's end --------------------------------------------------------------------------------------------------


class Zygote(OwnProcess):
    """The warden's end: one for all isolated memories of a process."""

    def __init__(self) -> None:
        """Unavailable without /proc, by which it finds the way back into its own namespaces after each fork."""
        super().__init__()
        if not os.path.exists(OWN_NAMESPACE):
            raise Unavailable("an untrusted host side cannot be started without /proc", "mount -t proc proc /proc")
        self.users: set[object] = set()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = lifted(ours)
        try:
            self._process = _launched(lifted(theirs))
        except BaseException:
            insist(self._close)
            raise

    @property
    def pid(self) -> int:
        """Of the launcher, whose end is the end of all."""
        return self._process.pid

    @property
    def dead(self) -> bool:
        """Has it come to an end on its own? Its host sides then did too."""
        return self._process.poll() is not None or bool(readable([self._control.fileno()], 0))

    def fork(self, request: bytes, channel: socket.socket, timeout: float) -> tuple[int, "Fate"]:
        """Start a host side with its end of a channel; its pidfd, and where its end will be told. Refused(ESRCH) when
        the zygote is dead, Unavailable when it does not answer in time: it is killed then, and all that it started."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fate = Fate(lifted(ours))
        try:
            try:
                self._ask(request, (channel.fileno(), theirs.fileno()), timeout)
            finally:
                insist(lambda: shut(theirs))
            code, fds = fate.read(STARTED, timeout)
            if code:
                raise Unavailable(f"no host side could be forked: {os.strerror(code)}", "see ulimit -u and memory")
            return confine.lift(fds[0]), fate
        except Refused as silent:
            insist(fate.close, self.kill)
            if silent.errno == errno.ESRCH:
                raise
            raise Unavailable(
                f"the process that starts host sides did not answer: {silent}",
                "try again, a new one is started; import less in the function's module if that takes too long",
            ) from silent
        except BaseException:
            insist(fate.close)
            raise

    def _ask(self, request: bytes, fds: tuple[int, ...], timeout: float) -> None:
        until = time.monotonic() + timeout
        while True:
            try:
                socket.send_fds(self._control, [request], fds, socket.MSG_DONTWAIT)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Refused(errno.ETIMEDOUT, f"it has read nothing for {timeout} s") from None
                time.sleep(0.01)
            except OSError as error:
                raise Refused(errno.ESRCH, f"it has died ({error.strerror})") from error

    def kill(self) -> None:
        """End it and all that it has started, now."""
        insist(self._process.kill, self._reap, self._close)

    def close(self) -> None:
        """Let it end: it does when its control socket closes."""
        insist(self._close, self._reap)

    def forked(self) -> None:
        """While a copy of its control socket is open it would live on."""
        global _lock
        _lock = threading.Lock()  # another thread of the parent may have had it
        self._control.close()
        self._process.returncode = 0  # not this process's child: nothing to wait for
        _current.clear()

    def _close(self) -> None:
        shut(self._control)

    def _reap(self) -> None:
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE)


def _launched(end: socket.socket) -> "subprocess.Popen[bytes]":
    """The launcher with its end of the control socket, which is closed here."""
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "pagewarden.memory.isolated", str(end.fileno()), str(os.getpid())],
            pass_fds=(end.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={
                "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
                **{name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
                **ONE_THREAD,
            },
        )
    finally:
        insist(lambda: shut(end))


PATIENCE = 30.0
"""Seconds that something may take to die that was told to."""


class Fate:
    """Where the zygote says how a host side ended."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def read(self, kind: int, timeout: float | None) -> tuple[int, list[int]]:
        """The next answer, and its descriptors; Refused(ETIMEDOUT), Refused(ESRCH) when the zygote is dead."""
        if not readable([self._end.fileno()], timeout):
            raise Refused(errno.ETIMEDOUT, f"nothing was heard for {timeout} s")
        try:
            raw, fds, _, _ = socket.recv_fds(self._end, ANSWER.size, 1, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            raw, fds = b"", []
        if len(raw) != ANSWER.size:
            raise Refused(errno.ESRCH, "the process that starts host sides has died")
        told, value = ANSWER.unpack(raw)
        if told != kind:
            raise Refused(errno.EPROTO, "an answer out of turn")
        return int(value), fds

    def close(self) -> None:
        shut(self._end)


def lifted(end: socket.socket) -> socket.socket:
    """The same socket at a number that is no standard file's."""
    return end if end.fileno() > 2 else socket.socket(end.family, end.type, end.proto, confine.lift(end.detach()))


_lock = threading.Lock()
_current: list[Zygote] = []


def take(user: object) -> Zygote:
    """This process's zygote, started if there is none that lives; to be given back by this user."""
    with _lock:
        if _current and _current[0].dead:
            _current.pop().kill()
        if not _current:
            _current.append(Zygote())
        _current[0].users.add(user)
        return _current[0]


def give(zygote: Zygote, user: object) -> None:
    """Done with it: it ends with its last user. Twice is once."""
    with _lock:
        zygote.users.discard(user)
        if not zygote.users:
            if zygote in _current:
                _current.remove(zygote)
            zygote.close()


# -- the zygote's own life ---------------------------------------------------------------------------------------------


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
        request, fds, _, _ = socket.recv_fds(self.control, REQUEST_MAX, 2, socket.MSG_CMSG_CLOEXEC)
        if not request:
            return False
        with suppress(Exception):  # once, for all that follow: a restart is quick; the host side says what is wrong
            importlib.import_module(SpawnRequest(*pickle.loads(request)).module)
            for loaded, lazy in IMPORTED_LATE.items():
                if loaded in sys.modules:
                    importlib.import_module(lazy)
        channel, fate = fds[0], socket.socket(fileno=fds[1])
        try:
            pid = self._fork(channel, request)
        except OSError as error:
            with fate, suppress(OSError):
                fate.send(ANSWER.pack(STARTED, error.errno or -1))
            return True
        finally:
            os.close(channel)
        child = _Child(fate, os.pidfd_open(pid))
        self._children[pid] = child
        with suppress(OSError):
            socket.send_fds(fate, [ANSWER.pack(STARTED, 0)], [child.pidfd])
        return True

    def _fork(self, channel: int, request: bytes) -> int:
        """A child in a PID namespace of its own, where one is to be had; threads need this process's again."""
        alone = self.found.attempt(room.Part.OWN_PID, lambda: confine.unshare(CLONE_NEWPID))
        parent = os.getpid()
        try:
            pid = os.fork()
            if pid == 0:
                _become_host_side(channel, request, self.empty, self.found, parent)
            return pid
        finally:
            if alone:
                confine.enter(self._here, CLONE_NEWPID)

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


def _become_host_side(channel: int, request: bytes, empty: int, found: room.Outcomes, parent: int) -> None:
    try:
        if os.getppid() not in (0, parent):
            os._exit(1)
        size, warden, numbers, *_ = pickle.loads(request)
        entrance = Entrance(size, channel, numbers, warden, empty, found)

        def find() -> tuple[Callable[..., object], tuple[Any, ...]]:
            asked = SpawnRequest(*pickle.loads(request))
            function: Any = importlib.import_module(asked.module)
            for name in asked.qualname.split("."):
                function = getattr(function, name)
            return function, asked.arguments

        entrance.run(find)
    finally:
        os._exit(1)
