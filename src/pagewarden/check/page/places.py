"""Where an actor can stand, as few places as behaviour needs: procedures that go on alike share a place.

A `Node` knows what a listing says; a `Place` only what may happen next. Procedures with a common beginning stay
together until they differ, those with a common end meet again: the smallest automaton of all of them. The listing is
found again from the operations of a trace (`explain`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pagewarden.check.page.flow import Flow, Leads, Node
from pagewarden.law import Op


@dataclass(frozen=True)
class Onward:
    """What follows a step: one of these places, or one of these ends."""

    places: tuple["Place", ...]
    ends: tuple[bool, ...]  # True: a request has completed


@dataclass(frozen=True)
class Place:
    """About to do op. role: whose procedure it is, where that matters to what follows."""

    role: str
    op: Op
    holds: bool  # a reference taken by an earlier step
    retries: bool  # an access that has to wait is tried again
    done: Onward
    refused: Onward


def behaviour(role: str, flows: Iterable[Flow]) -> Onward:
    """The first places of procedures of one role, of which the actor chooses one."""
    return _onward(role, [exit for flow in flows for exit in flow.entries], {})


_Known = dict[tuple[Op, bool, bool, frozenset[Node]], Place]


def _onward(role: str, exits: list[Leads], known: _Known) -> Onward:
    alike: dict[tuple[Op, bool, bool], dict[Node, None]] = {}
    ends: dict[bool, None] = {}
    for exit in exits:
        if exit.node is None:
            ends[exit.ok and role == "request"] = None
        else:
            alike.setdefault((exit.node.step.op, exit.node.holds, exit.node.retries), {})[exit.node] = None
    places = dict.fromkeys(_place(role, *key, list(nodes), known) for key, nodes in alike.items())
    return Onward(tuple(places), tuple(ends))


def _place(role: str, op: Op, holds: bool, retries: bool, nodes: list[Node], known: _Known) -> Place:
    key = (op, holds, retries, frozenset(nodes))
    if key not in known:
        done = _onward(role, [exit for node in nodes for exit in node.done], known)
        refused = _onward(role, [exit for node in nodes for exit in node.refused], known)
        known[key] = Place(role, op, holds, retries, done, refused)
    return known[key]


def places_of(starts: Iterable[Onward]) -> list[Place]:
    """Every place once, in the order of a walk from the starts."""
    found: dict[Place, None] = {}
    todo = [place for start in starts for place in start.places]
    while todo:
        place = todo.pop(0)
        if place not in found:
            found[place] = None
            todo += place.done.places + place.refused.places
    return list(found)
