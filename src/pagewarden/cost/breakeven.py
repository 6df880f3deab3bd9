"""From which size one design is cheaper than another: in closed form, and by search.

With costs linear in the size, F + n c, zero copy is cheaper than copying for
n > n* = (F_zero - F_copy) / (c_copy - c_zero). Such a size exists only where a unit's copy costs more than its
conversion: "never" is an answer, and so is "always".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias

from pagewarden.cost.interval import Interval

LIMIT = 1 << 28
"""Units looked at; a break-even beyond is none (1 TiB in pages of 4 KiB)."""
CrossingKind: TypeAlias = Literal["always", "from", "until", "never"]


@dataclass(frozen=True, slots=True)
class Crossing:
    """For which sizes n, 1 <= n <= limit, a design is strictly cheaper."""

    kind: CrossingKind
    units: int | None  # `from`: the first such size; `until`: the last; None for always and never

    def __str__(self) -> str:
        return self.kind if self.units is None else f"{self.kind} {self.units}"


@dataclass(frozen=True, slots=True)
class BreakEven:
    """The crossing under the prices that favour the design most, and under those that favour it least."""

    best: Crossing
    worst: Crossing

    @property
    def exact(self) -> bool:
        return self.best == self.worst

    def __str__(self) -> str:
        return str(self.best) if self.exact else f"{self.best} .. {self.worst}"


def closed_form(fixed: Interval, per_unit: Interval, limit: int = LIMIT) -> BreakEven:
    """Break-even of the difference fixed + n per_unit (ns; ours less theirs, so negative is cheaper).

    Get both from `price.difference`, of the counts of a request without its units and of the counts of one unit.
    Exact where no price is in both with opposite signs; otherwise the true range lies within.
    """
    return BreakEven(_closed(fixed.low, per_unit.low, limit), _closed(fixed.high, per_unit.high, limit))


def _closed(fixed: float, per_unit: float, limit: int) -> Crossing:
    f, s = Fraction(fixed), Fraction(per_unit)
    first, last = f + s < 0, f + limit * s < 0
    if first == last:  # linear: no change of sign in between
        return Crossing("always" if first else "never", None)
    crossing = -f / s
    return Crossing("from", math.floor(crossing) + 1) if last else Crossing("until", math.ceil(crossing) - 1)


def search(difference: Callable[[int], Interval], limit: int = LIMIT) -> BreakEven:
    """The same by bisection over whole sizes: difference(n) is ours less theirs in ns for a request of n units.

    Each end of it may change its sign once between 1 and limit; costs linear in n do. Calls difference some 60 times.
    """
    return BreakEven(_search(lambda n: difference(n).low, limit), _search(lambda n: difference(n).high, limit))


def _search(difference: Callable[[int], float], limit: int) -> Crossing:
    first, last = difference(1) < 0, difference(limit) < 0
    if first == last:
        return Crossing("always" if first else "never", None)
    low, high = 1, limit  # the sign at low is that of 1, the sign at high that of limit
    while high - low > 1:
        middle = (low + high) // 2
        if (difference(middle) < 0) == first:
            low = middle
        else:
            high = middle
    return Crossing("until", low) if first else Crossing("from", high)
