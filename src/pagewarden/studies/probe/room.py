"""What of an untrusted host side's room this host has, and the system calls that are left in it."""

from typing import NamedTuple

from pagewarden.memory import PrivateMemory
from pagewarden.memory.isolated import side
from pagewarden.memory.isolated.allowed import ALLOWED
from pagewarden.memory.isolated.room import PARTS, UNTRIED, broken
from pagewarden.vocab import PAGE_SIZE


class PartFound(NamedTuple):
    """A part of the room, what it is against, and whether it is there: why not, where it is missing."""

    name: str
    against: str
    state: str


class AllowedCall(NamedTuple):
    """A system call that the host side may make, under which condition, and what for."""

    name: str
    condition: str
    reason: str


class Room(NamedTuple):
    """broken: why isolated=True is not to be had; empty when it is."""

    parts: tuple[PartFound, ...]
    calls: tuple[AllowedCall, ...]
    broken: tuple[str, ...]


def room() -> Room:
    """Start a host side that does nothing, and hear what it could not give up; Unavailable where none starts at all."""
    with PrivateMemory(PAGE_SIZE, isolated="best-effort") as memory:
        host = memory.spawn(side.nothing)
        host.wait(60.0)
        missing = {lack.part: lack for lack in host.missing}
        untried = {part for part in PARTS if host.outcomes[part] == UNTRIED}
    states = dict.fromkeys(untried, "not needed by this user") | {
        part: f"MISSING ({lack.why})" for part, lack in missing.items()
    }
    parts = [PartFound(part.title, part.against, states.get(part, "there")) for part in PARTS]
    calls = [AllowedCall(entry.name, entry.words, entry.reason) for entry in ALLOWED]
    return Room(tuple(parts), tuple(calls), tuple(broken(missing.values())))
