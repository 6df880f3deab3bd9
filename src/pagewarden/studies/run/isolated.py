"""The warden's side of an isolated run: the device is in a process that is not trusted, and may die at any moment."""

import errno
from contextlib import suppress
from dataclasses import astuple

from pagewarden.guest.program import Program
from pagewarden.memory import PrivateMemory, Refused
from pagewarden.memory.isolated.messages import Message, MessageKind
from pagewarden.memory.isolated.process import START_TIMEOUT, HostProcess
from pagewarden.port import Buffer, Segments
from pagewarden.studies.run.device import BROKEN, OUTLIVE, READY, serve_block
from pagewarden.studies.run.disk import DiskFile
from pagewarden.studies.run.host import HostTally, ring_of
from pagewarden.vocab import Unavailable

TRIES = 100
"""Device processes that may die over one doorbell."""


class IsolatedDevice:
    """What LocalDevice is where the host cooperates. A device that dies is followed by another one, which goes on
    from the ring; whatever it says is taken for a hint, the guest looks at the ring itself."""

    def __init__(self, described: Program, memory: PrivateMemory, disk: DiskFile, patience: float) -> None:
        self.tally, self.restarts = HostTally(), 0
        self._memory, self._disk, self._patience = memory, disk, patience
        self._queue, self._ring = described.queue, ring_of(described)
        self._host = self._spawn(resume=False)

    @property
    def pid(self) -> int:
        return self._host.pid

    def notify(self, queue: int) -> None:
        """The doorbell: returns when a device process says that it has served it. Refused when none can."""
        for _ in range(TRIES):
            answer = self._ask(queue)
            if answer is not None:
                self._checked(answer)
                return
            with suppress(Refused):  # who knew how it ended may be dead, too
                self._host.wait(self._patience)
            self.restarts += 1
            with suppress(Unavailable):  # it died while it started: the next round sees that
                self._host = self._spawn(resume=True)
        raise Refused(errno.EIO, f"{TRIES} device processes in a row have died over one doorbell")

    def outlive(self) -> int:
        """Have it try to outlive this process before it is searched: how many of the WAYS went through."""
        answer = self._ask(OUTLIVE)
        return 0 if answer is None or answer.kind is not MessageKind.REPORT else answer.value

    def _ask(self, queue: int) -> Message | None:
        """The answer to the doorbell; None if the process is dead."""
        try:
            self._host.tell(queue)
            return self._host.receive(self._patience)
        except Refused as refused:
            if refused.errno == errno.EPROTO:  # it was killed for it
                return None
            self._host.kill()
            raise Refused(errno.ETIMEDOUT, f"the device process has said nothing for {self._patience} s") from refused
        except OSError:
            return None

    def _checked(self, answer: Message) -> None:
        words = answer.data.decode(errors="replace")
        if answer.kind is not MessageKind.REPORT or answer.value == BROKEN:
            raise Refused(errno.EIO, f"the device process gave up: {words}")
        self.tally.errors.unpack(answer.data, "the device process says")

    def _spawn(self, resume: bool) -> HostProcess:
        host = self._memory.spawn(
            serve_block,
            self._queue,
            astuple(self._ring),
            resume,
            self._disk.read_only,
            fds=(self._disk.fd,),
        )
        first = host.receive(START_TIMEOUT)  # whatever patience a run has with one that is there
        if first is not None and (first.kind is not MessageKind.REPORT or first.value != READY):
            words = first.data.decode(errors="replace")
            host.kill()
            raise Refused(errno.EIO, f"the device process did not start: {words}")
        return host

    def close(self) -> None:
        self._host.kill()


class WardensMemory:
    """port.Memory of an isolated memory for its warden, whose window is in another process: it looks from inside."""

    def __init__(self, behind: PrivateMemory) -> None:
        self.size, self.backing, self.window = behind.size, behind.backing, WardensView(behind)
        self.populate, self.share, self.unshare = behind.populate, behind.share, behind.unshare
        self.punch, self.is_shared, self.subscribe = behind.punch, behind.is_shared, behind.subscribe
        self.statistics, self.close = behind.statistics, behind.close


class WardensView:
    """port.HostView by the warden's own mapping, for reading what the guest has put into shared pages."""

    def __init__(self, behind: PrivateMemory) -> None:
        self.size, self.read, self.write = behind.size, behind.private_read, behind.private_write

    def read_into(self, offset: int, target: Buffer) -> None:
        view = memoryview(target).cast("B")
        view[:] = self.read(offset, len(view))

    def pread_from(self, fd: int, file_offset: int, segments: Segments) -> int:
        raise Refused(errno.EPERM, "the warden does no I/O")

    pwrite_to = pread_from
