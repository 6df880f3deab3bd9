"""A vhost-user front end: hands a memory and its rings to a block device in another process, rings and is called.

Messages as in QEMU's docs/interop/vhost-user.rst; only what a driver of one process needs: no migration.
"""

import os
import select
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np

from pagewarden.abi import vhost_user as abi
from pagewarden.abi.vhost_user import FrontRequest as Ask
from pagewarden.abi.virtio_blk import virtio_blk_config
from pagewarden.virtio.ring import Ring

F_PROTOCOL = 1 << abi.VHOST_USER_F_PROTOCOL_FEATURES
REPLY_ACK, CONFIG = 1 << abi.ProtocolFeature.REPLY_ACK, 1 << abi.ProtocolFeature.CONFIG
_CONFIG = 60
"""Bytes of the configuration that every version has: QEMU answers nothing where more is asked for than it knows."""
PATIENCE = 60.0
"""Seconds that a device has for what it was told."""


class BackEndError(Exception):
    """The other process went away, or refused a message."""


class FrontEnd:
    """One block device behind a socket. The memory is one region: guest physical and user addresses are offsets."""

    def __init__(self, where: str | Path | socket.socket, file: int, size: int, features: int, more: int = 0) -> None:
        """file: of the memory, of so many bytes; the other process maps all of it. features: those wanted; `features`
        are what both have; more: bits of the protocol's features beside the two that it always takes."""
        if not isinstance(where, socket.socket):
            path, where = where, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            where.connect(str(path))
        self._socket = where
        self._turn = threading.RLock()  # a question and its answer are not mixed with another thread's
        self._events: list[int] = []
        self._acknowledges = False
        offered = self.ask(Ask.GET_FEATURES)
        self.features = offered & features
        self.protocol = 0
        if offered & F_PROTOCOL:
            self.protocol = self.ask(Ask.GET_PROTOCOL_FEATURES) & (REPLY_ACK | CONFIG | more)
            self.tell(Ask.SET_PROTOCOL_FEATURES, struct.pack("<Q", self.protocol))
            self._acknowledges = bool(self.protocol & REPLY_ACK)
        self.tell(Ask.SET_OWNER)
        self.tell(Ask.SET_FEATURES, struct.pack("<Q", self.features | offered & F_PROTOCOL))
        self.tell(Ask.SET_MEM_TABLE, struct.pack("<IIQQQQ", 1, 0, 0, size, 0, 0), file)

    def config(self) -> Any:
        """The device's struct virtio_blk_config."""
        with self._turn:
            self.send(Ask.GET_CONFIG, struct.pack("<III", 0, _CONFIG, 0) + bytes(_CONFIG), 0)
            found = self.receive(Ask.GET_CONFIG)[12:]
        return np.frombuffer(found.ljust(virtio_blk_config.itemsize, b"\0"), virtio_blk_config)[0]

    def start(self, index: int, ring: Ring, done: int = 0) -> "RemoteQueue":
        """Let the device serve this ring, of which so many chains are done."""
        queue = RemoteQueue(os.eventfd(0, os.EFD_CLOEXEC), os.eventfd(0, os.EFD_CLOEXEC))
        self._events += queue.fds
        self.tell(Ask.SET_VRING_NUM, struct.pack("<II", index, ring.size))
        self.tell(Ask.SET_VRING_ADDR, struct.pack("<IIQQQQ", index, 0, ring.desc, ring.used, ring.avail, 0))
        self.tell(Ask.SET_VRING_BASE, struct.pack("<II", index, done))
        self.tell(Ask.SET_VRING_CALL, struct.pack("<Q", index), queue.fds[1])
        self.tell(Ask.SET_VRING_KICK, struct.pack("<Q", index), queue.fds[0])
        if self.protocol:
            self.tell(Ask.SET_VRING_ENABLE, struct.pack("<II", index, 1))
        return queue

    def stop(self, index: int) -> int:
        """Nothing of the ring is in flight afterwards; how many chains are done, modulo 2^16."""
        with self._turn:
            self.send(Ask.GET_VRING_BASE, struct.pack("<II", index, 0), 0)
            return int(struct.unpack("<II", self.receive(Ask.GET_VRING_BASE))[1])

    def inflight(self, queues: int, size: int) -> tuple[int, bytes]:
        """The other side's file for what is in flight of so many rings, and its description: for `keep`."""
        with self._turn:
            self.send(Ask.GET_INFLIGHT_FD, abi.INFLIGHT.pack(0, 0, queues, size), 0)
            answer, (file,), _, _ = socket.recv_fds(self._socket, abi.HEADER.size + abi.INFLIGHT.size, 1)
        return file, answer[abi.HEADER.size :]

    def keep(self, file: int, described: bytes) -> None:
        """What is in flight of rings started from now on is kept there."""
        self.tell(Ask.SET_INFLIGHT_FD, described, file)

    def close(self) -> None:
        self._socket.close()
        while self._events:
            os.close(self._events.pop())

    def ask(self, request: int) -> int:
        with self._turn:
            self.send(request, b"", 0)
            return int(struct.unpack("<Q", self.receive(request))[0])

    def tell(self, request: int, payload: bytes = b"", *fds: int) -> None:
        """A message without an answer, of which the other side says that it took it, where it can."""
        with self._turn:
            self.send(request, payload, abi.NEED_REPLY if self._acknowledges else 0, *fds)
            if self._acknowledges and (code := struct.unpack("<Q", self.receive(request))[0]):
                raise BackEndError(f"request {request} was refused: {code}")

    def send(self, request: int, payload: bytes, flags: int, *fds: int) -> None:
        message = abi.HEADER.pack(request, abi.VERSION | flags, len(payload)) + payload
        socket.send_fds(self._socket, [message], list(fds))

    def receive(self, request: int) -> bytes:
        answered, flags, size = abi.HEADER.unpack(self._exactly(abi.HEADER.size))
        if answered != request or not flags & abi.REPLY:
            raise BackEndError(f"request {request} was answered by {answered}, flags {flags:#x}")
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = self._socket.recv(size, socket.MSG_WAITALL) if size else b""
        if len(data) < size:
            raise BackEndError("the other process has gone away")
        return data


class RemoteQueue:
    """The two eventfds of a ring."""

    def __init__(self, kick: int, call: int) -> None:
        self.fds = kick, call

    def kick(self) -> None:
        """Tell the device that chains are available."""
        os.eventfd_write(self.fds[0], 1)

    def wait(self) -> None:
        """Until the device called since the last time. (The other process may have made the eventfd non-blocking.)"""
        if not select.select([self.fds[1]], [], [], PATIENCE)[0]:
            raise BackEndError(f"no call within {PATIENCE:.0f} s")
        os.eventfd_read(self.fds[1])
