"""What is lent of the guest's memory: I/O pages, the pages of the window behind them, since when, and how."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from pagewarden.vhost.hosts import ServeCounts
from pagewarden.vhost.lent import LentWindow
from pagewarden.virtio.placing import OPEN, SHIFT, WRITABLE
from pagewarden.vocab import PAGE_SIZE


@dataclass(slots=True)
class LentPage:
    """A page of the window that is open: by which I/O pages, since when, and whether for writing."""

    writable: bool
    by: set[int] = field(default_factory=set)
    since: float = field(default_factory=time.monotonic)


class Grants:
    """The ledger. It says at least what is open: a page is listed before it is opened, and until it was seen closed.

    Requests of one page share it with what else lies there (a header in the guest's heap), so a page has as many
    reasons to be open as it has I/O pages.
    """

    def __init__(self, counts: ServeCounts) -> None:
        self._counts = counts
        self.entries: dict[int, int] = {}
        """By I/O page: the entry of the device's table (translated)."""
        self.pages: dict[int, LentPage] = {}
        self._ever = set[int]()

    def add(self, window: LentWindow, io_page: int, page: int, writable: bool) -> None:
        """Open the page for this I/O page, as far as it is not; OSError."""
        if (before := self.entries.get(io_page)) is not None and before >> SHIFT != page:
            raise OSError(0, "an I/O page that means another page now was never taken back")
        lent = self.pages.get(page)
        if lent is None:
            lent = self.pages[page] = LentPage(writable)
            self._counts.opened(1)
            self._ever.add(page)
            self._counts.pages_ever = len(self._ever)
            window.open(page * PAGE_SIZE, writable)
        elif writable and not lent.writable:
            lent.writable = True
            window.widen(page * PAGE_SIZE)
        lent.by.add(io_page)
        writable |= bool((before or 0) & WRITABLE)
        self.entries[io_page] = page << SHIFT | OPEN | WRITABLE * writable

    def within(self, first: int, stop: int) -> list[int]:
        """I/O pages of the range that are lent."""
        if stop - first < len(self.entries):
            return [page for page in range(first, stop) if page in self.entries]
        return [page for page in self.entries if first <= page < stop]

    def take_back(self, io_pages: Iterable[int]) -> list[tuple[int, int]]:
        """Forget I/O pages: (I/O page, page that must be closed now, or -1 where another needs it) for each."""
        orders = []
        for io_page in io_pages:
            page = self.entries.pop(io_page) >> SHIFT
            lent = self.pages[page]
            lent.by.discard(io_page)
            orders.append((io_page, -1 if lent.by else page))
        return orders

    def closed(self, pages: Iterable[int]) -> None:
        """These were seen closed."""
        now = time.monotonic()
        for page in pages:
            self._counts.closed(1, now - self.pages.pop(page).since)

    def lost(self) -> None:
        """Nobody has a window any more."""
        self.entries.clear()
        self.closed(list(self.pages))
