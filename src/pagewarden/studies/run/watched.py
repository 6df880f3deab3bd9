"""A memory whose conversions somebody watches."""

from collections.abc import Callable
from typing import TypeAlias

from pagewarden.port import Memory
from pagewarden.vocab import PageRange

Convert: TypeAlias = Callable[[PageRange], None]


class WatchedMemory:
    """port.Memory. watch(verb, pages, convert) calls convert(pages) for each share and unshare."""

    def __init__(self, behind: Memory, watch: Callable[[str, PageRange, Convert], None]) -> None:
        self._behind, self._watch = behind, watch
        self.size, self.backing, self.window = behind.size, behind.backing, behind.window
        self.populate, self.punch, self.is_shared = behind.populate, behind.punch, behind.is_shared
        self.subscribe, self.statistics, self.close = behind.subscribe, behind.statistics, behind.close

    def share(self, pages: PageRange) -> None:
        self._watch("share", pages, self._behind.share)

    def unshare(self, pages: PageRange) -> None:
        self._watch("unshare", pages, self._behind.unshare)
