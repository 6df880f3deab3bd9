"""What the benchmarks share: medians of several runs, side by side, as ratios."""

import statistics
import time
from collections.abc import Callable
from typing import Any


def median(run: Callable[[], Any], times: int = 5) -> float:
    """Seconds of the middle one of several runs, after one that is not counted."""
    run()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def once(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result of one run, for what is too slow to repeat."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def row(*cells: object, widths: tuple[int, ...] = (28, 14, 14, 14, 14)) -> None:
    """A line of a table: the first cell to the left, the others to the right."""
    texts = [cell if isinstance(cell, str) else f"{cell:,.3g}" for cell in cells]
    print(texts[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(texts[1:], widths[1:], strict=False)))
