"""A front end that sends anything: no crash, nothing left open. A million messages with `make fuzz-serve`."""

import gc
import os
import random
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from leftovers import descriptors
from pagewarden.abi import vhost_user as abi
from pagewarden.abi.vhost_user import FrontRequest as Ask
from pagewarden.kernel.door import memfd
from served_rig import ServerThread

MESSAGES = int(os.environ.get("PAGEWARDEN_FUZZ", "3000"))
SIZE = 1 << 20
EDGES = (0, 1, 2, 4095, 4096, 8192, SIZE, SIZE - 4096, 1 << 31, 1 << 42, 1 << 63, (1 << 64) - 1, 0xFFFF, 1 << 30)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerThread]:
    (tmp_path / "disk").write_bytes(bytes(1 << 16))
    with closing(ServerThread(tmp_path / "disk", queues=2)) as made:
        yield made


class Fuzz:
    """Messages from a seed: half of them well formed for their request, of numbers at the edges."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.memory = memfd("fuzz", SIZE)
        self.file, self.event, self.other = self.memory.fd, os.eventfd(0), os.open("/dev/null", os.O_RDWR)

    def number(self) -> int:
        return self.random.choice(EDGES) if self.random.random() < 0.7 else self.random.getrandbits(64)

    def prelude(self) -> Iterator[tuple[bytes, list[int]]]:
        """What makes a ring run, over memory of any content."""
        waiting = bytes(2) + self.random.randrange(20).to_bytes(2, "little")
        os.pwrite(self.file, self.random.randbytes(4096) + waiting + self.random.randbytes(64), 0)
        for request, payload, fds in (
            (Ask.SET_PROTOCOL_FEATURES, abi.U64.pack(1 << abi.ProtocolFeature.REPLY_ACK), []),
            (Ask.SET_FEATURES, abi.U64.pack(1 << 32), []),
            (Ask.SET_MEM_TABLE, abi.TABLE_HEAD.pack(1, 0) + abi.REGION.pack(0, SIZE, 1 << 30, 0), [self.file]),
            (Ask.SET_VRING_NUM, abi.VRING_STATE.pack(0, 16), []),
            (Ask.SET_VRING_ADDR, abi.VRING_ADDR.pack(0, 0, *(1 << 30 | n << 12 for n in range(3)), 0), []),
            (Ask.SET_VRING_KICK, abi.U64.pack(0), [self.event]),
        ):
            yield abi.HEADER.pack(request, abi.VERSION, len(payload)) + payload, fds

    def index(self) -> int:
        return self.random.choice((0, 0, 1, 1, 2, 255))

    def well_formed(self, request: Ask) -> bytes:
        pick = self.random.choice
        if request in (Ask.SET_VRING_NUM, Ask.SET_VRING_BASE, Ask.GET_VRING_BASE, Ask.SET_VRING_ENABLE):
            return abi.VRING_STATE.pack(self.index(), pick((0, 1, 16, 128, 256, self.number() & 0xFFFFFFFF)))
        if request is Ask.SET_VRING_ADDR:
            return abi.VRING_ADDR.pack(self.index(), pick((0, 0, 0, 1)), *(pick(EDGES) for _ in range(3)), 0)
        if request is Ask.SET_MEM_TABLE:
            count = pick((1, 1, 2, 8))
            return abi.TABLE_HEAD.pack(count, 0) + b"".join(self.region() for _ in range(count))
        if request in (Ask.ADD_MEM_REG, Ask.REM_MEM_REG):
            return bytes(8) + self.region()
        if request in (Ask.SET_VRING_KICK, Ask.SET_VRING_CALL, Ask.SET_VRING_ERR):
            return abi.U64.pack(pick((0, 1, 256, 257, self.number())))
        if request in (Ask.GET_CONFIG, Ask.SET_CONFIG):
            size = pick((1, 60, 256))
            return abi.CONFIG_HEAD.pack(pick((0, 0, 200, 1 << 31)), size, 0) + bytes(size)
        if request is Ask.SET_FEATURES:
            return abi.U64.pack(pick((1 << 32, 1 << 32 | 1 << 30, 1 << 33 | 1 << 32, self.number())))
        if request in (Ask.GET_INFLIGHT_FD, Ask.SET_INFLIGHT_FD):
            return abi.INFLIGHT.pack(pick((0, 4096)), 0, pick((0, 1, 2, 9)), pick((0, 128, 9999)))
        return b"" if self.random.random() < 0.6 else abi.U64.pack(pick((0, 7, 8, self.number())))

    def region(self) -> bytes:
        pick = self.random.choice
        return abi.REGION.pack(pick(EDGES), pick(EDGES[3:8]), pick(EDGES), pick((0, 0, 4096, self.number())))

    def message(self) -> tuple[bytes, list[int]]:
        request = self.random.choice(list(Ask))
        payload = self.well_formed(request)
        fds = [self.file] * (len(payload) // 32) if request is Ask.SET_MEM_TABLE else []
        if request in (Ask.SET_VRING_KICK, Ask.SET_VRING_CALL, Ask.ADD_MEM_REG):
            fds = [self.file if request is Ask.ADD_MEM_REG else self.event]
        number, flags, size = (
            int(request),
            abi.VERSION | (0 if self.random.random() < 0.02 else abi.NEED_REPLY),
            len(payload),
        )
        if self.random.random() < 0.06:
            match self.random.randrange(4):
                case 0:
                    number = self.random.getrandbits(32)
                case 1:
                    flags = self.random.getrandbits(32)
                case 2:
                    size = self.random.choice((size + 1, self.random.getrandbits(32)))
                case 3:
                    fds = [self.random.choice((self.file, self.event, self.other))] * self.random.randrange(12)
        return abi.HEADER.pack(number, flags, size) + payload, fds

    def close(self) -> None:
        self.memory.close()
        os.close(self.event)
        os.close(self.other)


def connection_of(fuzz: Fuzz, connection: socket.socket) -> int:
    """Send until the other side has had enough; how many messages."""
    connection.setblocking(False)
    sent = 0
    with suppress(ConnectionError):
        for data, fds in fuzz.prelude():
            socket.send_fds(connection, [data], fds)
        while sent < 400:
            data, fds = fuzz.message()
            with suppress(BlockingIOError):
                socket.send_fds(connection, [data], fds)
                sent += 1
            with suppress(BlockingIOError):
                if not connection.recv(1 << 16):
                    return sent
        connection.shutdown(socket.SHUT_WR)
        connection.setblocking(True)
        while connection.recv(1 << 16):
            pass
    return sent


def test_nothing_that_a_front_end_sends_is_our_fault(server: ServerThread) -> None:
    sent = connections = 0
    seed = int(os.environ.get("PAGEWARDEN_SEED", "1"))
    with closing(Fuzz(seed)) as fuzz:
        gc.collect()
        open_before = descriptors(sweep=True)
        while sent < MESSAGES:
            with server.connected() as connection:
                sent += connection_of(fuzz, connection)
            connections += 1
            assert not server.regions.parts
            assert server.ended is None, server.ended
            del server.said[:]
        assert descriptors() <= open_before + 8, "descriptors of views"
        assert server.counts.open_now == 0
    assert connections > 1 and server.counts.pages_opened and server.counts.refused, "it came to no region, or no ring"
    with closing(Fuzz(seed)) as fuzz:
        kinds = {fuzz.message()[0][:4] for _ in range(MESSAGES)}
    assert len(kinds) >= len(Ask), "not every request was sent"
