"""The warden's end of the zygote: a clean process that forks the host sides of this process's isolated memories.

It never has a memory, and is the init of a PID namespace: with its end the kernel ends everything that the host sides
are. `forking` is what it does.
"""

import errno
import os
import socket
import subprocess
import sys
import threading
import time

from pagewarden.kernel import confine
from pagewarden.kernel.door import Descriptor, readable
from pagewarden.kernel.files import receive_fds
from pagewarden.memory.ending import gone, insist, shut
from pagewarden.memory.isolated.forking import OWN_NAMESPACE
from pagewarden.memory.isolated.request import ANSWER, ENDED, STARTED
from pagewarden.memory.isolated.room import Lack
from pagewarden.memory.own_process import OwnProcess
from pagewarden.vocab import Refused, Unavailable

ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "TMPDIR")
"""What a host side inherits of the warden's environment; the rest may hold secrets."""
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""A process with threads cannot be forked safely: libraries start none when they are imported."""


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

    def fork(self, module: bytes, channel: socket.socket, timeout: float) -> tuple[Descriptor, "Fate"]:
        """Start a host side with its end of a channel, where the request waits for it alone: what the zygote has had
        its later children inherit. module: of its function, by name. Its pidfd, and where its end will be told.
        Refused(ESRCH) when the zygote is dead, Unavailable when it does not answer in time, or not as it should: it is
        killed then, and all that it started."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fate = Fate(lifted(ours))
        try:
            try:
                self._ask(module, (channel.fileno(), theirs.fileno()), timeout)
            finally:
                insist(lambda: shut(theirs))
            code, fds = fate.read(STARTED, timeout)
            if code:
                raise Unavailable(f"no host side could be forked: {os.strerror(code)}", "see ulimit -u and memory")
            if not self._started(fds[0]):
                gone(fds[0])
                raise Refused(errno.EPROTO, "what it gave is no process that it has started")
            return Descriptor(fds[0]).lift(), fate
        except Refused as silent:
            insist(fate.close, self.kill)
            if silent.errno == errno.ESRCH:
                raise
            raise Unavailable(
                f"the process that starts host sides did not answer as it should: {silent}",
                "try again, a new one is started; import less in the function's module if that takes too long",
            ) from silent
        except BaseException:
            insist(fate.close)
            raise

    def _ask(self, module: bytes, fds: tuple[int, ...], timeout: float) -> None:
        until = time.monotonic() + timeout
        while True:
            try:
                socket.send_fds(self._control, [module], fds, socket.MSG_DONTWAIT)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Refused(errno.ETIMEDOUT, f"it has read nothing for {timeout} s") from None
                time.sleep(0.01)
            except OSError as error:
                raise Refused(errno.ESRCH, f"it has died ({error.strerror})") from error

    def _started(self, pidfd: int) -> bool:
        """Is it a child of the launcher's child, as far as /proc says? One that has ended already may be gone there."""
        pid = pid_of(pidfd)
        zygote = _parent_of(pid) if pid else 0
        launcher = _parent_of(zygote) if zygote > 0 else zygote
        return launcher in (-1, self.pid) or (pid != 0 and bool(readable([pidfd], 0)))

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
            self._process.wait(GRACE)
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


GRACE = 2.0
"""Seconds that something which may be stopped has to end by itself, before it is killed."""
PATIENCE = 30.0
"""Seconds that something may take to die that was told to."""


CUT = socket.MSG_TRUNC | socket.MSG_CTRUNC
VALUES = {STARTED: range(4096), ENDED: range(-64, 256)}
"""What an answer may say: 0 or an errno (include/linux/err.h, MAX_ERRNO); a signal, negative, or an exit status."""


class Fate:
    """Where the zygote says how a host side ended."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def read(self, kind: int, timeout: float | None) -> tuple[int, list[int]]:
        """The next answer, and its descriptor when a host side was started; Refused(ETIMEDOUT), Refused(ESRCH) when the
        zygote is dead, Refused(EPROTO) for anything else than such an answer."""
        if not readable([self._end.fileno()], timeout):
            raise Refused(errno.ETIMEDOUT, f"nothing was heard for {timeout} s")
        try:
            raw, fds, flags = receive_fds(self._end, ANSWER.size, 1)
        except ConnectionResetError:
            raw, fds, flags = b"", [], 0
        if not raw:
            raise Refused(errno.ESRCH, "the process that starts host sides has died; memory may be short: see dmesg")
        told, value = ANSWER.unpack(raw) if len(raw) == ANSWER.size and not flags & CUT else (kind, -1 << 63)
        if told != kind or value not in VALUES[kind] or len(fds) != (told == STARTED and value == 0):
            for fd in fds:
                gone(fd)
            raise Refused(errno.EPROTO, f"{len(raw)} bytes and {len(fds)} descriptors are no answer, or out of turn")
        return int(value), fds

    def close(self) -> None:
        shut(self._end)


def pid_of(pidfd: int) -> int:
    """Of a pidfd, as this process sees it: -1 where /proc does not say, or no longer; 0 for what is none."""
    try:
        with open(f"/proc/self/fdinfo/{pidfd}") as lines:
            return next((int(line.split()[1]) for line in lines if line.startswith("Pid:")), 0)
    except OSError:
        return -1


def _parent_of(pid: int) -> int:
    """-1 where /proc does not say, or no longer (proc_pid_stat(5))."""
    try:
        with open(f"/proc/{pid}/stat") as line:
            return int(line.read().rpartition(")")[2].split()[1])
    except OSError:
        return -1


def lifted(end: socket.socket) -> socket.socket:
    """The same socket at a number that is no standard file's."""
    return end if end.fileno() > 2 else socket.socket(end.family, end.type, end.proto, confine.lift(end.detach()))


missing: dict[int, tuple[Lack, ...]] = {}
"""What the last host side's room lacked, by the user id that this process had."""
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
