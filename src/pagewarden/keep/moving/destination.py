"""The side that a VM comes to: it believes no length and no number that it has not checked."""

import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pagewarden.keep.moving import messages as say
from pagewarden.keep.moving.channel import Channel
from pagewarden.keep.moving.tickets import NEVER, TAKEN, TICKET, Tickets
from pagewarden.keep.seal import BATCH
from pagewarden.kernel.door import SIZE_MAX
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, Refused
from pagewarden.memory.conversions import runs_of
from pagewarden.vocab.runs import runs_of_pages

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass
class Arrival:
    """A VM that is here, and nowhere else."""

    memory: PrivateMemory
    state: bytes
    pages: int
    """Pages that came, some more than once."""
    interrupted: BaseException | None = None
    """What came while the VM was already this side's (Ctrl-C): it is here all the same, so it was not raised."""


MakesMemory: TypeAlias = Callable[[int], PrivateMemory]
GetsReady: TypeAlias = Callable[[PrivateMemory, bytes], object]


@dataclass
class Caller:
    """Who has the key, and what its first record says."""

    connection: socket.socket
    channel: Channel
    kind: int
    said: bytes

    def served(
        self, tickets: Tickets, make: MakesMemory, ready: GetsReady = lambda memory, state: None
    ) -> Arrival | None:
        """As of `receive`."""
        return _served(self.channel, self.kind, self.said, tickets, make, ready)


def introduced(connection: socket.socket, key: bytes, patience: float) -> Caller:
    """Wait for the first record of who has connected; Refused as of Channel."""
    channel = Channel(connection, key, calls=False, patience=patience)
    kind, _, said = channel.receive()
    return Caller(connection, channel, kind, bytes(said))


def receive(
    connection: socket.socket,
    key: bytes,
    tickets: Tickets,
    make: MakesMemory,
    ready: GetsReady = lambda memory, state: None,
    *,
    patience: float = 10.0,
) -> Arrival | None:
    """What a connection brings: a VM, or None for a source in doubt that asked and was answered. Who connects and is
    silent is waited for: `Callers` listens to many at once.

    make: the memory for so many bytes; what it raises of PagewardenError goes to the source as the reason, so it is the
    place for a limit. ready: everything is there, private and shared as it was: prepare CPUs and devices, and run
    nothing; what it raises keeps the VM at the source. When this returns the VM is this side's alone. Whatever is
    raised (Refused as of Channel and Tickets), the VM is not here and never will be by this ticket, and its memory is
    closed; where that could not be said, the source asks.
    """
    return introduced(connection, key, patience).served(tickets, make, ready)


def _served(
    channel: Channel, kind: int, said: bytes, tickets: Tickets, make: MakesMemory, ready: GetsReady
) -> Arrival | None:
    if kind == say.ASK and len(said) == 2 * TICKET:
        _answer(channel, tickets, said[:TICKET], said[TICKET:])
        return None
    if kind != say.OFFER or len(said) != TICKET + 8:
        raise _nonsense("the first record offers no VM and asks for none")
    ticket, size = said[:TICKET], int.from_bytes(said[TICKET:], "little")
    memory = arrival = None
    try:
        if not 0 < size <= SIZE_MAX or size % PAGE_SIZE:
            raise _nonsense(f"a memory of {size} bytes is offered")
        memory = make(size)
        channel.send(say.ACCEPT, 0, tickets.name)
        arrival = _Coming(channel, memory, ticket).all()
        ready(memory, arrival.state)
        if tickets.decide(ticket, TAKEN) != TAKEN:
            raise Refused(errno.ESTALE, "the source has asked meanwhile, and was told that the VM is not taken")
        channel.send(say.TAKEN, 0, ticket)
    except BaseException as error:
        word = NEVER
        with suppress(Refused):
            word = tickets.decide(ticket, NEVER)
        if arrival is not None and word == TAKEN:  # whether the source has heard, or asks
            arrival.interrupted = None if isinstance(error, Refused) else error
            return arrival
        if memory is not None:
            memory.close()
        with suppress(Refused):  # the source is gone as well, or asks
            channel.send(say.NO, 0, (str(error) or type(error).__name__).encode()[:500])
        raise
    finally:
        channel.wipe()
    return arrival


def _answer(channel: Channel, tickets: Tickets, ticket: bytes, name: bytes) -> None:
    if name != tickets.name:
        channel.send(say.ASK)
        raise Refused(
            errno.ESTALE, "a source asks for a ticket of another destination: start this one with its tickets"
        )
    word = tickets.decide(ticket, NEVER)
    channel.send(say.TAKEN if word == TAKEN else say.NO, 0, ticket)


class _Coming:
    """A memory that fills."""

    def __init__(self, channel: Channel, memory: PrivateMemory, ticket: bytes) -> None:
        self._channel, self._memory, self._ticket = channel, memory, ticket
        self._total = memory.size // PAGE_SIZE
        self._bits = -(-self._total // 8)
        self._rest = bytearray()
        self._pages = 0

    def all(self) -> Arrival:
        while True:
            kind, count, said = self._channel.receive()
            if kind == say.PAGES:
                self._put(self._numbers(said, count, PAGE_SIZE), said[8 * count :])
            elif kind == say.ZEROES:
                pages = self._numbers(said, count, 0)
                for first, stop in runs_of_pages(pages):
                    self._memory.punch(PageRange(int(pages[first]), int(pages[first]) + stop - first))
            elif kind == say.ROUND and not said:
                self._channel.send(say.ROUND)
            elif kind == say.REST and len(self._rest) + len(said) <= self._bits + say.MOST_STATE:
                self._rest += said
            elif kind == say.LAST and bytes(said) == self._ticket and len(self._rest) >= self._bits:
                return self._whole()
            else:
                raise _nonsense(f"a record of kind {kind} with {len(said)} bytes comes where it cannot")

    def _numbers(self, said: memoryview, count: int, each: int) -> "NDArray[np.int64]":
        """Ascending page numbers of the memory, at most BATCH."""
        if not 0 < count <= BATCH or len(said) != count * (8 + each):
            raise _nonsense(f"{len(said)} bytes come for {count} pages")
        pages = np.frombuffer(bytes(said[: 8 * count]), "<i8").astype(np.int64)
        if pages[0] < 0 or pages[-1] >= self._total or (np.diff(pages) <= 0).any():
            raise _nonsense(f"pages come that a memory of {self._total} has not, or not in order")
        return pages

    def _put(self, pages: "NDArray[np.int64]", data: memoryview) -> None:
        for first, stop in runs_of_pages(pages):
            self._memory.private_write(int(pages[first]) * PAGE_SIZE, data[first * PAGE_SIZE : stop * PAGE_SIZE])
        self._pages += len(pages)

    def _whole(self) -> Arrival:
        shared = np.unpackbits(np.frombuffer(self._rest, np.uint8, self._bits), count=self._total).tobytes()
        for start, stop in runs_of(shared, 0, self._total, 1):
            self._memory.share(PageRange(start, stop))
        return Arrival(self._memory, bytes(self._rest[self._bits :]), self._pages)


def _nonsense(what: str) -> Refused:
    return Refused(errno.EPROTO, f"{what}: this is no migration that this version knows")
