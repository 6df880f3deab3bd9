"""A number that may not be known exactly: between low and high, both possible."""

import math
from typing import NamedTuple


class Interval(NamedTuple):
    """low <= x <= high; exact where they are equal. Sums treat the two sides as independent of each other."""

    low: float
    high: float

    @property
    def exact(self) -> bool:
        return self.low == self.high

    def plus(self, other: "Interval") -> "Interval":
        return Interval(self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> "Interval":
        low, high = sorted((self.low * factor, self.high * factor))
        return Interval(low, high)

    def __str__(self) -> str:
        """Three digits that count: `460`, or `210..390`."""
        return _short(self.low) if self.exact else f"{_short(self.low)}..{_short(self.high)}"


def _short(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
