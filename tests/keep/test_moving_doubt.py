"""A VM that moves while either side dies, or nobody knows: one side has it, and who asks is told which."""

import errno
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from moving_kit import KEY, STATE, Move, a_memory, asked, cut_at, no_memory, on_side, wires
from pagewarden.keep.moving import messages as say
from pagewarden.keep.moving.channel import Channel
from pagewarden.keep.moving.destination import receive
from pagewarden.keep.moving.source import Departure, InDoubt
from pagewarden.keep.moving.tickets import NEVER, TAKEN, Tickets
from pagewarden.memory import PrivateMemory, Refused
from pagewarden.vocab import PagewardenError


def _in_doubt(memory: PrivateMemory, tickets: Tickets, arrives: bool) -> Move:
    """The last word of the source, or that of the destination, is lost."""
    out, back = wires(tickets)
    side, place = ("back", back.sends[-1]) if arrives else ("out", out.sends[-1] + 9)
    move = Move(memory, tickets, **on_side(side, partial(cut_at, place)))
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
            receive(far, KEY, tickets, no_memory)

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
