"""Sizes of pages, and the half-open range of pages."""

from collections.abc import Iterable
from dataclasses import dataclass

PAGE_SIZE = 4096
"""Bytes of a base page (x86-64, and arm64 with a 4 KiB granule)."""
HUGE_PAGE = 2 << 20
"""Bytes of a PMD-sized page."""


@dataclass(frozen=True, slots=True, order=True)
class PageRange:
    """Pages start <= p < stop, counted in pages of the memory they index."""

    start: int
    stop: int

    @property
    def count(self) -> int:
        """Number of pages; 0 when empty."""
        return self.stop - self.start

    def checked(self, pages: int) -> "PageRange":
        """This range, if it lies in a memory of so many pages; ValueError says how it does not."""
        if not 0 <= self.start <= self.stop <= pages:
            raise ValueError(f"pages [{self.start}, {self.stop}) do not lie in a memory of {pages} pages")
        return self

    @classmethod
    def covering(cls, offset: int, length: int, page: int = PAGE_SIZE) -> "PageRange":
        """The pages that hold the bytes offset <= b < offset + length."""
        return cls(offset // page, -(-(offset + length) // page))

    @classmethod
    def inside(cls, offset: int, length: int, size: int) -> "PageRange":
        """The same of bytes that must lie in a memory of so many; ValueError says how they do not."""
        if not 0 <= offset <= offset + length <= size:
            raise ValueError(f"bytes [{offset}, {offset + length}) do not lie in a memory of {size} bytes")
        return cls(offset // PAGE_SIZE, -(-(offset + length) // PAGE_SIZE))

    @classmethod
    def runs(cls, pages: Iterable[int]) -> "list[PageRange]":
        """Page numbers in ascending order, as contiguous ranges."""
        found: list[PageRange] = []
        for page in pages:
            first = found.pop().start if found and found[-1].stop == page else page
            found.append(cls(first, page + 1))
        return found
