"""ProgressBars on standard error, on a terminal only; and for whoever watches the console of a machine."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

ELSEWHERE = "PAGEWARDEN_PROGRESS"
"""The environment variable that names a file for lines such as `pagewarden: 3 of 7`."""
PACE = 1.0
"""Seconds between two such lines at least."""


class ProgressBars:
    """A bar for each thing that is counted: progress(what, done, total). Silent when standard error is no terminal."""

    def __init__(self) -> None:
        self._file, self._next = os.environ.get(ELSEWHERE), 0.0
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> "ProgressBars":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._file and time.monotonic() >= self._next:
            self._next = time.monotonic() + PACE
            with suppress(OSError), open(self._file, "w") as file:
                file.write(f"pagewarden: {done} of {total}\n")
        if not sys.stderr.isatty():
            return
        if self._bars is None:
            from rich.console import Console
            from rich.progress import Progress as Bars

            self._bars = Bars(console=Console(stderr=True), transient=True)
            self._bars.start()
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)

    def of(self, what: str) -> Callable[[int, int], None]:
        """The same for one thing."""
        return lambda done, total: self(what, done, total)
