"""How far something is and how fast it goes while it is done: a line on a terminal, and what a page draws of it."""

import time
from typing import TextIO, TypeAlias

Point: TypeAlias = tuple[float, int, int]
"""Seconds, and two numbers then."""
MOST = 1000
"""Points of a course."""


class LiveLine:
    """Written over about once a second; what is said beside it stays above."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._then, self._done = out, time.monotonic(), 0

    def rate(self, done: int) -> float:
        """A second, since the last call."""
        now = time.monotonic()
        rate = (done - self._done) / max(now - self._then, 1e-3)
        self._then, self._done = now, done
        return rate

    def show(self, what: str) -> None:
        """In place of what is there."""
        print(f"\r\x1b[K{what}", end="", file=self._out, flush=True)

    def say(self, what: str) -> None:
        """A line that stays."""
        self.show(f"{what}\n")


class Course:
    """Numbers over time: about a point a second, fewer the longer it takes, and the last one in any case."""

    def __init__(self) -> None:
        self._began, self._apart = time.monotonic(), 1.0
        self.points: list[Point] = []

    def add(self, one: int, other: int) -> None:
        """What they are now."""
        point = (time.monotonic() - self._began, one, other)
        if len(self.points) > 1 and self.points[-1][0] - self.points[-2][0] < self._apart:
            self.points[-1] = point
            return
        self.points.append(point)
        if len(self.points) > MOST:
            self.points, self._apart = self.points[::2], self._apart * 2
