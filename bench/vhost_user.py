"""A vhost-user front end: hands a memory and its rings to a block device in another process, rings and is called.

Messages as in QEMU's docs/interop/vhost-user.rst; only what a driver of one process needs: no migration, no hot-plug.
"""

import contextlib
import os
import select
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pagewarden.abi.virtio_blk import virtio_blk_config
from pagewarden.virtio.ring import Ring

GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 1, 2, 3, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = 8, 9, 10, 11
SET_VRING_KICK, SET_VRING_CALL = 12, 13
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, SET_VRING_ENABLE, GET_CONFIG = 15, 16, 18, 24
F_PROTOCOL_FEATURES = 1 << 30
PROTOCOL_REPLY_ACK, PROTOCOL_CONFIG = 1 << 3, 1 << 9
_VERSION, _REPLY, _NEED_REPLY = 1, 1 << 2, 1 << 3
_HEADER = struct.Struct("<III")
_CONFIG = 60
"""Bytes of the configuration that every version has: QEMU answers nothing where more is asked for than it knows."""


class BackEndError(Exception):
    """The other process went away, or refused a message."""


class FrontEnd:
    """One block device behind a socket. The memory is one region: guest physical and user addresses are offsets."""

    def __init__(self, path: str | Path, file: int, size: int, features: int) -> None:
        """file: of the memory, of so many bytes; the other process maps all of it. features: those wanted; `features`
        are what both have."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        self._events: list[int] = []
        self._acknowledges = False
        offered = self._ask(GET_FEATURES)
        self.features = offered & features
        self.protocol = 0
        if offered & F_PROTOCOL_FEATURES:
            self.protocol = self._ask(GET_PROTOCOL_FEATURES) & (PROTOCOL_REPLY_ACK | PROTOCOL_CONFIG)
            self._tell(SET_PROTOCOL_FEATURES, struct.pack("<Q", self.protocol))
            self._acknowledges = bool(self.protocol & PROTOCOL_REPLY_ACK)
        self._tell(SET_OWNER)
        self._tell(SET_FEATURES, struct.pack("<Q", self.features | offered & F_PROTOCOL_FEATURES))
        self._tell(SET_MEM_TABLE, struct.pack("<IIQQQQ", 1, 0, 0, size, 0, 0), file)

    def config(self) -> Any:
        """The device's struct virtio_blk_config."""
        self._send(GET_CONFIG, struct.pack("<III", 0, _CONFIG, 0) + bytes(_CONFIG), 0)
        return np.frombuffer(
            self._receive(GET_CONFIG)[12:].ljust(virtio_blk_config.itemsize, b"\0"), virtio_blk_config
        )[0]

    def start(self, index: int, ring: Ring, done: int = 0) -> "Queue":
        """Let the device serve this ring, of which so many chains are done."""
        queue = Queue(os.eventfd(0, os.EFD_CLOEXEC), os.eventfd(0, os.EFD_CLOEXEC))
        self._events += queue.fds
        self._tell(SET_VRING_NUM, struct.pack("<II", index, ring.size))
        self._tell(SET_VRING_ADDR, struct.pack("<IIQQQQ", index, 0, ring.desc, ring.used, ring.avail, 0))
        self._tell(SET_VRING_BASE, struct.pack("<II", index, done))
        self._tell(SET_VRING_CALL, struct.pack("<Q", index), queue.fds[1])
        self._tell(SET_VRING_KICK, struct.pack("<Q", index), queue.fds[0])
        if self.protocol:
            self._tell(SET_VRING_ENABLE, struct.pack("<II", index, 1))
        return queue

    def stop(self, index: int) -> int:
        """Nothing of the ring is in flight afterwards; how many chains are done, modulo 2^16."""
        self._send(GET_VRING_BASE, struct.pack("<II", index, 0), 0)
        return int(struct.unpack("<II", self._receive(GET_VRING_BASE))[1])

    def close(self) -> None:
        self._socket.close()
        while self._events:
            os.close(self._events.pop())

    def _ask(self, request: int) -> int:
        self._send(request, b"", 0)
        return int(struct.unpack("<Q", self._receive(request))[0])

    def _tell(self, request: int, payload: bytes = b"", *fds: int) -> None:
        """A message without an answer, of which the other side says that it took it, where it can."""
        self._send(request, payload, _NEED_REPLY if self._acknowledges else 0, *fds)
        if self._acknowledges and (code := struct.unpack("<Q", self._receive(request))[0]):
            raise BackEndError(f"request {request} was refused: {code}")

    def _send(self, request: int, payload: bytes, flags: int, *fds: int) -> None:
        message = _HEADER.pack(request, _VERSION | flags, len(payload)) + payload
        socket.send_fds(self._socket, [message], list(fds))

    def _receive(self, request: int) -> bytes:
        answered, flags, size = _HEADER.unpack(self._exactly(_HEADER.size))
        if answered != request or not flags & _REPLY:
            raise BackEndError(f"request {request} was answered by {answered}, flags {flags:#x}")
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = self._socket.recv(size, socket.MSG_WAITALL) if size else b""
        if len(data) < size:
            raise BackEndError("the other process has gone away")
        return data


class Queue:
    """The two eventfds of a ring."""

    def __init__(self, kick: int, call: int) -> None:
        self.fds = kick, call

    def kick(self) -> None:
        """Tell the device that chains are available."""
        os.eventfd_write(self.fds[0], 1)

    def wait(self) -> None:
        """Until the device called since the last time. (The other process may have made the eventfd non-blocking.)"""
        select.select([self.fds[1]], [], [])
        os.eventfd_read(self.fds[1])


@contextlib.contextmanager
def storage_daemon(file: Path, direct: bool, aio: str = "io_uring", patience: float = 10.0) -> Iterator[Path]:
    """QEMU's storage daemon with a raw file; the socket of its vhost-user-blk export."""
    with tempfile.TemporaryDirectory(prefix="vhost-user-") as place:
        path = Path(place) / "socket"
        cache = f"cache.direct={'on' if direct else 'off'},aio={aio if direct or aio != 'native' else 'threads'}"
        daemon = subprocess.Popen(
            ["qemu-storage-daemon", "--blockdev", f"driver=file,node-name=disk,filename={file},{cache}", "--export",
             f"vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path={path},writable=on"],
            stderr=subprocess.PIPE, text=True)  # fmt: skip
        try:
            end = time.monotonic() + patience
            while not path.exists():
                if daemon.poll() is not None or time.monotonic() > end:
                    daemon.kill()
                    raise BackEndError(f"qemu-storage-daemon: {daemon.communicate()[1].strip() or 'no socket in time'}")
                time.sleep(0.01)
            yield path
        finally:
            daemon.terminate()
            daemon.communicate()


def installed() -> bool:
    return shutil.which("qemu-storage-daemon") is not None
