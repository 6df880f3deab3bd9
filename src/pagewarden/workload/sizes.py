"""How long fio's requests are: a span in steps, or a weighted choice. A fixed size is a span of one."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Sizes(Protocol):
    """A distribution of request lengths in bytes."""

    @property
    def smallest(self) -> int: ...
    @property
    def largest(self) -> int: ...
    def draw(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]: ...
    def fit(self, room: int) -> int:
        """The longest request that fits into so many bytes; 0 if none does."""


@dataclass(frozen=True, slots=True)
class Span:
    """Lengths from smallest to largest, multiples of step (fio: bs, bsrange; step 1 is bs_unaligned)."""

    smallest: int
    largest: int
    step: int

    def draw(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        """As fio 3.33 draws: uniform over [smallest, smallest + largest), down to a step, at most largest."""
        if self.smallest == self.largest:
            return np.full(n, self.largest, np.int64)
        drawn = self.smallest + (self.largest * rng.random(n)).astype(np.int64)
        lengths: NDArray[np.int64] = np.minimum(drawn - drawn % self.step, self.largest)
        return lengths

    def fit(self, room: int) -> int:
        length = min(room - room % self.step, self.largest)
        return length if length >= self.smallest else 0


@dataclass(frozen=True, slots=True)
class Split:
    """A choice among sizes by per cent (fio: bssplit)."""

    sizes: tuple[int, ...]
    shares: tuple[float, ...]  # per cent, one for each size, together 100

    @property
    def smallest(self) -> int:
        return min(self.sizes)

    @property
    def largest(self) -> int:
        return max(self.sizes)

    def draw(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        chosen = np.searchsorted(np.cumsum(self.shares)[:-1], rng.random(n) * 100, side="right")
        return np.array(self.sizes, np.int64)[chosen]

    def fit(self, room: int) -> int:
        return max((size for size in self.sizes if size <= room), default=0)
