"""Procedures as graphs of the steps that touch memory: what the checker interleaves.

Hops, copies, system calls and remarks change no page; they are kept on the way to the next step, for the listing. Two
places with the same future are one `Node`, so that procedures with the same tail share it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pagewarden.designs import Procedure, RowKind, assemble
from pagewarden.designs.program import FlatProcedure
from pagewarden.designs.steps import Do, Hop, Line, Stop
from pagewarden.law import Op

TAKES = frozenset({Op.GUP_PIN, Op.FD_GET})
"""Operations after which their actor holds a reference of its own."""


@dataclass(frozen=True)
class Leads:
    """Where a step leads: to the next node, or (None) to the end. lead: what is said and crossed on the way."""

    node: "Node | None"
    ok: bool  # at the end: the procedure completed
    lead: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Node:
    """A place in a procedure: about to do `step`, in that world. Nodes are equal when everything that follows is."""

    name: str  # of what the procedure is: equal tails of different kinds of procedure stay apart
    step: Do
    world: str
    holds: bool  # a reference taken by an earlier step of the procedure
    done: tuple[Leads, ...]
    refused: tuple[Leads, ...]

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


def flow(name: str, procedure: Procedure, pool: bool = False) -> Flow:
    """The graph of a procedure's steps on one of its pages; pool: on its page of the pool instead."""
    return Flow(name, tuple(_Walk(name, assemble(procedure.steps), pool).exits(0, procedure.world, False)))


class _Walk:
    def __init__(self, name: str, program: FlatProcedure, pool: bool) -> None:
        self.name, self.program, self.pool = name, program, pool
        self.known: dict[tuple[int, str, bool], Node] = {}

    def exits(self, row: int, world: str, holds: bool, lead: tuple[Line, ...] = ()) -> Iterator[Leads]:
        """From a row to the next steps on the page. Whether a bounded resource has room is left open: both ways."""
        kind, argument, target, pool = self.program.rows[row].tolist()
        step = self.program.steps[row]
        if kind == RowKind.STOP:
            yield Leads(None, bool(argument), (*lead, step) if isinstance(step, Stop) else lead)
        elif kind == RowKind.DO and bool(pool) == self.pool:
            yield Leads(self.node(row, world, holds), False, lead)
        elif kind == RowKind.JUMP:
            yield from self.exits(target, world, holds, lead)
        elif kind == RowKind.TAKE:
            yield from self.exits(row + 1, world, holds, (*lead, step))
            yield from self.exits(target, world, holds, lead)
        else:
            if isinstance(step, Hop):
                world = step.edge.split(">")[1]
            seen = kind in (RowKind.COUNT, RowKind.GIVE, RowKind.DO)
            yield from self.exits(row + 1, world, holds, (*lead, step) if seen else lead)

    def node(self, row: int, world: str, holds: bool) -> Node:
        if (row, world, holds) not in self.known:
            step = self.program.steps[row]
            assert isinstance(step, Do)
            after = step.op in TAKES or (holds and step.op is not Op.UNPIN)
            done = tuple(self.exits(row + 1, world, after))
            target = int(self.program.rows[row, 2])
            fails = (Leads(None, False),) if target < 0 else tuple(self.exits(target, world, holds))
            self.known[row, world, holds] = Node(self.name, step, world, holds, done, fails)
        return self.known[row, world, holds]
