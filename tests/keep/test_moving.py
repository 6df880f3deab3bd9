"""A VM's memory goes to another process: whole, or not at all, whatever happens to the wire and to either side."""

import errno
import os
import random
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kept_kit import content, guest_reads, guest_writes, kept
from moving_kit import (
    KEY,
    PAGES,
    SHARED,
    STATE,
    Move,
    Wire,
    a_memory,
    cut_at,
    feed,
    flipped_at,
    heard,
    no_memory,
    on_side,
    wires,
)
from pagewarden.keep.moving import source
from pagewarden.keep.moving.destination import receive
from pagewarden.keep.moving.source import InDoubt
from pagewarden.keep.moving.tickets import Tickets
from pagewarden.keep.moving.writes import FollowedWrites
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, Refused, UserMistake


def test_everything_arrives_and_nothing_stays(memory: PrivateMemory, before: bytes, tickets: Tickets) -> None:
    move = Move(memory, tickets)
    assert move.error is None and move.judge(before)
    assert move.departure.pages < 2 * PAGES and move.departure.downtime > 0
    with pytest.raises(Refused) as refusal:
        memory.share(PageRange(0, 1))
    assert refusal.value.errno == errno.ESTALE and os.fstat(memory._backing.file).st_blocks == 0


def test_nothing_of_it_can_be_read_on_the_wire(memory: PrivateMemory, tickets: Tickets, before: bytes) -> None:
    seen = bytearray()
    assert Move(memory, tickets, partial(heard, seen)).judge(before)
    assert len(seen) > PAGES // 2 * PAGE_SIZE
    assert not any(content(page)[:16] in seen for page in range(PAGES)) and STATE not in seen


@pytest.mark.parametrize("side", ["out", "back"])
def test_cut_anywhere_one_side_has_everything(tickets: Tickets, side: str) -> None:
    """At every border of a message, a byte before and after it, and at drawn bytes."""
    wire = wires(tickets)[side == "back"]
    draw = random.Random(7)
    places = {at + more for at in (*wire.sends, wire.bytes) for more in (-1, 0, 1)} - {-1, wire.bytes + 1}
    places |= {draw.randrange(wire.bytes) for _ in range(100 if os.environ.get("PAGEWARDEN_LONG") == "1" else 10)}
    moved = {place: _cut(tickets, side, place) for place in sorted(places)}
    assert moved[wire.bytes] and not moved[0]
    if side == "out":  # the last record decides, whole or not
        assert [place for place, there in moved.items() if there] == [wire.bytes]
    else:  # it was taken before the last record of the destination
        assert [place for place, there in moved.items() if there] == [
            at for at in sorted(places) if at >= wire.sends[-1]
        ]


def _cut(tickets: Tickets, side: str, place: int) -> bool:
    with a_memory() as memory:
        before = memory.private_read(0, memory.size)
        return Move(memory, tickets, **on_side(side, lambda end: cut_at(place, end))).judge(before)


@pytest.mark.parametrize("side", ["out", "back"])
def test_a_changed_byte_is_seen_wherever_it_is(tickets: Tickets, side: str) -> None:
    wire = wires(tickets)[side == "back"]
    for start, end in zip(wire.sends, [*wire.sends[1:], wire.bytes], strict=True):
        for place in {start, start + 5, (start + end) // 2, end - 1}:
            with a_memory() as memory:
                before = memory.private_read(0, memory.size)
                move = Move(memory, tickets, **on_side(side, partial(flipped_at, place)))
                moved = move.judge(before)
                assert move.error is not None
                assert moved == (side == "back" and start == wire.sends[-1])


def _again(near: socket.socket, which: int, what: str) -> Wire:
    kept_back: list[bytes] = []

    def change(at: int, data: bytes) -> bytes:
        number = len(wire.sends) - 1
        if number == which:
            kept_back.append(data)
            return {"twice": data + data, "left out": b"", "exchanged": b""}[what]
        return data + kept_back.pop() if what == "exchanged" and kept_back and number == which + 1 else data

    wire = Wire(near, change)
    return wire


@pytest.mark.parametrize("what", ["twice", "left out", "exchanged"])
@pytest.mark.parametrize("which", [2, 3])
def test_records_in_another_order_are_refused(
    memory: PrivateMemory, before: bytes, tickets: Tickets, what: str, which: int
) -> None:
    make = lambda size: PrivateMemory(size, "uffd-window")  # noqa: E731
    move = Move(memory, tickets, lambda near: _again(near, which, what), make=make)
    assert not move.judge(before)


def test_a_recorded_connection_is_nothing_to_another(memory: PrivateMemory, before: bytes, tickets: Tickets) -> None:
    recorded = bytearray()
    assert Move(memory, tickets, partial(heard, recorded)).judge(before)
    near, far = socket.socketpair()
    with near, far:
        feeder = threading.Thread(target=feed, args=(near, bytes(recorded)))
        feeder.start()
        with pytest.raises(Refused) as refusal:
            receive(far, KEY, tickets, no_memory, patience=5)
        assert refusal.value.errno == errno.EBADMSG
        far.shutdown(socket.SHUT_RDWR)
        feeder.join()


@pytest.mark.parametrize("limit", [None, PAGES, 16])
def test_what_is_written_and_converted_meanwhile_arrives(tickets: Tickets, tmp_path: Path, limit: int | None) -> None:
    """A guest that writes all the time, and shares a page that the host writes, and takes it back; the pages of a kept
    one come and go as well."""
    with a_memory(kept_in=tmp_path / "swap", limit=limit) as memory:
        if limit is None and (why := _not_followed(memory)):
            pytest.skip(why)
        end, wrote = threading.Event(), threading.Semaphore(0)

        def guest() -> None:
            turn = 0
            while not end.is_set():
                turn += 1
                guest_writes(memory, turn % 50 + 10, turn.to_bytes(8, "little"))
                assert guest_reads(memory, turn % 45 + 12)
                memory.private_write((turn % 9 + 61) * PAGE_SIZE, turn.to_bytes(8, "little"))
                memory.share(PageRange(9, 10))
                memory.window.write(9 * PAGE_SIZE + turn % 500 * 8, turn.to_bytes(8, "little"))
                memory.unshare(PageRange(9, 10))
                if turn % 7 == 0:
                    memory.punch(PageRange(60, 61))
                    guest_writes(memory, 60, b"again") if turn % 2 else None
                wrote.release()

        thread = threading.Thread(target=guest)
        thread.start()
        at_the_end: list[bytes] = []

        def stop() -> bytes:
            end.set()
            thread.join()
            at_the_end.append(memory.private_read(0, memory.size))
            return STATE

        def busy(at: int, data: bytes) -> bytes:
            for _ in range(3):
                wrote.acquire()
            return data

        move = Move(memory, tickets, lambda near: Wire(near, None if end.is_set() else _while(end, busy)), stop=stop)
        assert move.departure.rounds > 1 and not move.departure.not_followed
        assert move.judge(at_the_end[0])


def _while(end: threading.Event, busy: Callable[[int, bytes], bytes]) -> Callable[[int, bytes], bytes]:
    return lambda at, data: data if end.is_set() else busy(at, data)


def _not_followed(memory: PrivateMemory) -> str:
    from pagewarden.kernel.written import WrittenPages
    from pagewarden.vocab import Unavailable

    try:
        WrittenPages(memory.guest_address, memory.size).close()
    except Unavailable as lacking:
        return str(lacking)
    return ""


def test_where_writes_cannot_be_followed_the_guest_stops_first(
    memory: PrivateMemory, before: bytes, tickets: Tickets, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pagewarden.vocab import Unavailable

    def lacks(*_: object) -> None:
        raise Unavailable("PAGEMAP_SCAN", "a newer kernel")

    monkeypatch.setattr("pagewarden.keep.moving.writes.WrittenPages", lacks)
    move = Move(memory, tickets)
    assert move.judge(before) and (move.departure.rounds, move.departure.not_followed[:12]) == (1, "PAGEMAP_SCAN")


@pytest.mark.parametrize("longest", [0.0, 60.0])
def test_a_guest_that_writes_faster_than_pages_go(
    memory: PrivateMemory, before: bytes, tickets: Tickets, monkeypatch: pytest.MonkeyPatch, longest: float
) -> None:
    """It stays and runs on where it would stand for too long, and else stops once copies gain nothing."""
    if why := _not_followed(memory):
        pytest.skip(why)
    monkeypatch.setattr(source, "BATCH", 8)
    monkeypatch.setattr(source, "AIM", 0.0)
    monkeypatch.setattr(FollowedWrites, "taken", lambda _, changed: changed | True)
    move = Move(memory, tickets, longest=longest)
    assert move.departure.rounds == source.IN_VAIN + 1 + (longest > 0)
    if longest == 0:
        assert isinstance(move.error, Refused) and move.error.errno == errno.ETIME and "may for 0 s" in str(move.error)
    assert move.judge(before) == (longest > 0)


def test_a_page_in_use_keeps_the_vm_here(memory: PrivateMemory, before: bytes, tickets: Tickets) -> None:
    with memory.hold(PageRange(5, 6)):
        move = Move(memory, tickets)
        assert isinstance(move.error, Refused) and not isinstance(move.error, InDoubt)
        assert (move.error.errno, move.error.offset) == (errno.EBUSY, 5 * PAGE_SIZE) and "[5, 6)" in str(move.error)
    assert not move.judge(before)
    assert Move(memory, tickets).judge(before)  # and later it goes


def test_kept_memories_move_with_what_is_away(tickets: Tickets, tmp_path: Path) -> None:
    with kept(tmp_path / "swap", PAGES, limit=16 * PAGE_SIZE) as memory:
        memory.populate(0, b"".join(map(content, range(PAGES - 4))))
        memory.share(SHARED)
        memory.window.write(5 * PAGE_SIZE, b"host")
        before = memory.private_read(0, memory.size)
        assert memory.swapped
        move = Move(memory, tickets, make=lambda size: kept(tmp_path / "other", PAGES, limit=16 * PAGE_SIZE))
        assert move.judge(before)


def test_what_the_destination_cannot_make_ready_stays(memory: PrivateMemory, before: bytes, tickets: Tickets) -> None:
    def fails(*_: object) -> None:
        raise Refused(errno.ENOMEM, "no room\x1b[2J")

    for what in ("make", "ready"):
        options: dict[str, Any] = {what: fails}
        move = Move(memory, tickets, **options)
        assert "no room" in str(move.error) and "\x1b" not in str(move.error)
        assert not move.departure.in_doubt and not move.judge(before)


def test_another_key_moves_nothing(memory: PrivateMemory, before: bytes, tickets: Tickets) -> None:
    move = Move(memory, tickets, key=bytes(32), make=no_memory)
    assert not move.judge(before)
    assert isinstance(Move(memory, tickets, key=b"short").other_error, UserMistake)
