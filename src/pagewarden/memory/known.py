"""What is known of a memory's pages, and what is refused of its caller, before anything changes."""

import threading
from collections.abc import Iterator
from typing import Literal

from pagewarden.kernel.door import pages_of
from pagewarden.memory.backings.protocol import BackingName, Use, Wanted
from pagewarden.memory.bolts import Bolts
from pagewarden.memory.choose import choose
from pagewarden.memory.consumers import Consumers
from pagewarden.memory.conversions import Conversions, runs_of
from pagewarden.memory.isolated.room import Lack
from pagewarden.memory.own_process import OwnProcess
from pagewarden.vocab import Event, PageRange


class KnownPages(OwnProcess):
    """A memory's backing and the ledger of its pages."""

    _closed = True  # until there is something to close

    def __init__(
        self,
        size: int,
        backing: BackingName | str,
        isolated: bool | Literal["best-effort"],
        use: Use,
        shared: bool,
        vm: int | None,
    ) -> None:
        """See PrivateMemory."""
        super().__init__()
        self._pages = pages_of(size)
        self.size = size
        self._backing, self.why = choose(Wanted(size, shared, vm), backing, isolated, use)
        self.backing = self._backing.name
        self.isolated = bool(isolated)
        self._lock, self._bolts = threading.RLock(), Bolts()
        self._state = Conversions(self._backing, self._pages, self._bolts, shared)
        self._consumers = Consumers(self._bolts)
        self._asked, self._lent = self._consumers.present, self._consumers.lent

    @property
    def missing(self) -> tuple[Lack, ...]:
        """What this host does not have of an isolated host side's room, as this process's last one found: the first
        memory starts one that does nothing for that. Empty for a memory that is not isolated."""
        return self._backing.missing

    def is_shared(self, page: int) -> bool:
        """May the host see the page? ValueError outside the memory."""
        if self._state.over is not None or not 0 <= page < self._pages:
            self._range(PageRange(page, page + 1))
        return bool(self._state.shared[page])

    def shared_runs(self) -> Iterator[PageRange]:
        """The pages that the host may see, as contiguous ranges in order."""
        with self._lock, self._bolts:
            self._alive()
            return iter([PageRange(*run) for run in runs_of(self._state.shared, 0, self._pages, 1)])

    def statistics(self) -> dict[str, int]:
        """Counts by event kind since the start, by this library's own ledger: what it asked of the kernel."""
        if self._state.over == self.foreign:
            raise self.foreign()
        counts = self._state.events()
        counts[Event.NOTIFICATIONS] += self._consumers.notifications
        counts[Event.PINS] += self._consumers.pins
        return {event.key: counts[event] for event in Event}

    def _covering(self, offset: int, length: int) -> PageRange:
        pages = PageRange.inside(offset, length, self.size)
        self._alive()
        return pages

    def _range(self, pages: PageRange) -> PageRange:
        self._alive()
        if not isinstance(pages, PageRange):
            raise no_range(pages)
        return pages.checked(self._pages)

    def _alive(self) -> None:
        if self._state.over is not None:
            raise self._state.over()

    def __repr__(self) -> str:
        if self._closed:
            return f"<{type(self).__name__} of {self.size} bytes, {self.backing}, closed>"
        runs = runs_of(self._state.shared, 0, self._pages, 1)
        pages = sum(stop - start for start, stop in runs)
        shown = ", ".join(f"[{start}, {stop})" for start, stop in runs[:4]) + ", .." * (len(runs) > 4)
        return (
            f"<{type(self).__name__} of {self.size} bytes, {self.backing}{', isolated' * self.isolated}: "
            f"{pages} of {self._pages} pages shared{': ' * bool(runs)}{shown}>"
        )


def no_range(pages: object) -> TypeError:
    """What is said of something that is no range, or no ranges."""
    return TypeError(f"pages are a PageRange(start, stop), many are a sequence of those, not {pages!r}"[:200])
