"""What a run cost, in the words of the reports."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from pagewarden.designs import Copy, Hop, Line, Syscall
from pagewarden.sim.pages import Ints
from pagewarden.vocab import EDGES, Event, Refused
from pagewarden.vocab.events import ENTRIES


@dataclass
class Counts:
    """events: int64[E] by Event; hops by edge; access syscalls by name; ranges: operations that set or cleared entries,
    however many pages each had, by event key; requests that completed and that failed; refusal: why the first one
    failed.
    """

    events: Ints = field(default_factory=lambda: np.zeros(len(Event), np.int64))
    hops: Counter[str] = field(default_factory=Counter)
    syscalls: Counter[str] = field(default_factory=Counter)
    ranges: Counter[str] = field(default_factory=Counter)
    completed: int = 0
    failed: int = 0
    refusal: Refused | None = None

    def add_step(self, step: Line, times: int, size: int) -> None:
        """A step that is only counted, executed so many times for requests of `size` bytes in all."""
        match step:
            case Hop(edge, _, hypercall):
                self.hops[edge] += times
                self.events[Event.HYPERCALLS] += times * hypercall
            case Syscall(name, _, True):
                self.syscalls[name] += times
                self.events[Event.ACCESS_SYSCALLS] += times
            case Copy(side):
                guest = side == "guest"
                self.events[Event.GUEST_COPIES if guest else Event.HOST_COPIES] += times
                self.events[Event.GUEST_COPY_BYTES if guest else Event.HOST_COPY_BYTES] += size

    def add_ranges(self, once: Ints) -> None:
        """From the calls in which each of the ranged events and entries happened, int64[K]."""
        for event, calls in zip(ENTRIES, once[-len(ENTRIES) :].tolist(), strict=True):
            self.ranges[event.key] += calls

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.events + other.events, self.hops + other.hops, self.syscalls + other.syscalls,
            self.ranges + other.ranges, self.completed + other.completed, self.failed + other.failed,
            self.refusal or other.refusal,
        )  # fmt: skip

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(
            self.events - other.events,
            self.hops - other.hops,
            self.syscalls - other.syscalls,
            self.ranges - other.ranges,
        )

    def __getitem__(self, event: Event) -> int:
        return int(self.events[event])

    def as_dict(self) -> dict[str, object]:
        """The keys of the reports: hops, hops_by_edge, syscalls, ranges and every event; whole numbers."""
        return {
            "hops": self.hops.total(),
            "hops_by_edge": {edge: self.hops[edge] for edge in EDGES},
            "syscalls": dict(self.syscalls),
            "ranges": {event.key: self.ranges[event.key] for event in ENTRIES},
            **{event.key: int(self.events[event]) for event in Event},
        }
