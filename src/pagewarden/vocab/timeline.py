"""What happened when: slices on tracks, flows between them, and levels of counters. report.trace writes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TimeSlice:
    """From `begin` to `end`, ns; slices of a track nest or follow each other. flows: numbers of the flows that go
    through it, in order of time."""

    track: str
    name: str
    begin: int
    end: int
    flows: tuple[int, ...] = ()
    about: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CounterValue:
    """A counter's value from `at` on, ns."""

    counter: str
    at: int
    value: int


@dataclass
class Timeline:
    """In any order."""

    slices: list[TimeSlice] = field(default_factory=list)
    levels: list[CounterValue] = field(default_factory=list)
