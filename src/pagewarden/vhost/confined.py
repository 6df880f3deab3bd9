"""The process of a device that is not trusted: the window, the disk and its rings are all that it has.

Two threads. One hears the warden: what is lent goes into the table, what is taken back is closed here, at once, and
said to be; for nobody can close a page of another process. The other serves the rings and waits for pages.
"""

import errno
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from random import Random

import numpy as np
from numpy.typing import NDArray

from pagewarden.abi.virtio import DEVICE_NEEDS_RESET
from pagewarden.kernel.door import polling, punch_hole
from pagewarden.kernel.region import Region
from pagewarden.memory import scatter_gather  # noqa: F401  what is imported later is not found
from pagewarden.memory.isolated.side import HostSide
from pagewarden.port import HostView
from pagewarden.vhost import wire
from pagewarden.vhost.hosts import VhostDevice, take_features
from pagewarden.vhost.inflight import InflightRing
from pagewarden.vhost.translated import TranslatedView
from pagewarden.vhost.vrings import tell
from pagewarden.vhost.wire import WireKind, WireRecord
from pagewarden.virtio.device import BlockDevice
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.faults import DeviceNeedsReset
from pagewarden.virtio.placing import SHIFT
from pagewarden.virtio.ring import Ring
from pagewarden.vocab import PAGE_SIZE, PrivateAccess, Refused
from pagewarden.vocab.runs import in_runs

REQUESTS, CARRIED, PROBES, LEAKS = range(4)
COUNTERS = 4
"""Numbers of 64 bits in the file that the warden looks at."""
SWITCH = 5e-5
"""Seconds until a thread that waits gets the interpreter: an order to close does not wait for a batch."""
ON_ITS_WAY = 2.0
"""Seconds after which a word of the warden's has come."""
PROBE_EVERY = 10
"""Milliseconds between probes where there is nothing to do."""
PROBE = 64
"""Pages that are probed between two requests."""


def block_device(
    host: HostSide, channel: int, counters: int, probe: bool, disk: int, queues: int, sealed: bool
) -> None:
    """The function that a disk's process runs; disk: a descriptor that was handed over."""
    image = Disk(disk, sealed, punch=punch_hole)
    serve_rings(host, channel, counters, probe, lambda view: BlockDevice(view, image, queues))


def serve_rings(
    host: HostSide, channel: int, counters: int, probe: bool, make: Callable[[HostView], VhostDevice]
) -> None:
    """What the function of any device does at last: all but make as that was called with."""
    sys.setswitchinterval(SWITCH)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    shown = Region(PAGE_SIZE)
    shown.place(counters)
    counted = np.frombuffer(shown.memory, np.int64, COUNTERS)
    ConfinedDevice(host, socket.socket(fileno=channel), counted, probe, make).run()


class ConfinedDevice:
    """A device, its view and the word to the warden."""

    def __init__(
        self,
        host: HostSide,
        channel: socket.socket,
        counted: NDArray[np.int64],
        probe: bool,
        make: Callable[[HostView], VhostDevice],
    ) -> None:
        self._host, self._channel, self._counted, self._probe = host, channel, counted, probe
        self._view = TranslatedView(host, self._ask)
        self.device = make(self._view)
        self._kicks: dict[int, tuple[int, int]] = {}  # of rings that run: index and call, by kick
        self._orders: deque[WireRecord] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._answered = threading.Condition()
        self._awaited: set[int] = set()
        self._never = -1
        self._features = 0
        self._open = set[int]()  # pages of the window that are lent
        self._random = Random(1)
        self._lent_at: dict[int, float] = {}
        self._suspects: deque[tuple[int, float]] = deque()

    def run(self) -> None:
        """Serve until the warden is gone."""
        threading.Thread(target=self._hear, daemon=True).start()
        busy: set[int] = set()
        watched: tuple[int, ...] = ()
        while True:
            if watched != (now := (self._wake, *self._kicks)):
                poll, watched = polling(now), now
            for fd, _ in poll.poll(0 if busy else PROBE_EVERY if self._probe else None):
                try:
                    os.eventfd_read(fd)
                except BlockingIOError:
                    continue
                busy.add(fd)
            busy.discard(self._wake)
            while self._orders:
                self._obey(self._orders.popleft())
                busy |= set(self._kicks)
            busy = {fd for fd in busy if fd in self._kicks and self._kicked(fd)}
            if self._probe:
                self._look_elsewhere()

    # -- rings ---------------------------------------------------------------------------------------------------------

    def _obey(self, order: WireRecord) -> None:
        match order.kind:
            case WireKind.FEATURES:
                self._features = order.number
                take_features(self.device, order.number)
            case WireKind.START:
                self._start(order)
            case WireKind.CALL:
                for kick, (index, call) in self._kicks.items():
                    if index == order.number:
                        self._kicks[kick] = index, order.fds.pop()
                        os.close(call)
            case WireKind.STOP:
                self._stop(order.number)

    def _start(self, order: WireRecord) -> None:
        (size, desc), (avail, used), *kept = order.pairs.tolist()
        kick, call, *files = order.fds
        if self.device.status & DEVICE_NEEDS_RESET and not self._kicks:
            take_features(self.device, self._features)
        self._kicks[kick] = order.number, call
        try:
            file = InflightRing(*files, *kept[0]) if kept else None
            self.device.start(order.number, Ring(size, desc, avail, used), file)
        except (DeviceNeedsReset, Refused):
            self._break(kick)

    def _stop(self, index: int) -> None:
        for kick, (ring, call) in list(self._kicks.items()):
            if ring == index:
                del self._kicks[kick]
                os.close(kick)
                os.close(call)
        try:
            done = self.device.stop(index)
        except Refused:
            done = -1
        wire.send(self._channel, wire.pack(WireKind.STOPPED, index, [(done, 0)]))

    def _kicked(self, kick: int) -> bool:
        index, call = self._kicks[kick]
        try:
            done = self.device.process(index)
        except DeviceNeedsReset:
            self._break(kick)
            return False
        self._counted[REQUESTS] += done.completed
        self._counted[CARRIED] = self.device.carried
        if done.want_interrupt:
            tell(call)
        return done.more

    def _break(self, kick: int) -> None:
        """Not served before the driver's reset, which comes with the next START."""
        index, call = self._kicks.pop(kick)
        os.close(kick)
        os.close(call)
        wire.send(self._channel, wire.pack(WireKind.BROKEN, index))

    # -- pages ---------------------------------------------------------------------------------------------------------

    def _ask(self, missing: NDArray[np.int64]) -> None:
        """See translated.Ask."""
        with self._answered:
            self._awaited = set(missing[:, 0].tolist())
            self._never = -1
            for first in range(0, len(missing), wire.PAIRS_MAX):
                wire.send(self._channel, wire.pack(WireKind.MISS, 0, missing[first : first + wire.PAIRS_MAX]))
            while self._awaited:
                self._answered.wait()
            if self._never >= 0:
                where = self._never * PAGE_SIZE
                raise PrivateAccess(errno.EFAULT, "the guest has not mapped the page for DMA", where)

    def _hear(self) -> None:
        """The other thread: the warden's records, in their order."""
        while record := wire.receive(self._channel, wire.WARDENS):
            if record.kind is WireKind.GRANT:
                self._lent(record.pairs)
            elif record.kind is WireKind.CLOSE:
                self._close(record.pairs)
                wire.send(self._channel, wire.pack(WireKind.CLOSED, record.number))
            else:
                self._orders.append(record)
                tell(self._wake)
        os._exit(0)

    def _lent(self, pairs: NDArray[np.int64]) -> None:
        with self._answered:
            for page, entry in pairs.tolist():
                if entry > 0:
                    self._open.add(entry >> SHIFT)
                    if self._probe:
                        self._lent_at[entry >> SHIFT] = time.monotonic()
                    self._view.table[page] = entry
                elif entry == wire.NEVER:
                    self._never = page
                self._awaited.discard(page)
            if not self._awaited:
                self._answered.notify()

    def _close(self, pairs: NDArray[np.int64]) -> None:
        self._view.take_back(pairs[:, 0])
        pages = pairs[:, 1] if len(pairs) == 1 else np.unique(pairs[:, 1])
        pages = pages[pages >= 0]
        if not len(pages):
            return
        for first, stop in in_runs(pages):
            self._host.close_pages(first * PAGE_SIZE, (stop - first) * PAGE_SIZE)
        self._open.difference_update(pages.tolist())
        if self._probe:
            self._lent_at.update(dict.fromkeys(pages.tolist(), time.monotonic()))

    def _look_elsewhere(self) -> None:
        """Pages that are not lent, at random: what answers is a leak, unless the word of its loan is on its way."""
        now = time.monotonic()
        while self._suspects and self._suspects[0][1] < now - ON_ITS_WAY:
            page, when = self._suspects.popleft()
            self._counted[LEAKS] += self._lent_at.get(page, 0.0) < when
        for _ in range(PROBE):
            page = self._random.randrange(self._host.size // PAGE_SIZE)
            if page in self._open:
                continue
            self._counted[PROBES] += 1
            try:
                self._host.read(page * PAGE_SIZE, 1)
            except PrivateAccess:
                continue
            self._suspects.append((page, now))
