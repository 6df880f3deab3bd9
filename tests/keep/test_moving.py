"""A VM's memory goes to another process: whole, or not at all, whatever happens to the wire and to either side."""

import errno
import os
import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kept_kit import content, guest_writes, kept
from moving_kit import (
    KEY,
    PAGES,
    SHARED,
    STATE,
    Move,
    Wire,
    a_memory,
    asked,
    cut_at,
    flipped_at,
    tickets_in,
)  # fmt: skip
from pagewarden.keep.moving import messages as say
from pagewarden.keep.moving.channel import HEAD, MAGIC, Channel
from pagewarden.keep.moving.channel import KEY as KEY_BYTES
from pagewarden.keep.moving.destination import receive
from pagewarden.keep.moving.source import Departure, InDoubt
from pagewarden.keep.moving.tickets import NEVER, TAKEN, Tickets
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, Refused, UserMistake
from pagewarden.vocab import PagewardenError


@pytest.fixture
def tickets(tmp_path: Path) -> Tickets:
    return tickets_in(tmp_path)


@pytest.fixture
def memory() -> Iterator[PrivateMemory]:
    with a_memory() as made:
        yield made


@pytest.fixture
def before(memory: PrivateMemory) -> bytes:
    return memory.private_read(0, memory.size)


def test_everything_arrives_and_nothing_stays(memory: PrivateMemory, before: bytes, tickets: Tickets) -> None:
    move = Move(memory, tickets)
    assert move.error is None and move.judge(before)
    assert move.departure.pages < 2 * PAGES and move.departure.downtime > 0
    with pytest.raises(Refused) as refusal:
        memory.share(PageRange(0, 1))
    assert refusal.value.errno == errno.ESTALE and os.fstat(memory._backing.file).st_blocks == 0


def test_nothing_of_it_can_be_read_on_the_wire(memory: PrivateMemory, tickets: Tickets, before: bytes) -> None:
    seen = bytearray()

    def listen(at: int, data: bytes) -> bytes:
        seen.extend(data)
        return data

    assert Move(memory, tickets, lambda near: Wire(near, listen)).judge(before)
    assert len(seen) > PAGES // 2 * PAGE_SIZE
    assert not any(content(page)[:16] in seen for page in range(PAGES)) and STATE not in seen


def _wires(tickets: Tickets) -> tuple[Wire, Wire]:
    with a_memory() as memory:
        before = memory.private_read(0, memory.size)  # whose holes are pages from now on
        move = Move(memory, tickets)
        assert move.judge(before)
        return move.out, move.back


@pytest.mark.parametrize("side", ["out", "back"])
def test_cut_anywhere_one_side_has_everything(tickets: Tickets, side: str) -> None:
    """At every border of a message, a byte before and after it, and at drawn bytes."""
    wire = _wires(tickets)[side == "back"]
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


def _on(side: str, wire: Callable[[socket.socket], Wire]) -> dict[str, Any]:
    return {side: wire}


def _cut(tickets: Tickets, side: str, place: int) -> bool:
    with a_memory() as memory:
        before = memory.private_read(0, memory.size)
        return Move(memory, tickets, **_on(side, lambda end: cut_at(place, end))).judge(before)


@pytest.mark.parametrize("side", ["out", "back"])
def test_a_changed_byte_is_seen_wherever_it_is(tickets: Tickets, side: str) -> None:
    wire = _wires(tickets)[side == "back"]
    for start, end in zip(wire.sends, [*wire.sends[1:], wire.bytes], strict=True):
        for place in {start, start + 5, (start + end) // 2, end - 1}:
            with a_memory() as memory:
                before = memory.private_read(0, memory.size)
                move = Move(memory, tickets, **_on(side, partial(flipped_at, place)))
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

    def listen(at: int, data: bytes) -> bytes:
        recorded.extend(data)
        return data

    assert Move(memory, tickets, lambda near: Wire(near, listen)).judge(before)
    near, far = socket.socketpair()
    with near, far:
        feeder = threading.Thread(target=_feed, args=(near, bytes(recorded)))
        feeder.start()
        with pytest.raises(Refused) as refusal:
            receive(far, KEY, tickets, _no_memory, patience=5)
        assert refusal.value.errno == errno.EBADMSG
        far.shutdown(socket.SHUT_RDWR)
        feeder.join()


def _feed(near: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        near.sendall(data)


def _no_memory(size: int) -> PrivateMemory:
    raise AssertionError(size)


# -- the guest runs meanwhile ------------------------------------------------------------------------------------------


def test_what_is_written_and_converted_meanwhile_arrives(tickets: Tickets) -> None:
    """A guest that writes all the time, and shares a page that the host writes, and takes it back."""
    with a_memory() as memory:
        if why := _not_followed(memory):
            pytest.skip(why)
        end, wrote = threading.Event(), threading.Semaphore(0)

        def guest() -> None:
            turn = 0
            while not end.is_set():
                turn += 1
                guest_writes(memory, turn % 50 + 10, turn.to_bytes(8, "little"))
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

    monkeypatch.setattr("pagewarden.keep.moving.source.WrittenPages", lacks)
    move = Move(memory, tickets)
    assert move.judge(before) and (move.departure.rounds, move.departure.not_followed[:12]) == (1, "PAGEMAP_SCAN")


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
    move = Move(memory, tickets, key=bytes(32), make=_no_memory)
    assert not move.judge(before)
    assert isinstance(Move(memory, tickets, key=b"short").other_error, UserMistake)


# -- the doubt ---------------------------------------------------------------------------------------------------------


def _in_doubt(memory: PrivateMemory, tickets: Tickets, arrives: bool) -> Move:
    """The last word of the source, or that of the destination, is lost."""
    out, back = _wires(tickets)
    side, place = ("back", back.sends[-1]) if arrives else ("out", out.sends[-1] + 9)
    move = Move(memory, tickets, **_on(side, partial(cut_at, place)))
    assert isinstance(move.error, InDoubt) and move.departure.in_doubt
    return move


def test_who_was_told_never_does_not_take_it_later(memory: PrivateMemory, tickets: Tickets) -> None:
    """The source asks while its last record is still on its way."""
    held = threading.Event()
    answers: list[bool] = []

    def slowly(arrived: PrivateMemory, state: bytes) -> None:
        held.wait(5)

    class Impatient(Departure):
        def _last(self, channel: Channel) -> None:
            channel.send(say.LAST, 0, self._ticket)
            answers.append(asked(self, tickets))
            held.set()
            raise InDoubt(errno.ECONNRESET, "it asked in between")

    near, far = socket.socketpair()
    errors: list[PagewardenError] = []

    def come() -> None:
        try:
            receive(far, KEY, tickets, lambda size: PrivateMemory(size, "uffd-window"), slowly, patience=5)
        except PagewardenError as error:
            errors.append(error)

    with near, far:
        thread = threading.Thread(target=come)
        thread.start()
        with pytest.raises(InDoubt):
            Impatient(memory, KEY).send(near, lambda: STATE, lambda: None)
        thread.join()
    assert answers == [False] and "told that the VM is not taken" in str(errors[0])


@pytest.mark.parametrize("where", ["decide", "send"])
def test_an_interrupt_behind_the_decision_loses_no_vm(
    memory: PrivateMemory, before: bytes, tickets: Tickets, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Ctrl-C at the destination once the ticket says taken: the VM is there, and the source hears so, or asks."""
    decided, sent = Tickets.decide, Channel.send

    def decide(self: Tickets, ticket: bytes, word: str) -> str:
        said = decided(self, ticket, word)
        if where == "decide" and word == TAKEN:
            raise KeyboardInterrupt
        return said

    def send(self: Channel, kind: int, number: int = 0, *parts: Any) -> None:
        if where == "send" and kind == say.TAKEN:
            raise KeyboardInterrupt
        sent(self, kind, number, *parts)

    monkeypatch.setattr(Tickets, "decide", decide)
    monkeypatch.setattr(Channel, "send", send)
    move = Move(memory, tickets)
    assert move.arrival is not None and isinstance(move.arrival.interrupted, KeyboardInterrupt)
    monkeypatch.undo()
    assert move.judge(before)


def test_a_ticket_is_asked_for_at_its_own_destination(memory: PrivateMemory, tickets: Tickets, tmp_path: Path) -> None:
    move = _in_doubt(memory, tickets, arrives=True)
    with pytest.raises(PagewardenError):
        _ask_elsewhere(move.departure, Tickets(tmp_path / "another"))
    assert move.departure.in_doubt
    assert move.settle()
    assert move.arrival is not None
    move.arrival.memory.close()


def _ask_elsewhere(departure: Departure, tickets: Tickets) -> None:
    near, far = socket.socketpair()

    def answer() -> None:
        with pytest.raises(Refused, match="another destination"):
            receive(far, KEY, tickets, _no_memory)

    with near, far:
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            departure.settle(near)
        finally:
            thread.join()


def test_a_ticket_that_cannot_be_written_decides_nothing(tickets: Tickets, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for call in ("fsync", "symlink"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, full)
            with pytest.raises(Refused) as refusal:
                tickets.decide(b"a" * 16, TAKEN)
            assert refusal.value.errno == errno.ENOSPC
    assert tickets.decide(b"a" * 16, NEVER) == NEVER
    assert tickets.decide(b"a" * 16, TAKEN) == NEVER
    assert Tickets(tickets._path).name == tickets.name


# -- kill -9 -----------------------------------------------------------------------------------------------------------


def _dies_at(point: int) -> None:
    """This process, at its point-th record, sent or received; half of a record that is sent has gone."""
    left = [point]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def dies(self: Channel, *arguments: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                if arguments and not isinstance(arguments[0], memoryview):
                    push, self._push = self._push, lambda data: push(bytes(data)[: len(data) // 2])  # type: ignore[method-assign]
                    call(self, *arguments)
                os.kill(os.getpid(), signal.SIGKILL)
            return call(self, *arguments)

        return dies

    Channel.send, Channel.receive = counted(Channel.send), counted(Channel.receive)  # type: ignore[method-assign]


POINTS = range(12)


def _forked(near: socket.socket, far: socket.socket, point: int, act: Callable[[socket.socket], object]) -> int:
    """A child that has one end of the wire and dies at the point, or ends its act."""
    if child := os.fork():
        near.close()
        return child
    try:
        far.close()
        _dies_at(point)
        act(near)
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.parametrize("point", POINTS)
def test_a_source_that_is_killed_leaves_all_or_nothing(tickets: Tickets, point: int) -> None:
    def act(near: socket.socket) -> None:
        Departure(a_memory(), KEY, patience=5).send(near, lambda: STATE, lambda: None)

    with a_memory() as alike:
        before = alike.private_read(0, alike.size)
    near, far = socket.socketpair()
    child = _forked(near, far, point, act)
    with far:
        try:
            arrival = receive(far, KEY, tickets, lambda size: PrivateMemory(size, "uffd-window"), patience=5)
        except Refused as cut:
            assert cut.errno in (errno.ECONNRESET, errno.EBADMSG)
        else:
            assert arrival is not None
            with arrival.memory as memory:
                assert memory.private_read(0, memory.size) == before and arrival.state == STATE
        finally:
            os.waitpid(child, 0)


@pytest.mark.parametrize("point", POINTS)
def test_a_destination_that_is_killed_has_it_or_the_source_has(
    memory: PrivateMemory, before: bytes, tickets: Tickets, point: int
) -> None:
    def act(near: socket.socket) -> None:
        receive(near, KEY, tickets, lambda size: PrivateMemory(size, "uffd-window"), patience=5)

    near, far = socket.socketpair()
    child = _forked(near, far, point, act)
    departure = Departure(memory, KEY, patience=5)
    with far, suppress(Refused):
        departure.send(far, lambda: STATE, lambda: None)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if departure.in_doubt:
        asked(departure, tickets)
    (word,) = [os.readlink(path) for path in tickets._path.iterdir() if path.name != "name"] or [NEVER]
    assert departure.gone == (word == TAKEN) and status in (0, -signal.SIGKILL)
    if not departure.gone:  # it never ran there
        assert status == -signal.SIGKILL
        assert memory.private_read(0, memory.size) == before


# -- hostile peers -----------------------------------------------------------------------------------------------------


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
            receive(far, KEY, tickets, _no_memory, patience=5)
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
