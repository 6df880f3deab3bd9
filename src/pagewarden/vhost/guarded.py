"""The warden of a device in a process of its own: what is lent to it, what it asks for, its rings, and its end.

How the pages of a request are judged is another class's: iommu, or pool. A page is closed once the device's process has
closed it and /proc shows that it has: close or die.
"""

import errno
import os
import socket
from collections.abc import Callable

from pagewarden.abi.virtio import VIRTIO_F_EVENT_IDX
from pagewarden.kernel.door import Descriptor
from pagewarden.vhost import confined, wire
from pagewarden.vhost.grants import Grants
from pagewarden.vhost.hosts import UNASKED, take_features
from pagewarden.vhost.inflight import InflightFile
from pagewarden.vhost.kinds import RING, ServedDevice
from pagewarden.vhost.lent import LentWindow
from pagewarden.vhost.messages import FrontEndFault
from pagewarden.vhost.process import ConfinedProcess
from pagewarden.vhost.regions import MemoryRegion
from pagewarden.vhost.translated import SPAN
from pagewarden.vhost.vrings import Vring
from pagewarden.vhost.wire import NEVER, NOT_NOW, WireKind, WireRecord
from pagewarden.virtio.placing import OPEN, WRITABLE
from pagewarden.virtio.ring import Ring
from pagewarden.vocab import PAGE_SIZE, Refused

HOPELESS = 3
"""Deaths in a row, without a request between, after which the device is not started again."""
SHORT = f"the ring has fewer entries than a request may take: give the device queue-size={RING} or more"
ONE_FILE = "has its memory in more than one file, of which one is served: give QEMU one memory-backend"


class GuardedHost:
    """A device_host.DeviceHost. The device process gets window, disk, rings and doorbells; never the memory's file."""

    withheld = 0
    """Features of the device that are not offered."""

    def __init__(self, served: ServedDevice) -> None:
        kind = self._kind = served.kind
        self._device = device = kind.make(served.view, RING)
        self._regions, self.queues, self.counts = served.regions, kind.queues, served.counts
        self.offered, self.queue_size = device.offered & ~self.withheld, 2 * RING
        self._say, self._probe = served.say, served.probe
        self.process = ConfinedProcess(kind.program)
        self.polled: dict[int, Callable[[], bool]] = {}
        self.grants = Grants(self.counts)
        self._features = 0
        self._window: LentWindow | None = None
        self._file: tuple[int, int] | None = None
        self._rings: dict[int, tuple[Vring, Ring]] = {}
        self._kept: InflightFile | None = None
        self._asked: dict[int, bool] = {}
        self._ready: dict[int, int] = {}
        self._orders = self._deaths = 0
        self._refusing = False
        self._requests_then = -1
        self._violations = 0
        self._told: set[str] = set()

    # -- as a DeviceHost -----------------------------------------------------------------------------------------------

    def read_config(self, offset: int, length: int) -> bytes:
        return self._device.read_config(offset, length)

    def accept(self, features: int) -> None:
        take_features(self._device, features)
        self._features = features
        self.process.order(WireKind.FEATURES, features)

    def place(self, part: MemoryRegion, fd: int) -> None:
        status = os.fstat(fd)
        file = status.st_dev, status.st_ino
        if self._window is not None and file != self._file:
            if len(self._regions.parts) > 1:
                raise FrontEndFault(ONE_FILE)
            self._end_device()
        if self._window is None:
            self._window, self._file = LentWindow(Descriptor(os.dup(fd)), status.st_size), file
            self._start_device()

    def displace(self, part: MemoryRegion) -> None:
        self._take_back(list(self.grants.entries))

    def keep(self, kept: InflightFile) -> None:
        self._kept = kept

    def forget(self) -> None:
        self._kept = None
        self._end_device()
        self._no_questions()

    def start(self, vring: Vring, ring: Ring) -> None:
        if lack := self._lacks(ring):
            self._tell(lack)
            raise Refused(errno.EINVAL, lack)
        if ring.size < self._kind.shortest:
            self._tell(SHORT)
            raise Refused(errno.EINVAL, SHORT)
        self._rings[vring.index] = vring, ring.checked(SPAN, self.queue_size)
        self._refusing = False
        self._send_start(vring, ring)

    def call_changed(self, vring: Vring) -> None:
        self.process.order(WireKind.CALL, vring.index, (), self.process.nobody if vring.call < 0 else vring.call)

    def stop(self, index: int) -> int:
        vring, _ = self._rings.pop(index)
        before, self._refusing = self._refusing, True
        self._answer(list(self._asked), NEVER)
        self.process.order(WireKind.STOP, index)
        said = self.process.wait(WireKind.STOPPED, index)
        done = int(said.pairs[0, 0]) if said is not None and len(said.pairs) else -1
        if not self._rings:
            self._take_back(list(self.grants.entries))
        self._work_off()
        self._refusing = before
        return vring.base if done < 0 else done & 0xFFFF

    @property
    def _by_a_system(self) -> bool:
        """Is the driver an operating system's? Firmware takes few features, and maps nothing."""
        return bool(self._features >> VIRTIO_F_EVENT_IDX & 1)

    # -- what another class says ---------------------------------------------------------------------------------------

    def back_channel(self, channel: socket.socket) -> None:
        channel.close()

    def translation(self, iova: int, size: int, user: int, access: int, kind: int) -> None:
        raise FrontEndFault(UNASKED)

    def _lacks(self, ring: Ring) -> str:
        """Why a device with these features and this ring cannot be served; empty: it can."""
        raise NotImplementedError

    def _ask(self, pages: list[tuple[int, bool]]) -> None:
        """Pages, and whether each is to be written, none of them lent so: into `_ready`, or into `_asked` first."""
        raise NotImplementedError

    def _no_questions(self) -> None:
        """The front end's channel for questions goes."""

    # -- lending -------------------------------------------------------------------------------------------------------

    def _take_back(self, io_pages: list[int]) -> None:
        """The I/O pages mean nothing any more, and pages that nothing else means are closed when this returns."""
        for page in io_pages:
            if page in self._ready:
                self._ready[page] = NOT_NOW
        orders = self.grants.take_back(io_pages)
        closed = sorted({page for _, page in orders if page >= 0})
        if not orders or self._window is None:
            self.grants.closed(closed)
            return
        for first in range(0, len(orders), wire.PAIRS_MAX):
            self._orders += 1
            self.process.order(WireKind.CLOSE, self._orders, orders[first : first + wire.PAIRS_MAX])
        said = self.process.wait(WireKind.CLOSED, self._orders)
        if said is None or self._window.any_open(closed):
            if self.process.host is not None and not (self.process.host.dead or self.process.gone):
                self._violations += 1
                self._tell("the device's process did not close a page in time, and was killed")
            self._died()
        self.grants.closed(page for page in closed if page in self.grants.pages)

    # -- questions of the device ---------------------------------------------------------------------------------------

    def _missed(self, record: WireRecord) -> None:
        ask: dict[int, bool] = {}  # one chain may read of a page what another writes
        for page, write in record.pairs.tolist():
            if not 0 <= page < SPAN // PAGE_SIZE:
                self._violated("asked for an I/O page beyond all")
                return
            entry = self.grants.entries.get(page, 0)
            if entry & (WRITABLE if write else OPEN):
                self._ready[page] = entry
            elif self._refusing:
                self._ready[page] = NEVER
            else:
                ask[page] = bool(write) or ask.get(page, False)
        self._ask(list(ask.items()))
        self._flush()

    def _answer(self, pages: list[int], entry: int) -> None:
        for page in pages:
            self._asked.pop(page, None)
            self._ready[page] = entry
        self._flush()

    def _flush(self) -> None:
        """Answer the device, once all that it waits for is known."""
        if self._ready and not self._asked:
            ready, self._ready = list(self._ready.items()), {}
            for first in range(0, len(ready), wire.PAIRS_MAX):
                self.process.order(WireKind.GRANT, 0, ready[first : first + wire.PAIRS_MAX])

    # -- the process ---------------------------------------------------------------------------------------------------

    def _start_device(self) -> None:
        assert self._window is not None
        self.process.start(self._window, self._probe, self._kind.files, self._kind.words)
        self._watch()
        self.process.order(WireKind.FEATURES, self._features)
        for vring, ring in self._rings.values():
            self._send_start(vring, ring)

    def _send_start(self, vring: Vring, ring: Ring) -> None:
        places = [(ring.size, ring.desc), (ring.avail, ring.used)]
        fds = [vring.kick, self.process.nobody if vring.call < 0 else vring.call]
        if self._kept is not None:
            places.append((self._kept.offset(vring.index, ring.size), self._kept.size))
            fds.append(self._kept.file.fd)
        self.process.order(WireKind.START, vring.index, places, *fds)

    def _work_off(self) -> None:
        while self.process.backlog:
            self._hear(self.process.backlog.popleft())

    def _heard(self) -> bool:
        channel = self.process.channel
        try:
            record = None if channel is None else wire.receive(channel, wire.DEVICES, wait=False)
        except BlockingIOError:
            return False
        except Refused as refused:
            self._violated(str(refused))
            return False
        if record is None:
            self._died()
        else:
            self._hear(record)
        return False

    def _hear(self, record: WireRecord) -> None:
        if record.kind is WireKind.MISS:
            self._missed(record)
        elif record.kind is WireKind.BROKEN and record.number in self._rings:
            self.counts.blame(
                f"ring {record.number} broke the rules, or a page of it is not lent: it waits for a reset"
            )

    def _violated(self, what: str) -> None:
        self._violations += 1
        self._tell(f"the device's process {what}, and was killed")
        self._died()

    def _died(self) -> None:
        """Start it again: it goes on where the used rings stand."""
        requests = self.process.counters()[confined.REQUESTS]
        self._bury_device()
        if self._window is None:
            return
        self._deaths = self._deaths + 1 if requests == self._requests_then else 1
        self._requests_then = requests
        if self._deaths > HOPELESS:
            raise FrontEndFault("has a device that dies again and again before it did anything")
        self.counts.device_restarts += 1
        self.counts.tell({"event": "device-restarted"})
        self._start_device()

    def _bury_device(self) -> None:
        """Nobody has the window afterwards."""
        self.process.bury(self._window)
        self.grants.lost()
        self._asked.clear()
        self._ready.clear()
        self._watch()

    def _end_device(self) -> None:
        window, self._window = self._window, None
        self._bury_device()
        if window is not None:
            window.close()

    def _watch(self) -> None:
        polled: dict[int, Callable[[], bool]] = {}
        if self.process.channel is not None:
            polled[self.process.channel.fileno()] = self._heard
        self.polled = polled

    # -- what is to be known -------------------------------------------------------------------------------------------

    def count(self) -> None:
        """Bring the counts up to date with what the process says."""
        counts = self.counts
        counts.requests, counts.carried, counts.probed, leaks = self.process.counters()
        counts.violations = self._violations + leaks

    @property
    def requests(self) -> int:
        return self.process.counters()[confined.REQUESTS]

    def _tell(self, what: str) -> None:
        self.counts.blame(what)
        if what not in self._told:
            self._told.add(what)
            self._say(what)

    def close(self) -> None:
        """Give everything back. Twice is once."""
        self._end_device()
        self.process.close()
