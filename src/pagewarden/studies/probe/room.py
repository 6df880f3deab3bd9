"""What of an untrusted host side's room this host has, and the system calls that are left in it."""

from typing import NamedTuple

from pagewarden.memory import PrivateMemory
from pagewarden.memory.isolated import side
from pagewarden.memory.isolated.allowed import ALLOWED
from pagewarden.memory.isolated.room import PARTS, UNTRIED, broken
from pagewarden.vocab import PAGE_SIZE


class Room(NamedTuple):
    """parts: name, what it is against, and whether it is there: why not, where it is missing. calls: name, condition,
    what for. broken: why isolated=True is not to be had; empty when it is."""

    parts: list[tuple[str, str, str]]
    calls: list[tuple[str, str, str]]
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
    parts = [(part.title, part.against, states.get(part, "there")) for part in PARTS]
    calls = [(entry.name, entry.words, entry.reason) for entry in ALLOWED]
    return Room(parts, calls, tuple(broken(missing.values())))
