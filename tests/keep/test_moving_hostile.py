"""What a migration's other side may say that is wrong: it moves nothing, and nobody believes it."""

import errno
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from moving_kit import KEY, PAGES, STATE, a_memory, no_memory
from pagewarden.keep.moving import Callers
from pagewarden.keep.moving import messages as say
from pagewarden.keep.moving.callers import MOST as MOST_CALLERS
from pagewarden.keep.moving.channel import HEAD, MAGIC, Channel
from pagewarden.keep.moving.channel import KEY as KEY_BYTES
from pagewarden.keep.moving.destination import Arrival, receive
from pagewarden.keep.moving.source import Departure
from pagewarden.keep.moving.tickets import Tickets
from pagewarden.kernel.listening import connected, listening_at
from pagewarden.memory import PAGE_SIZE, PrivateMemory, Refused


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" * 64, MAGIC[:-1] + b"9" + b"\1" * 48, MAGIC + bytes(48), MAGIC + b"\1" * 47,
        MAGIC + b"\1" * 48 + b"\xff" * 4, MAGIC + b"\1" * 48 + bytes(4), MAGIC + b"\1" * 48 + b"\0\0\0\x40" + bytes(64),
    ],
    ids=lambda data: f"{len(data)} bytes",
)  # fmt: skip
def test_who_has_no_key_is_refused_before_anything_is_made(tickets: Tickets, data: bytes) -> None:
    near, far = socket.socketpair()
    with near, far:
        near.sendall(data)
        near.shutdown(socket.SHUT_WR)
        with pytest.raises(Refused) as refusal:
            receive(far, KEY, tickets, no_memory, patience=5)
        assert refusal.value.errno in (errno.EPROTO, errno.EBADMSG, errno.ECONNRESET)


TICKET = b"t" * 16


def _numbers(*pages: int) -> bytes:
    return b"".join(page.to_bytes(8, "little", signed=True) for page in pages)


OFFER = (say.OFFER, 0, TICKET + (PAGES * PAGE_SIZE).to_bytes(8, "little"))


@pytest.mark.parametrize(
    "records",
    [
        [(say.PAGES, 1, _numbers(0) + bytes(PAGE_SIZE))],
        [(say.OFFER, 0, TICKET)],
        [(say.ASK, 0, TICKET)],
        *([(say.OFFER, 0, TICKET + size.to_bytes(8, "little"))] for size in (0, 5, (1 << 64) - PAGE_SIZE, 1 << 63)),
        *(
            [OFFER, record]
            for record in (
                OFFER, (say.PAGES, 0, b""), (say.PAGES, 1, _numbers(0)), (say.PAGES, 1 << 31, _numbers(0)),
                (say.PAGES, 1, _numbers(PAGES) + bytes(PAGE_SIZE)), (say.PAGES, 1, _numbers(-1) + bytes(PAGE_SIZE)),
                (say.PAGES, 2, _numbers(3, 3) + bytes(2 * PAGE_SIZE)), (say.ZEROES, 2, _numbers(3, 1)),
                (say.ZEROES, 1, _numbers(1 << 62)), (say.ZEROES, 65, _numbers(*range(65))), (say.ROUND, 0, b"x"),
                (say.LAST, 0, TICKET), (say.LAST, 0, b"u" * 16), (99, 0, b""), (say.REST, 0, bytes(150)),
            )
        ),
        [OFFER, (say.REST, 0, bytes(9)), (say.LAST, 0, b"u" * 16)],
    ],
)  # fmt: skip
def test_nonsense_of_who_has_the_key_is_refused(
    tickets: Tickets, records: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(say, "MOST_STATE", 100)
    near, far = socket.socketpair()
    before = len(os.listdir("/proc/self/fd"))

    def talk() -> None:
        with suppress(Refused):
            channel = Channel(near, KEY, calls=True, patience=5)
            for record in records:
                channel.send(*record)
                if record[0] == say.OFFER and len(record[2]) > len(TICKET):
                    channel.receive()

    with near, far:
        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(Refused) as refusal:
            receive(far, KEY, tickets, lambda size: PrivateMemory(size, "uffd-window"), patience=5)
        thread.join()
        assert refusal.value.errno == errno.EPROTO
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("answers", "doubt"),
    [
        ([(say.TAKEN, 0, TICKET)], False),
        ([(say.NO, 0, b"\xff\x00no")], False),
        ([(say.ACCEPT, 0, b"")], False),
        ([(say.ACCEPT, 0, TICKET), (say.ROUND, 0), (say.TAKEN, 0, b"u" * 16)], True),
        ([(say.ACCEPT, 0, TICKET), (say.ROUND, 0), (77, 0)], True),
    ],
)
def test_a_hostile_destination_gets_no_false_belief(
    memory: PrivateMemory, before: bytes, answers: list[tuple[Any, ...]], doubt: bool
) -> None:
    """Who has the key can lie that it took the VM: nobody else can. What makes no sense decides nothing."""
    near, far = socket.socketpair()

    def talk() -> None:
        with suppress(Refused):
            channel = Channel(far, KEY, calls=False, patience=5)
            for answer in answers:
                while channel.receive()[0] not in (say.OFFER, say.ROUND, say.LAST):
                    pass
                channel.send(*answer)
            far.shutdown(socket.SHUT_RDWR)

    with near, far:
        thread = threading.Thread(target=talk)
        thread.start()
        departure = Departure(memory, KEY, patience=5)
        with pytest.raises(Refused):
            departure.send(near, lambda: STATE, lambda: None)
        thread.join()
    assert departure.in_doubt == doubt and not departure.gone
    assert memory.private_read(0, memory.size) == before


def test_lengths_are_those_of_the_format() -> None:
    assert (KEY_BYTES, HEAD.size) == (32, 8)


def _hung_up(stranger: socket.socket) -> bool:
    try:
        while stranger.recv(1 << 10, socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        pass
    return True


def test_silent_strangers_hold_nobody_up(tickets: Tickets, tmp_path: Path) -> None:
    """As many as are listened to, and more, each silent where it can be without the key; then one comes that has it."""
    with listening_at(str(tmp_path / "socket")) as (listener, where), Callers(listener, KEY) as callers:
        strangers = [socket.socket(socket.AF_UNIX) for _ in range(MOST_CALLERS + 4)]
        for k, stranger in enumerate(strangers):
            stranger.connect(where)
            with suppress(OSError):
                stranger.sendall((MAGIC + b"\1" * 48)[: k * 5])
        with a_memory() as memory, connected(where, 10) as wire:
            before = memory.private_read(0, memory.size)
            arrivals: list[Arrival | None] = []

            def serves() -> None:
                caller = callers.next()
                assert caller is not None
                with caller.connection:
                    arrivals.append(caller.served(tickets, lambda size: PrivateMemory(size, "uffd-window")))

            thread = threading.Thread(target=serves)
            thread.start()
            Departure(memory, KEY).send(wire, lambda: b"", lambda: None)
            thread.join()
        heard = [k for k, stranger in enumerate(strangers) if not _hung_up(stranger)]
        assert heard == [*range(5, MOST_CALLERS + 4)]  # nobody waited for the end of their patience
        assert arrivals[0] is not None
        with arrivals[0].memory as there:
            assert there.private_read(0, there.size) == before
        for stranger in strangers:
            stranger.close()


def test_who_waits_for_a_caller_goes_on_when_there_is_none_any_more(tmp_path: Path) -> None:
    with listening_at(str(tmp_path / "socket")) as (listener, where):
        with Callers(listener, KEY) as callers, connected(where, 10):
            callers.stop()
            assert callers.next() is None
        with Callers(listener, KEY) as callers:
            listener.shutdown(socket.SHUT_RDWR)
            with pytest.raises(OSError):
                callers.next()
