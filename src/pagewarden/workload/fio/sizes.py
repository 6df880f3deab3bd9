"""How long fio's requests are: a span in steps, or a weighted choice. A fixed size is a span of one."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pagewarden.workload.fio.given import SectionOptions
from pagewarden.workload.fio.sections import Option
from pagewarden.workload.fio.units import by_direction, span, switch, whole
from pagewarden.workload.model import MAX_LENGTH


class Sizes(Protocol):
    """A distribution of request lengths in bytes."""

    @property
    def smallest(self) -> int: ...
    @property
    def largest(self) -> int: ...
    @property
    def mean(self) -> float: ...
    def draw(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]: ...
    def fit(self, room: int) -> int:
        """The longest request that fits into so many bytes; 0 if none does."""


@dataclass(frozen=True, slots=True)
class Span:
    """Lengths from smallest to largest, multiples of step (fio: bs, bsrange; step 1 is bs_unaligned)."""

    smallest: int
    largest: int
    step: int

    @property
    def mean(self) -> float:
        return (self.smallest + self.largest) / 2

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

    @property
    def mean(self) -> float:
        return sum(size * share for size, share in zip(self.sizes, self.shares, strict=True)) / 100

    def draw(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        chosen = np.searchsorted(np.cumsum(self.shares)[:-1], rng.random(n) * 100, side="right")
        return np.array(self.sizes, np.int64)[chosen]

    def fit(self, room: int) -> int:
        return max((size for size in self.sizes if size <= room), default=0)


def sizes_of(options: SectionOptions, reads: int, random: bool) -> tuple[Sizes, Sizes]:
    """Sizes of reads and of writes: bssplit goes before bsrange, and that before bs, wherever they stand (fio 3.33).

    Where only one direction occurs, both are given its sizes. With bs_is_seq_rand the first value is for sequential
    requests of either direction and the second for random ones.
    """
    for key, parse in (("bssplit", _split), ("bsrange", _range), ("bs", _fixed)):
        option = options.given.get(key)
        if option is not None:
            read, write = by_direction(option)
            if switch(options.given.get("bs_is_seq_rand")):
                read = write = write if random else read
            read, write = (read if reads else write), (write if reads < 100 else read)
            return parse(options, option, read), parse(options, option, write)
    return Span(4096, 4096, 4096), Span(4096, 4096, 4096)


def _fixed(options: SectionOptions, option: Option, text: str | None) -> Sizes:
    first = None if text is None else text.partition("-")[0]  # fio 3.33 reads no further in `bs=4k-512k`
    size = 4096 if first is None else whole(option, first, options.kb_base, 1, MAX_LENGTH)
    return Span(size, size, size)


def _range(options: SectionOptions, option: Option, text: str | None) -> Sizes:
    if text is None:
        option.refuse("bsrange as LOW-HIGH[,LOW-HIGH]")
    low, high = span(option, text, options.kb_base, 1, MAX_LENGTH)
    return Span(low, high, 1 if switch(options.given.get("bs_unaligned")) else low)


def _split(options: SectionOptions, option: Option, text: str | None) -> Sizes:
    """SIZE/PERCENT:SIZE/PERCENT...; sizes without a percentage share what is left."""
    sizes, shares = [], []
    for part in (text or "").split(":"):
        size, _, share = part.partition("/")
        sizes.append(whole(option, size, options.kb_base, 1, MAX_LENGTH))
        shares.append(whole(option, share, 1024, 0, 100) if share else None)
    left = 100 - sum(share for share in shares if share is not None)
    open_shares = shares.count(None)
    if left < 0 or (left > 0 and not open_shares):
        option.refuse("percentages that add up to 100")
    return Split(tuple(sizes), tuple(left / open_shares if share is None else float(share) for share in shares))
