"""Ascending page numbers, in arrays, as runs of those that follow each other."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def runs_of_pages(pages: "NDArray[np.int64]") -> "Iterator[tuple[int, int]]":
    """Positions [first, stop) in the pages, of which there is one at least."""
    if len(pages) == 1 or pages[-1] - pages[0] == len(pages) - 1:  # nearly always
        yield 0, len(pages)
        return
    edges = np.flatnonzero(np.diff(pages) != 1) + 1
    yield from zip([0, *edges.tolist()], [*edges.tolist(), len(pages)], strict=True)


def in_runs(pages: "NDArray[np.int64]") -> "Iterator[tuple[int, int]]":
    """The same as page numbers, first and one past the last."""
    for first, stop in runs_of_pages(pages) if len(pages) else ():
        yield int(pages[first]), int(pages[first]) + stop - first
