"""Which requests of a trace are in flight together: each ends before a later one is issued, by its completion."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.workload.lines import Int64s

MANY = 1 << 16
"""Events from which on the loop is compiled."""


@dataclass(frozen=True, slots=True)
class SectorRuns:
    """Events of a trace, equally long: where each stands in it, its device, the first sector and the one behind."""

    at: Int64s
    device: Int64s
    start: Int64s
    stop: Int64s

    @classmethod
    def joined(cls, parts: "Sequence[SectorRuns]") -> "SectorRuns":
        """The parts one after the other."""
        columns = zip(*((part.at, part.device, part.start, part.stop) for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns)) if parts else cls(*np.zeros((4, 0), np.int64))

    def __getitem__(self, which: "NDArray[Any]") -> "SectorRuns":
        return SectorRuns(self.at[which], self.device[which], self.start[which], self.stop[which])


def until_completed(issued: SectorRuns, completed: SectorRuns) -> tuple[NDArray[np.int32] | None, tuple[str, ...]]:
    """`Workload.until` of the issued requests, and what has to be said of it; None where nothing says when they end.

    A completion ends the request whose last sector is its own, and those that were merged before that one; so a request
    that was split ends with its last part.
    """
    both = SectorRuns.joined((issued, completed))
    order = np.argsort(both.at, kind="stable")
    device = np.unique(both.device, return_inverse=True)[1]
    ends = np.arange(len(order)) >= len(issued.at)
    columns = (ends[order], device[order], both.start[order], both.stop[order])
    ended = np.full(len(order), -1, np.int64)
    if len(order) >= MANY:
        _compiled()(columns, ended)
    else:
        _pair(tuple(column.tolist() for column in columns), ended)
    before = np.cumsum(~columns[0])  # how many were issued up to an event
    ended = ended[~columns[0]]
    return _filled(np.where(ended >= 0, before[np.maximum(ended, 0)], -1))


def until_latency(start: Int64s, latency: Int64s) -> tuple[NDArray[np.int32] | None, tuple[str, ...]]:
    """The same of requests in the order of their starts that took so long each, in any one unit; below 0: unknown."""
    found = np.maximum(np.searchsorted(start, start + latency), np.arange(1, len(start) + 1))
    return _filled(np.where(latency >= 0, found, -1))


def most_in_flight(until: NDArray[np.int32]) -> int:
    """How many requests are in flight at once at most."""
    ended = np.cumsum(np.bincount(until, minlength=len(until) + 1)[:-1])
    return int((np.arange(1, len(until) + 1) - ended).max(initial=0))


def _filled(until: Int64s) -> tuple[NDArray[np.int32] | None, tuple[str, ...]]:
    """Those without an end (-1) last as long as the longest of the others; a note where more of them are missing than
    can be in flight when the trace ends."""
    known, n, turn = until >= 0, len(until), np.arange(len(until))
    if not known.any():
        return None, ()
    last = turn + int((until - turn)[known].max())
    lost = int((~known & (last < n)).sum())
    notes = (f"{lost:,} requests have no completion in the trace: they are taken to last as long as the longest",)
    return np.where(known, until, np.minimum(last, n)).astype(np.int32), notes if lost else ()


def _pair(events: Any, ended: Any) -> None:
    """For each beginning the event that ends it. events: whether each is an end, device, first sector, that behind."""
    ends, device, start, stop = events
    latest: dict[tuple[int, int], int] = {}
    below = np.full(len(ends), -1)
    for i in range(len(ends)):
        at = stop[i]
        if not ends[i]:
            key = (device[i], at)
            if key in latest:
                below[i] = latest[key]
            latest[key] = i
        while ends[i] and at > start[i]:
            key = (device[i], at)
            if key not in latest:
                break
            done = latest[key]
            ended[done], at = i, start[done]
            if below[done] < 0:
                del latest[key]
            else:
                latest[key] = below[done]


@cache
def _compiled() -> Any:
    from pagewarden.vocab.compiled import njit

    return njit(_pair)
