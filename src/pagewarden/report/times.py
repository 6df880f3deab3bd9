"""What a recorded run says of time: how long what took, and how full what was when."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from pagewarden.report.documents.run import DurationBin, Durations, RunTimes
from pagewarden.studies.run.traced import EXITS, REQUEST
from pagewarden.vocab.timeline import CounterValue, Timeline

BINS = 8
"""Of a histogram, from a time to its double."""
MOMENTS = 500
"""Of a counter, that are told at most."""


def run_times(found: Timeline) -> RunTimes:
    """Durations of requests and of the guest's exits by kind, and each counter over time."""
    took = defaultdict[tuple[bool, str], list[int]](list)
    for each in found.slices:
        if (request := each.track.startswith(REQUEST)) or each.track == EXITS:
            took[not request, each.name].append(each.end - each.begin)
    levels = defaultdict[str, list[CounterValue]](list)
    for level in found.levels:
        levels[level.counter].append(level)
    zero = min((each.begin for each in found.slices), default=0)
    end = max((each.end for each in found.slices), default=0)
    return RunTimes(
        durations=[_durations(kind, exit_, some) for (exit_, kind), some in sorted(took.items())],
        levels={name: _highest(some, zero, end) for name, some in levels.items()},
    )


def _durations(kind: str, exit_: bool, taken: Iterable[int]) -> Durations:
    ns = np.fromiter(taken, np.int64).clip(1)
    places, counts = np.unique(np.floor(np.log2(ns) * BINS).astype(np.int64), return_counts=True)
    edges = 2.0 ** (np.stack([places, places + 1]) / BINS) / 1000
    bins = zip(*edges.tolist(), counts.tolist(), strict=True)
    return Durations(
        kind=kind, exit=exit_, count=len(ns), us_percentiles=(np.percentile(ns, (50, 90, 99, 100)) / 1000).tolist(),
        bins=[DurationBin(*each) for each in bins],
    )  # fmt: skip


def _highest(found: list[CounterValue], zero: int, end: int) -> list[tuple[float, int]]:
    """At most `MOMENTS` stretches, from when on in ms, and the most in each; and the end."""
    values = np.array([each.value for each in found])
    starts = np.arange(0, len(found), -(-len(found) // MOMENTS))
    most = [*np.maximum.reduceat(values, starts).tolist(), found[-1].value]
    times = [*(found[start].at for start in starts.tolist()), max(end, found[-1].at)]
    return [((at - zero) / 1e6, value) for at, value in zip(times, most, strict=True)]
