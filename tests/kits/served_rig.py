"""A driver on one side of a socket, a server on the other, and between them a memory that both map."""

import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from front_end import PATIENCE, FrontEnd
from pagewarden.kernel.region import Region
from pagewarden.memory import PrivateMemory
from pagewarden.memory.window import Window
from pagewarden.vhost.blk import disk_kind
from pagewarden.vhost.guarded import GuardedHost
from pagewarden.vhost.hosts import OpenHost, ServeCounts, view_of
from pagewarden.vhost.iommu import IommuHost
from pagewarden.vhost.kinds import ServedDevice
from pagewarden.vhost.pool import PoolHost
from pagewarden.vhost.regions import GuestRegions
from pagewarden.vhost.server import Server
from pagewarden.virtio.disk import Disk
from pagewarden.virtio.driver import Used
from pagewarden.virtio.queue import Processed
from virtio_kit import DEFAULT, Rig

MEMORY = 8 << 20


class SealedMemory:
    """As QEMU's memory-backend-memfd: a file that nobody makes shorter; all of it answers."""

    def __init__(self, size: int = MEMORY) -> None:
        self.size, self.file = size, os.memfd_create("guest", os.MFD_ALLOW_SEALING)
        os.ftruncate(self.file, size)
        fcntl.fcntl(self.file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        self._region = Region(size)
        self._region.place(self.file)
        self.window = Window(self._region)

    def close(self) -> None:
        self.window.close()
        self._region.close()
        os.close(self.file)


@contextmanager
def opened_image(image: Path) -> Iterator[int]:
    """A descriptor of the disk."""
    fd = os.open(image, os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


class ServerThread:
    """A server of one disk, for connections one after the other; said: what it complained of."""

    def __init__(
        self,
        disk: Path,
        queues: int = 1,
        read_only: bool = False,
        pool: range | str = "",
        probe: bool = False,
        program: Callable[..., None] | None = None,
        **guarded: Any,
    ) -> None:
        """program: what the process of a guarded device runs; guarded: options of an IommuHost; pool: of a PoolHost,
        "learned" or pages; without one the host is an OpenHost."""
        self.said: list[str] = []
        self.ended: BaseException | None = None
        self.counts = ServeCounts()
        self._fd = os.open(disk, os.O_RDONLY if read_only else os.O_RDWR)
        self.regions = GuestRegions()
        self._view = view_of(self.regions)
        kind = disk_kind(self._fd, read_only, queues)
        if program is not None:
            kind = replace(kind, program=program)
        self.device = kind.make(self._view, 256)
        self.host: OpenHost | GuardedHost = OpenHost(self.device, self.regions, queues, self.counts)
        served = ServedDevice(kind, self._view, self.regions, self.counts, self.said.append, probe=probe)
        if pool:
            self.host = PoolHost(served, pool=None if isinstance(pool, str) else pool)
        elif guarded:
            self.host = IommuHost(served, **guarded)
        listener = socket.socket()
        self.server = Server(listener, self.host, self.regions, self.said.append)
        listener.close()

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """The front end's end of a connection; afterwards the server is through with it."""
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=self._serve, args=(theirs,))
        thread.start()
        try:
            with ours:
                yield ours
        finally:
            ours.close()
            thread.join(PATIENCE)
            assert not thread.is_alive(), "the server goes on without a front end"
            if self.ended is not None:
                raise self.ended

    def _serve(self, connection: socket.socket) -> None:
        try:
            self.server.serve(connection)
        except BaseException as error:  # a bug: the test says so
            self.ended = error

    @property
    def guard(self) -> GuardedHost:
        assert isinstance(self.host, GuardedHost)
        return self.host

    def close(self) -> None:
        self.host.close()
        self.device.write_status(0)
        self._view.close()
        self.regions.close()
        os.close(self._fd)


class ServedRig(Rig):
    """The rig's driver, with the device behind a connection."""

    def __init__(
        self,
        memory: PrivateMemory | SealedMemory,
        connection: socket.socket,
        disk: Disk,
        features: int = DEFAULT,
        size: int = 16,
    ) -> None:
        super().__init__(memory.window, disk, features, size, here=False)
        self.front = FrontEnd(connection, memory.file, memory.size, features)
        self.queue = self.front.start(0, self.rings[0])

    def serve(self, queue: int = 0) -> tuple[Processed, list[Used]]:
        """Publish, kick, wait for the call, reap."""
        driver = self.drivers[queue]
        driver.ask_interrupt(1)
        driver.publish()
        self.queue.kick()
        used = driver.reap()
        while driver.free < driver.ring.size:
            self.queue.wait()
            driver.ask_interrupt(1)
            used += driver.reap()
        return Processed(len(used), True, False), used
