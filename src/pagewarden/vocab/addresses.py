"""Addresses as distinct types, and the half-open range of pages."""

from dataclasses import dataclass
from typing import NewType

PAGE_SIZE = 4096
"""Bytes of a base page (x86-64, and arm64 with a 4 KiB granule)."""
HUGE_PAGE = 2 << 20
"""Bytes of a PMD-sized page."""

Gpa = NewType("Gpa", int)
"""Guest physical address, bytes."""
Gfn = NewType("Gfn", int)
"""Guest frame number: gpa / PAGE_SIZE."""
Hva = NewType("Hva", int)
"""Host virtual address, bytes."""
Pfn = NewType("Pfn", int)
"""Host page frame number."""


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
