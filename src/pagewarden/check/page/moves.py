"""Every single thing that may happen on a page, as data: who does it, from where, with which operation, to where."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pagewarden.check.page.actors import Cast, Mask, Start
from pagewarden.check.page.flow import TAKES
from pagewarden.check.page.places import Onward, Place
from pagewarden.law import Op, Reach, Table

LAW, HOLD, PROCEDURE, VCPU = 0, 1, 2, 3
"""Columns of a page's local state: the law's state, whether the stranger holds the frame, the seat of the stranger's
procedure, the seat of each vCPU from here on."""
FRAME_OPS = frozenset({Op.KMAP_READ, Op.KMAP_WRITE})
NEEDS_HOLD = FRAME_OPS | {Op.DMA_MAP}
"""What only whoever holds the frame can do."""


class Seats:
    """The places of one kind of actor by number; 0 is idle. A place of an actor that holds a frame has a twin for when
    the page has left that frame: what it does there touches the page no more."""

    def __init__(self, places: list[Place]) -> None:
        pairs = [(place, adrift) for place in places for adrift in (False, True) if place.holds or not adrift]
        self.list: list[tuple[Place, bool] | None] = [None, *pairs]
        self.number = {pair: number for number, pair in enumerate(pairs, 1)}
        self.adrift = np.arange(len(self.list))
        for (place, _), number in self.number.items():
            if place.holds:
                self.adrift[number] = self.number[place, True]

    def targets(self, onward: Onward, adrift: bool = False) -> tuple[tuple[int, bool], ...]:
        """The seats that may follow, and whether a request has completed."""
        places = [(self.number[place, adrift and place.holds], False) for place in onward.places]
        return (*places, *((0, completed) for completed in onward.ends))


@dataclass(frozen=True, eq=False)
class Move:
    """An action on one page. op None: on a frame that the page has left. column: of the actor's seat, None without one;
    at: the seat it acts from. when: bool by state of the law. refused None: nothing happens then."""

    actor: str  # vcpu, procedure (the stranger's procedures), stranger (single operations)
    name: str  # the role, or the ability
    op: Op | None
    column: int | None = None
    at: int = 0
    when: Mask | None = None
    done: tuple[tuple[int, bool], ...] = ()
    refused: tuple[tuple[int, bool], ...] | None = None
    place: Place | None = None  # of the procedure's step
    retries: bool = True
    alone: bool = False
    adrift: bool = False

    @property
    def enters(self) -> bool:
        """The actor was idle, and is one of a bounded number."""
        return self.actor != "stranger" and self.at == 0


@dataclass(frozen=True)
class Moves:
    """What can happen to a page of a kind, and who sits where in it."""

    list: list[Move]
    vcpu: Seats
    procedure: Seats
    hold: NDArray[np.int64]  # the stranger's seat when the page leaves its frame: it holds another object then

    def adrift(self, column: int) -> NDArray[np.int64]:
        return {HOLD: self.hold, PROCEDURE: self.procedure.adrift}.get(column, self.vcpu.adrift)


def moves(cast: Cast, table: Table, vcpus: int) -> Moves:
    """Everything that may happen on a page, in the order in which the explorer tries it."""
    vcpu, procedure = Seats(cast.places(cast.vcpu)), Seats(cast.places(cast.procedure))
    found = [
        *(move for slot in range(vcpus) for move in _vcpu(VCPU + slot, cast.vcpu, vcpu)),
        *_procedures("procedure", PROCEDURE, cast.procedure, procedure),
        *_single(cast.ops, table),
    ]
    return Moves(found, vcpu, procedure, np.zeros(2, np.int64))


def _vcpu(column: int, starts: tuple[Start, ...], seats: Seats) -> Iterator[Move]:
    for op in (Op.GUEST_LOAD, Op.GUEST_STORE):
        yield Move("vcpu", "touch", op, column, done=((0, False),))
    yield from _procedures("vcpu", column, starts, seats)


def _procedures(actor: str, column: int, starts: tuple[Start, ...], seats: Seats) -> Iterator[Move]:
    for start in starts:
        for place in start.first.places:
            yield _step(actor, column, seats, place, 0, start)
    for number, seat in enumerate(seats.list):
        if seat is not None:
            yield _step(actor, column, seats, seat[0], number, None)


def _step(actor: str, column: int, seats: Seats, place: Place, at: int, start: Start | None) -> Move:
    adrift = at > 0 and seats.list[at] == (place, True)
    done, refused = seats.targets(place.done, adrift), seats.targets(place.refused, adrift)
    op: Op | None = place.op
    if adrift and op in FRAME_OPS:
        op = None
    elif adrift and op is Op.UNPIN:
        op, refused = Op.UNPIN_OLD, done
    when, alone = (start.when, start.alone) if start else (None, False)
    return Move(actor, place.role, op, column, at, when, done, refused, place, place.retries, alone, adrift)


def _single(ops: dict[Op, str], table: Table) -> Iterator[Move]:
    """What the stranger does at any time. A frame is used by whoever holds it, and kept while a device maps it."""
    mapped = np.array([page.dma is Reach.LIVE for page in table.pages])
    for op, name in ops.items():
        if op in TAKES:
            yield Move("stranger", name, op, HOLD, 0, done=((1, False),))
        elif op in NEEDS_HOLD:
            yield Move("stranger", name, op, HOLD, 1, done=((1, False),))
        elif op is Op.UNPIN:
            yield Move("stranger", name, op, HOLD, 1, ~mapped, done=((0, False),))
        else:
            yield Move("stranger", name, op)
