"""Which prices, measured, would settle which design is cheapest; and how exactly each would have to be known."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pagewarden.cost import Interval, Profile
from pagewarden.cost.price import difference_bill
from pagewarden.studies.compare.comparison import Comparison

MOST = 6
"""Prices of which every set is tried; beyond, the widest are taken one by one."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A price to measure: what is known now, in the profile's unit, and by how much what is found may be off."""

    setting: str
    known: Interval
    within: float


@dataclass(frozen=True)
class Decision:
    """rivals: designs that may win beside the cheapest. measure: a smallest set; None: no set settles it, as two of
    them cost the same at the middles; empty: it is settled."""

    cheapest: str | None
    rivals: tuple[str, ...]
    measure: tuple[Measurement, ...] | None


def decide(found: Comparison) -> Decision:
    """What it takes if every price turns out to be at the middle of its range.

    A rival is settled when the widths that are left, half of each price's term in the difference, are less than the
    difference at the middles. `within` is the part of a range that all measured prices may be off by together.
    """
    best = found.cheapest
    totals = {result.name: result.steady for result in found.results}
    rivals = found.rivals
    if best is None or not rivals:
        return Decision(best, (), ())
    profile = found.setup.profile
    bills = [difference_bill(totals[best], totals[rival], profile, found.setup.cache) for rival in rivals]
    names = sorted({term.price.name for terms in bills for term in terms if not term.cost.exact})
    halves = np.zeros((len(rivals), len(names)))
    middles = np.zeros(len(rivals))
    for row, terms in enumerate(bills):
        for term in terms:
            middles[row] += (term.cost.low + term.cost.high) / 2
            if not term.cost.exact:
                halves[row, names.index(term.price.name)] = (term.cost.high - term.cost.low) / 2
    chosen = _smallest(halves, abs(middles))
    if chosen is None:
        return Decision(best, rivals, None)
    left = np.delete(halves, chosen, 1).sum(1)
    measured = halves[:, chosen].sum(1)
    share = float(min((abs(middles) - left)[measured > 0] / measured[measured > 0], default=1.0))
    return Decision(best, rivals, tuple(_measurement(profile, names[at], min(share, 1.0)) for at in chosen))


def _smallest(halves: NDArray[np.float64], apart: NDArray[np.float64]) -> list[int] | None:
    """Columns without which every row's sum is less than what it is held against."""
    order = sorted(range(halves.shape[1]), key=lambda column: -halves[:, column].sum())

    def settles(some: Sequence[int]) -> bool:
        return bool((np.delete(halves, list(some), 1).sum(1) < apart).all())

    for count in range(1, min(MOST, len(order)) + 1):
        fits = [some for some in combinations(order, count) if settles(some)]
        if fits:
            return list(fits[0])
    return next((order[:count] for count in range(MOST, len(order) + 1) if settles(order[:count])), None)


def _measurement(profile: Profile, name: str, share: float) -> Measurement:
    price = profile.prices[name]
    return Measurement(price.setting, price.value, share * (price.value.high - price.value.low) / 2)
