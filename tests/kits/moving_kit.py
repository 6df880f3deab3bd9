"""Migrations between two memories of this process, over a wire that can be cut, changed and made to repeat itself."""

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from kept_kit import content, kept
from pagewarden.keep.moving.destination import Arrival, receive
from pagewarden.keep.moving.source import Departure, InDoubt
from pagewarden.keep.moving.tickets import Tickets
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory
from pagewarden.vocab import PagewardenError

PAGES = 70
KEY = bytes(range(32))
STATE = b"registers and rings"
SHARED = PageRange(4, 6)


class Wire:
    """A socket whose sent bytes go through `change`: it gives what really goes; None: the wire is cut there."""

    def __init__(self, behind: socket.socket, change: Callable[[int, bytes], bytes | None] | None = None) -> None:
        self._behind, self._change = behind, change
        self.sends: list[int] = []
        """Bytes that had been sent before each record, the hello first."""
        self.bytes = 0

    def sendall(self, data: Any) -> None:
        data = bytes(data)
        self.sends.append(self.bytes)
        gone = data if self._change is None else self._change(self.bytes, data)
        self.bytes += len(data)
        if gone is None:
            raise ConnectionResetError
        self._behind.sendall(gone)

    def recv_into(self, target: memoryview) -> int:
        return self._behind.recv_into(target)

    def settimeout(self, patience: float) -> None:
        self._behind.settimeout(patience)

    def shutdown(self, how: int) -> None:
        self._behind.shutdown(how)

    def close(self) -> None:
        self._behind.close()


def cut_at(place: int, behind: socket.socket) -> Wire:
    def cut(before: int, data: bytes) -> bytes | None:
        if before + len(data) <= place:
            return data
        behind.sendall(data[: max(place - before, 0)])
        behind.shutdown(socket.SHUT_RDWR)
        return None

    return Wire(behind, cut)


def flipped_at(place: int, behind: socket.socket) -> Wire:
    def flip(before: int, data: bytes) -> bytes:
        if not before <= place < before + len(data):
            return data
        changed = bytearray(data)
        changed[place - before] ^= 1
        return bytes(changed)

    return Wire(behind, flip)


def heard(seen: bytearray, behind: socket.socket) -> Wire:
    """Everything that is sent is in `seen` as well."""

    def listen(before: int, data: bytes) -> bytes:
        seen.extend(data)
        return data

    return Wire(behind, listen)


def feed(near: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        near.sendall(data)


def no_memory(size: int) -> PrivateMemory:
    raise AssertionError(size)


def a_memory(pages: int = PAGES, kept_in: Path | None = None, limit: int | None = None) -> PrivateMemory:
    """Filled but for its last pages, some shared, one written by the host; under a limit, in pages, if there is one."""
    memory: PrivateMemory
    if limit is None or kept_in is None:
        memory = PrivateMemory(pages * PAGE_SIZE, "uffd-window")
    else:
        memory = kept(kept_in, pages, limit=limit * PAGE_SIZE)
    memory.populate(0, b"".join(map(content, range(pages - 4))))
    memory.share(SHARED)
    memory.window.write(5 * PAGE_SIZE, b"host")
    return memory


class Move:
    """One migration; afterwards one side has everything, whatever happened to the wire."""

    def __init__(
        self, memory: PrivateMemory, tickets: Tickets,
        out: Callable[[socket.socket], Any] = Wire, back: Callable[[socket.socket], Any] = Wire,
        stop: Callable[[], bytes] = lambda: STATE, **options: Any,
    ) -> None:  # fmt: skip
        self.memory, self.tickets, self.key = memory, tickets, options.pop("key", KEY)
        self.make = options.pop("make", lambda size: PrivateMemory(size, "uffd-window"))
        self.ready = options.pop("ready", lambda memory, state: None)
        self.departure = Departure(memory, KEY, patience=5, **options)
        self.arrival: Arrival | None = None
        self.error: Exception | None = None
        self.other_error: Exception | None = None
        self.running = True
        near, far = socket.socketpair()
        self.out, self.back = out(near), back(far)
        with near, far:
            thread = threading.Thread(target=self._receive, args=(self.back, far))
            thread.start()
            try:
                self.departure.send(self.out, lambda: self._stopped(stop), self._goes_on)
            except PagewardenError as error:
                self.error = error
            finally:
                near.shutdown(socket.SHUT_RDWR)
                thread.join()

    def _stopped(self, stop: Callable[[], bytes]) -> bytes:
        self.running = False
        return stop()

    def _goes_on(self) -> None:
        assert not self.running
        self.running = True

    def _receive(self, wire: Any, far: socket.socket) -> None:
        try:
            self.arrival = receive(wire, self.key, self.tickets, self.make, self.ready, patience=5)
        except PagewardenError as error:
            self.other_error = error
        far.shutdown(socket.SHUT_RDWR)

    def settle(self) -> bool:
        """Ask the tickets, as often as it takes, by a good wire."""
        assert isinstance(self.error, InDoubt) and self.departure.in_doubt and not self.running
        return asked(self.departure, self.tickets)

    def judge(self, before: bytes) -> bool:
        """One side has everything, the other nothing; True: the destination."""
        if self.departure.in_doubt and not self.settle():
            self._goes_on()
        here, there = not self.departure.gone, self.arrival is not None
        assert here != there, (self.error, self.other_error)
        assert here == self.running
        if self.arrival is not None:
            moved = self.arrival.memory
            with moved:
                assert moved.private_read(0, moved.size) == before and self.arrival.state == STATE
                assert [*moved.shared_runs()] == [SHARED]
            assert not any(_file(self.memory))
            return True
        assert self.memory.private_read(0, self.memory.size) == before
        assert [*self.memory.shared_runs()] == [SHARED] and self.memory.window.read(5 * PAGE_SIZE, 4) == b"host"
        return False


def asked(departure: Departure, tickets: Tickets) -> bool:
    near, far = socket.socketpair()
    with near, far:
        thread = threading.Thread(target=receive, args=(far, KEY, tickets, lambda size: None))
        thread.start()
        try:
            return departure.settle(near)
        finally:
            thread.join()


def _file(memory: PrivateMemory) -> bytes:
    return os.pread(memory._backing.file, memory.size, 0)


def tickets_in(folder: Path) -> Tickets:
    return Tickets(folder / "tickets")


def wires(tickets: Tickets) -> tuple[Wire, Wire]:
    with a_memory() as memory:
        before = memory.private_read(0, memory.size)  # whose holes are pages from now on
        move = Move(memory, tickets)
        assert move.judge(before)
        return move.out, move.back


def on_side(side: str, wire: Callable[[socket.socket], Wire]) -> dict[str, Any]:
    return {side: wire}
