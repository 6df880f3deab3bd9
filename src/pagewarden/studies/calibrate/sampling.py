"""Timings as samples: scripts take turns, so that a noisy moment falls on all of them; medians and quartiles after."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from resource import RUSAGE_THREAD, getrusage
from types import MappingProxyType
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab import Advance

Array: TypeAlias = NDArray[np.float64]
LEAST = 5
"""Samples of each script at least, however short the time."""
MOST = 2000
SAMPLE_NS = 2.5e5
"""ns that a sample takes at most, unless one round is longer: far below a time slice, so that most are undisturbed."""


class Timed(Protocol):
    """Something whose rounds can be timed: ns of each of its rows, the mean of so many rounds."""

    def time(self, rounds: int) -> list[float]: ...


@dataclass(frozen=True, slots=True)
class Spread:
    """A measured number: median and quartiles of so many samples; deciles: the least, each tenth, the most of them."""

    median: float
    low: float
    high: float
    samples: int
    deciles: tuple[float, ...] = ()

    @classmethod
    def of(cls, samples: Array) -> "Spread":
        return cls.around(float(np.median(samples)), samples)

    @classmethod
    def around(cls, median: float, samples: Array) -> "Spread":
        """A number made from medians, and the quartiles of what single samples would have made it."""
        low, high = np.percentile(samples, [25, 75])
        deciles = tuple(np.percentile(samples, range(0, 101, 10)).tolist())
        return cls(median, min(float(low), median), max(float(high), median), int(samples.size), deciles)

    def plus(self, added: float) -> "Spread":
        return self._each(lambda value: value + added)

    def times(self, factor: float) -> "Spread":
        return self._each(lambda value: value * factor)

    def not_under(self, least: float) -> "Spread":
        """Median and upper half; the lower one not under 0."""
        made = self._each(lambda value: max(value, 0))
        return replace(made, median=max(made.median, least), high=max(made.high, least))

    def _each(self, of: Callable[[float], float]) -> "Spread":
        return Spread(of(self.median), of(self.low), of(self.high), self.samples, tuple(map(of, self.deciles)))


@dataclass(frozen=True, slots=True)
class StraightLine:
    """A straight line through times: fixed part, price of a unit, and the worst deviation from it, as a share."""

    fixed: Spread
    unit: Spread
    bend: float

    @classmethod
    def through(cls, sizes: Sequence[float], times: Array) -> "StraightLine":
        """Through the medians of times[sizes, samples], by least squares of relative errors, or of errors by the
        scatter where that is more than the median; no part is below 0."""
        units = np.asarray(sizes, np.float64)
        low, medians, high = np.percentile(times, [25, 50, 75], axis=1)
        scale = np.maximum(np.maximum(medians, high - low), 1)
        fixed, slope = _fit(units, medians[:, None], scale)
        each = _fit(units, times, scale)
        bend = np.max(np.abs(fixed + slope * units - medians) / np.maximum(np.abs(medians), 1e-9))
        return cls(Spread.around(float(fixed[0]), each[0]), Spread.around(float(slope[0]), each[1]), float(bend))


def _fit(units: Array, times: Array, scale: Array) -> tuple[Array, Array]:
    weights = 1 / scale
    design = np.stack([weights, weights * units], axis=1)
    fixed, slope = np.linalg.lstsq(design, weights[:, None] * times, rcond=None)[0]
    through_zero = (weights**2 * units) @ times / (weights**2 @ units**2)
    level = weights**2 @ times / (weights**2).sum()
    return (
        np.where(slope < 0, np.maximum(level, 0), np.maximum(fixed, 0)),
        np.where(fixed < 0, np.maximum(through_zero, 0), np.maximum(slope, 0)),
    )


def sample(
    scripts: Mapping[str, Timed],
    seconds: float,
    *,
    runs: Mapping[str, Callable[[], float]] = MappingProxyType({}),
    clock: Callable[[], float] = time.monotonic,
    progress: Advance = lambda done, total: None,
) -> dict[str, Array]:
    """Samples of every script, float64[rows, samples] in ns, the same number for all: the scripts take turns.

    Ends after `seconds`, but not before LEAST turns. The first turn warms up, sets the rounds, and is not kept.
    runs: what begins afresh each time and knows by itself what was undisturbed; float64[1, samples] of each.
    """
    start = clock()
    longest = min(SAMPLE_NS, seconds * 1e9 / len(scripts) / (2 * LEAST))
    rounds = {name: _rounds(script, longest) for name, script in scripts.items()}
    turns: dict[str, list[list[float]]] = {name: [] for name in (*scripts, *runs)}
    done = 0
    while done < LEAST or (clock() - start < seconds and done < MOST):
        for name, script in scripts.items():
            turns[name].append(_undisturbed(script, rounds[name]))
        for name, run in runs.items():
            turns[name].append([run()])
        done += 1
        progress(min(int(1000 * (clock() - start) / seconds), 1000), 1000)
    return {name: np.array(taken).T for name, taken in turns.items()}


def _undisturbed(script: Timed, rounds: int, tries: int = 3) -> list[float]:
    """A sample; taken again while somebody else had the CPU in the middle of it, as long samples meet most often."""
    for _ in range(tries):
        before = getrusage(RUSAGE_THREAD).ru_nivcsw
        taken = script.time(rounds)
        if getrusage(RUSAGE_THREAD).ru_nivcsw == before:
            break
    return taken


def _rounds(script: Timed, longest: float) -> int:
    script.time(1)
    once = min(sum(script.time(1)) for _ in range(2))
    return max(1, int(longest / max(once, 1)))
