"""A line on a terminal that says, while something is done, how far it is and how fast it goes."""

import time
from typing import TextIO


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
