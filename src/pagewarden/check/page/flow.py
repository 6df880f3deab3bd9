"""Procedures as graphs of the steps that touch memory: what the checker interleaves.

Hops, copies, system calls and remarks change no page; they are kept on the way to the next step, for the listing. Two
places with the same future are one `Node`, so that procedures with the same tail share it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pagewarden.designs import Procedure, RowKind, assemble
from pagewarden.designs.program import FlatProcedure
from pagewarden.designs.steps import Do, Hop, Line, Lock, Stop, Unlock
from pagewarden.law import Op

TAKES = frozenset({Op.GUP_PIN, Op.FD_GET})
"""Operations after which their actor holds a reference of its own."""


@dataclass(frozen=True)
class Leads:
    """Where a step leads: to the next node, or (None) to the end. lead: what is said and crossed on the way."""

    node: "Node | None"
    ok: bool  # at the end: the procedure completed
    lead: tuple[Line, ...] = ()


class Stance(NamedTuple):
    """What an actor has with it. holds: a reference taken by an earlier step of the procedure; looked: what KVM looked
    up there, and has not mapped yet; locks: those held, and whether shared."""

    world: str
    holds: bool = False
    looked: bool = False
    locks: tuple[tuple[str, bool], ...] = ()

    def after(self, step: Line) -> "Stance":
        match step:
            case Hop(edge):
                return self._replace(world=edge.split(">")[1])
            case Lock(name, shared):
                return self._replace(locks=(*self.locks, (name, shared)))
            case Unlock(name):
                return self._replace(locks=tuple(lock for lock in self.locks if lock[0] != name))
            case Do(op):
                holds = op in TAKES or (self.holds and op is not Op.UNPIN)
                looked = op is Op.KVM_GET or (self.looked and op is not Op.GUEST_MAP)
                return self._replace(holds=holds, looked=looked)
        return self


@dataclass(frozen=True)
class Node:
    """A place in a procedure: about to do `step`, in that world. Nodes are equal when everything that follows is."""

    name: str  # of what the procedure is: equal tails of different kinds of procedure stay apart
    step: Do | Lock
    stands: Stance
    done: tuple[Leads, ...]
    refused: tuple[Leads, ...]

    @property
    def world(self) -> str:
        return self.stands.world

    @property
    def retries(self) -> bool:
        """An access that has to wait is tried again, unless the procedure says how else it goes on."""
        return all(exit.node is None for exit in self.refused)


@dataclass(frozen=True)
class Flow:
    """A procedure from its start: the first nodes, by the choices before them."""

    name: str
    entries: tuple[Leads, ...]

    def nodes(self) -> list[Node]:
        """Every node once, in the order of a walk from the start."""
        found: dict[Node, None] = {}
        todo = [exit.node for exit in self.entries]
        while todo:
            node = todo.pop(0)
            if node is not None and node not in found:
                found[node] = None
                todo += [exit.node for exit in node.done + node.refused]
        return list(found)


def flow(name: str, procedure: Procedure, pool: bool = False, looks: bool = False) -> Flow:
    """The graph of a procedure's steps on one of its pages; pool: on its page of the pool instead; looks: KVM maps what
    it looked up, not what is there by then."""
    walk = _Walk(name, assemble(procedure.steps), pool, looks)
    return Flow(name, tuple(walk.exits(0, Stance(procedure.world))))


class _Walk:
    def __init__(self, name: str, program: FlatProcedure, pool: bool, looks: bool) -> None:
        self.name, self.program, self.pool, self.looks = name, program, pool, looks
        self.known: dict[tuple[int, Stance], Node] = {}

    def exits(self, row: int, stands: Stance, lead: tuple[Line, ...] = ()) -> Iterator[Leads]:
        """From a row to the next steps on the page. Whether a bounded resource has room is left open: both ways."""
        kind, argument, target, pool = self.program.rows[row].tolist()
        step = self.program.steps[row]
        if kind == RowKind.STOP:
            yield Leads(None, bool(argument), (*lead, step) if isinstance(step, Stop) else lead)
        elif isinstance(step, Lock) or (kind == RowKind.DO and bool(pool) == self.pool):
            yield Leads(self.node(row, stands), False, lead)
        elif kind == RowKind.JUMP:
            yield from self.exits(target, stands, lead)
        elif kind == RowKind.TAKE:
            yield from self.exits(row + 1, stands, (*lead, step))
            yield from self.exits(target, stands, lead)
        else:
            seen = kind in (RowKind.COUNT, RowKind.GIVE, RowKind.DO)
            goes_on = stands if kind == RowKind.DO else stands.after(step)
            yield from self.exits(row + 1, goes_on, (*lead, step) if seen else lead)

    def node(self, row: int, stands: Stance) -> Node:
        if (row, stands) not in self.known:
            step = self.program.steps[row]
            assert isinstance(step, Do | Lock)
            after = stands.after(step)
            done = tuple(self.exits(row + 1, after if self.looks else after._replace(looked=False)))
            target = int(self.program.rows[row, 2])
            fails = (Leads(None, False),) if target < 0 else tuple(self.exits(target, stands))
            self.known[row, stands] = Node(self.name, step, stands, done, fails)
        return self.known[row, stands]
