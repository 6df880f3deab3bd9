"""Every single thing that may happen on a page, as data: who does it, from where, with which operation, to where."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pagewarden.check.page.actors import Cast, Mask, Start
from pagewarden.check.page.flow import TAKES
from pagewarden.check.page.places import Onward, Place
from pagewarden.check.search.automaton import FIELD, MOST
from pagewarden.law import LOCKS, Op, Reach, Table

LAW, HOLD, PROCEDURE, VCPU = 0, 1, 2, 3
"""Columns of a page's local state: the law's state, whether the stranger holds the frame, the seat of the stranger's
procedure, the seat of each vCPU from here on."""
FRAME_OPS = frozenset({Op.KMAP_READ, Op.KMAP_WRITE})
NEEDS_HOLD = FRAME_OPS | {Op.DMA_MAP}
"""What only whoever holds the frame can do."""
LETS_GO = frozenset({Op.UNPIN, Op.UNPIN_OLD, Op.DMA_UNMAP, Op.IOTLB_INV, Op.ALIAS_CLOSE})
"""Operations of a stranger that gives back what it has."""
ALL = MOST - 1
"""Units of a lock: with one more, which nobody ever gets, a field's top bit still shows it."""


class Seats:
    """The places of one kind of actor by number; 0 is idle. A place of an actor that holds a frame has a twin for when
    the page has left that frame: what it does there touches the page no more. So has one between KVM's look-up and its
    mapping, for when what it looked up has changed (late). units: int64[seats], of each lock, packed."""

    def __init__(self, places: list[Place], locks: list[str]) -> None:
        pairs = [(place, adrift) for place in places for adrift in (False, True) if place.twin or not adrift]
        self.list: list[tuple[Place, bool] | None] = [None, *pairs]
        self.number = {pair: number for number, pair in enumerate(pairs, 1)}
        self.adrift, self.late = np.arange(len(self.list)), np.arange(len(self.list))
        self.units = np.zeros(len(self.list), np.uint32)
        for (place, _), number in self.number.items():
            if place.holds:
                self.adrift[number] = self.number[place, True]
            if place.stands.looked:
                self.late[number] = self.number[place, True]
            for name, units in lock_units(place).items():
                self.units[number] |= np.uint32(units << FIELD * locks.index(name))

    def targets(self, onward: Onward, adrift: bool = False) -> tuple[tuple[int, bool], ...]:
        """The seats that may follow, and whether a request has completed."""
        places = [(self.number[place, adrift and place.twin], False) for place in onward.places]
        return (*places, *((0, completed) for completed in onward.ends))


def lock_units(place: Place) -> dict[str, int]:
    """How much of each lock an actor has at a place: ALL of it, or 1 where it is shared; more than ALL of what it holds
    already and waits for."""
    units: dict[str, int] = {}
    for name, shared in place.stands.locks:
        units[name] = ALL + 1 if name in units else 1 if shared else ALL
    return units


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
    stale: bool = False  # it maps for the guest what is the page no more

    @property
    def goes_on(self) -> bool:
        """Of a guest that tries, of a host that finishes what it has begun, or that lets go of what it holds."""
        return self.actor == "vcpu" or (self.actor == "procedure" and self.at > 0) or self.op in LETS_GO

    @property
    def looked(self) -> bool:
        """It maps what KVM looked up."""
        return self.place is not None and self.place.op is Op.GUEST_MAP

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
    locks: tuple[str, ...]  # that anybody takes

    def adrift(self, column: int) -> NDArray[np.int64]:
        return {HOLD: self.hold, PROCEDURE: self.procedure.adrift}.get(column, self.vcpu.adrift)

    def late(self, column: int) -> NDArray[np.int64]:
        return {HOLD: np.arange(2), PROCEDURE: self.procedure.late}.get(column, self.vcpu.late)

    def units(self, column: int) -> NDArray[np.uint32]:
        """Of the seats of a column, of each lock."""
        return {HOLD: np.zeros(2, np.uint32), PROCEDURE: self.procedure.units}.get(column, self.vcpu.units)


def moves(cast: Cast, table: Table, vcpus: int) -> Moves:
    """Everything that may happen on a page, in the order in which the explorer tries it."""
    places = [cast.places(cast.vcpu), cast.places(cast.procedure)]
    locks = [name for name, lock in LOCKS.items() if table.policy.has(lock.mechanism)]
    vcpu, procedure = (Seats(each, locks) for each in places)
    found = [
        *(move for slot in range(vcpus) for move in _vcpu(VCPU + slot, cast.vcpu, vcpu)),
        *_procedures("procedure", PROCEDURE, cast.procedure, procedure),
        *_single(cast.ops, table),
    ]
    late = _Late(table)
    found = [each for move in found for each in (late(move) if move.adrift and move.looked else (move,))]
    return Moves(found, vcpu, procedure, np.zeros(2, np.int64), tuple(locks))


class _Late:
    """What was looked up has changed: who compares tries again; who does not maps it, once no invalidation is under way
    any more (x86/kvm/mmu/mmu.c is_page_fault_stale)."""

    def __init__(self, table: Table) -> None:
        self.compares = table.policy.has("sequence-compared")
        self.counted = np.array([page.notify > 0 for page in table.pages])
        self.over = ~self.counted

    def __call__(self, move: Move) -> tuple[Move, ...]:
        again = replace(move, op=None, done=move.refused or ())
        if self.compares:
            return (again,)
        return replace(move, op=None, when=self.over, stale=True), replace(again, when=self.counted)


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
    op = place.op
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
