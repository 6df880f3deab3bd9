"""Where an actor can stand, as few places as behaviour needs: procedures that go on alike share a place.

A `Node` knows what a listing says; a `Place` only what may happen next. Procedures with a common beginning stay
together until they differ, those with a common end meet again: the smallest automaton of all of them. The listing is
found again from the operations of a trace (`explain`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pagewarden.check.page.flow import Flow, Leads, Node, Stance
from pagewarden.law import Op


@dataclass(frozen=True)
class Onward:
    """What follows a step: one of these places, or one of these ends."""

    places: tuple["Place", ...]
    ends: tuple[bool, ...]  # True: a request has completed


@dataclass(frozen=True)
class Place:
    """About to do op (None: to take a lock). role: whose procedure it is, where that matters to what follows."""

    role: str
    op: Op | None
    stands: Stance  # in whatever world: that makes no difference
    retries: bool  # an access that has to wait is tried again
    done: Onward
    refused: Onward

    @property
    def holds(self) -> bool:
        """A reference taken by an earlier step."""
        return self.stands.holds

    @property
    def twin(self) -> bool:
        """Standing there, an actor may find that what it relies on has gone meanwhile."""
        return self.stands.holds or self.stands.looked


def behaviour(role: str, flows: Iterable[Flow]) -> Onward:
    """The first places of procedures of one role, of which the actor chooses one."""
    return _onward(role, [exit for flow in flows for exit in flow.entries], {})


_Key = tuple[Op | None, Stance, bool]
_Known = dict[tuple[_Key, frozenset[Node]], Place]


def _onward(role: str, exits: list[Leads], known: _Known) -> Onward:
    alike: dict[_Key, dict[Node, None]] = {}
    ends: dict[bool, None] = {}
    for exit in exits:
        if exit.node is None:
            ends[exit.ok and role == "request"] = None
        else:
            stands = exit.node.stands._replace(world="")
            alike.setdefault((exit.node.step.op, stands, exit.node.retries), {})[exit.node] = None
    places = dict.fromkeys(_place(role, key, list(nodes), known) for key, nodes in alike.items())
    return Onward(tuple(places), tuple(ends))


def _place(role: str, alike: _Key, nodes: list[Node], known: _Known) -> Place:
    key = (alike, frozenset(nodes))
    if key not in known:
        done = _onward(role, [exit for node in nodes for exit in node.done], known)
        refused = _onward(role, [exit for node in nodes for exit in node.refused], known)
        known[key] = Place(role, *alike, done, refused)
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
