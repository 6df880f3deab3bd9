"""The untrusted host: its window is in another process, and taking a page back puts the bytes on a fresh page.

What the host kept of the old page (a pin, a registered buffer, a pipe) lives on for it alone and holds what was
shared. While a page is replaced, whoever uses it through the guest's view waits: the run is write-protected, its
bytes are saved, the hole is punched, which unmaps it everywhere, and UFFDIO_COPY puts whole new pages in place.

A user that waits must not hold the interpreter's lock (KVM_RUN and emulators do not; private_read and private_write
take turns with conversions instead). A user inside a system call waits only where this process may handle kernel
faults (root, CAP_SYS_PTRACE, or sysctl vm.unprivileged_userfaultfd=1); elsewhere it gets EFAULT, KVM_RUN included: stop
the vCPUs in a listener there.
"""

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from pagewarden.abi import memory as uapi
from pagewarden.abi import uffd
from pagewarden.kernel.door import Region, bytes_address, memfd, prctl, punch_hole
from pagewarden.kernel.uffd import Userfault
from pagewarden.memory.backings.protocol import Tariff, Wanted
from pagewarden.memory.backings.uffd_window import share_window
from pagewarden.memory.isolated.process import HostProcess
from pagewarden.memory.isolated.zygote import Zygote
from pagewarden.vocab import Event, InternalError, Refused, Unavailable

WAIT = uffd.UFFDIO_REGISTER_MODE_MISSING | uffd.UFFDIO_REGISTER_MODE_WP
WAIT_FEATURES = uffd.UFFD_FEATURE_MISSING_SHMEM | uffd.UFFD_FEATURE_WP_HUGETLBFS_SHMEM
STEP = 1 << 20
"""Bytes replaced at once: what the warden holds a second copy of."""
PATIENCE = 1000
"""Tries, a millisecond apart, at getting fresh pages before the bytes are given up as lost."""


class IsolatedWindow:
    """A memfd whose open mapping is this process's alone; the host side's window is opened through its userfaultfd.

    While one exists this process is undumpable: none of the same user may trace it or open its /proc/PID/mem and fd.
    """

    name = "uffd-window"
    whole_file = False
    idle_unshare = False
    sharing = Tariff({Event.HYP_PTE_SET: 1})
    unsharing = Tariff({Event.HYP_PTE_CLEAR: 1, Event.HYP_COPIES: 1, Event.ALLOCATIONS: 1}, {Event.TLBI: 1})
    punching = Tariff({}, {Event.TLBI: 1})
    window = None
    compiled = None

    def __init__(self, wanted: Wanted) -> None:
        size = wanted.size
        with ExitStack() as undo:
            self.file = memfd("pagewarden", size)
            undo.callback(os.close, self.file)
            self.guest = Region(size)
            undo.callback(self.guest.close)
            self.guest.place(self.file)
            self.guest.keep_to_this_process()
            self.guest.lock_when_touched()
            self._waiting = _waiting_room()
            undo.callback(self._waiting.close)
            undo.enter_context(_undumpable())
            self._zygote: Zygote | None = None
            self._host: HostProcess | None = None
            undo.callback(self._end)
            self._release = undo.pop_all()

    def spawn(self, function: Callable[..., object], arguments: tuple[Any, ...], fds: tuple[int, ...]) -> HostProcess:
        """Start the host side and greet it: its window is shut as yet, and it runs after `go`."""
        if any(os.path.samestat(os.fstat(fd), os.fstat(self.file)) for fd in fds):
            raise Refused(errno.EPERM, "the memory itself is not for the host side to keep")
        if self._host is not None and self._host.dead:
            self._forget_host()
        if self._host is not None:
            raise Refused(errno.EBUSY, "the memory has a host side already: one at a time")
        if self._zygote is None or self._zygote.dead:
            self._zygote = Zygote()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid, pidfd = self._zygote.fork(self.guest.size, self.file, theirs, fds, function, arguments)
            except BaseException:
                ours.close()
                raise
        self._host = HostProcess(self._zygote, ours, pid, pidfd)
        try:
            self._host.greet()
        except BaseException:
            self._forget_host()
            raise
        return self._host

    def share(self, offset: int, length: int) -> None:
        if self._host is None or self._host.guard is None:
            return
        try:
            share_window(self._host.guard, self._host.address, self.guest, offset, length)
        except OSError as error:
            if error.errno != errno.ESRCH:  # when it is dead nobody sees anything
                raise

    def unshare(self, offset: int, length: int) -> None:
        for start, count in _steps(offset, length):
            self._replace(start, count)

    def bar(self) -> None:
        self._forget_host()

    def _replace(self, offset: int, length: int) -> None:
        address = self.guest.address + offset
        self._waiting.register(address, length, WAIT)
        try:
            self._waiting.write_protect(address, length)
            saved = os.pread(self.file, length, offset)  # not through the guest's view: at a hole we would wait too
            if len(saved) != length:
                raise OSError(errno.EIO, "the memory's file gave fewer bytes than it has")
            punch_hole(self.file, offset, length)
            self._put_back(address, saved)
        finally:
            self._waiting.unregister(address, length)

    def _put_back(self, address: int, saved: bytes) -> None:
        done, tries = 0, 0
        source = bytes_address(saved)
        while done < len(saved):
            try:
                done += self._waiting.copy(address + done, source + done, len(saved) - done)
            except OSError as error:
                tries += 1
                if error.errno not in (errno.EAGAIN, errno.ENOMEM) or tries > PATIENCE:
                    raise InternalError(f"{len(saved) - done} bytes of the guest are lost: {error}") from error
                time.sleep(0.001)

    def punch(self, offset: int, length: int) -> None:
        punch_hole(self.file, offset, length)

    def forked(self) -> None:
        os.close(self.file)
        self._waiting.close()

    def close(self) -> None:
        self._release.close()

    def _forget_host(self) -> None:
        if self._host is not None:
            self._host.bury()
            self._host = None

    def _end(self) -> None:
        self._forget_host()
        if self._zygote is not None:
            self._zygote.close()


def _steps(offset: int, length: int) -> list[tuple[int, int]]:
    """A run in pieces of at most STEP: where each starts, and its length."""
    return [(start, min(STEP, offset + length - start)) for start in range(offset, offset + length, STEP)]


_isolating: list[int] = []
"""For each isolated memory of this process, whether the process was dumpable before it (PR_GET_DUMPABLE)."""


@contextmanager
def _undumpable() -> Iterator[None]:
    _isolating.append(_isolating[0] if _isolating else prctl(uapi.PR_GET_DUMPABLE))
    prctl(uapi.PR_SET_DUMPABLE, 0)
    try:
        yield
    finally:
        if len(_isolating) == 1:
            prctl(uapi.PR_SET_DUMPABLE, min(_isolating[0], 1))  # 2 cannot be set
        _isolating.pop()


def _waiting_room() -> Userfault:
    """The userfaultfd that makes users of a page wait; without privileges those inside a syscall fail instead."""
    try:
        return Userfault(WAIT_FEATURES, user_mode_only=False)
    except Unavailable:
        return Userfault(WAIT_FEATURES)
