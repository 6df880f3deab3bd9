"""Protocols beside the law's procedures: few states, written as plain steps, and all of them explored."""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pagewarden.vocab import one_of

KeptGuards: TypeAlias = frozenset[str]


@dataclass(frozen=True)
class Protocol:
    """what: the actors, in words. guards: what each keeps from going wrong. properties: what each promises, those of a
    state and `progress`. first: where it starts; after: of a state and the guards, who does what next, and the state
    then. broken: the property that a state breaks, or None. waits: whether somebody waits there; free: actors who need
    not go on for that to end."""

    what: str
    guards: Mapping[str, str]
    properties: Mapping[str, str]
    first: Hashable
    after: Callable[[Any, KeptGuards], Iterator[tuple[str, str, Any]]]
    broken: Callable[[Any], str | None]
    waits: Callable[[Any], bool]
    free: frozenset[str]


@dataclass(frozen=True)
class ProtocolReport:
    """guards: that there were. states: all of them. ways: of each property that fails, a shortest one in words; met:
    what each actor did anywhere."""

    protocol: Protocol
    guards: KeptGuards
    states: int
    ways: Mapping[str, tuple[str, ...]]
    met: frozenset[tuple[str, str]]

    def verdict(self, name: str) -> Literal["holds", "fails"]:
        return "fails" if name in self.ways else "holds"


def check_protocol(protocol: Protocol, without: tuple[str, ...] = ()) -> ProtocolReport:
    """Every state, without some of the guards; UserMistake for a guard that is none."""
    guards = frozenset(protocol.guards) - {one_of("guard", name, protocol.guards) for name in without}
    came: dict[Hashable, tuple[Hashable, str] | None] = {protocol.first: None}
    onward: dict[Hashable, list[Hashable]] = {}
    met, left, ends = set[tuple[str, str]](), deque([protocol.first]), dict[str, Hashable]()
    while left:
        state = left.popleft()
        if (broken := protocol.broken(state)) is not None:
            ends.setdefault(broken, state)
        onward[state] = []
        for actor, what, then in protocol.after(state, guards):
            met.add((actor, what))
            if actor not in protocol.free:
                onward[state].append(then)
            if then not in came:
                came[then] = state, f"{actor}: {what}"
                left.append(then)
    stuck = _stuck(onward, protocol.waits)
    if stuck:
        ends["progress"] = next(state for state in came if state in stuck)
    ways = {name: _way(end, came) for name, end in ends.items()}
    return ProtocolReport(protocol, guards, len(came), ways, frozenset(met))


def _stuck(onward: Mapping[Hashable, list[Hashable]], waits: Callable[[Any], bool]) -> set[Hashable]:
    """Where somebody waits, and nobody's next steps end that."""
    good = {state for state in onward if not waits(state)}
    while more := {state for state in onward.keys() - good if not good.isdisjoint(onward[state])}:
        good |= more
    return set(onward) - good


def _way(end: Hashable, came: Mapping[Hashable, tuple[Hashable, str] | None]) -> tuple[str, ...]:
    steps, at = list[str](), came[end]
    while at is not None:
        steps.append(at[1])
        at = came[at[0]]
    return tuple(reversed(steps))
