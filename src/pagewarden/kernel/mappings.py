"""How many mappings this process may still have: what splits them stops before none is left for a thread's stack."""

import errno
from contextlib import suppress

from pagewarden.kernel.causes import CallFailed

RESERVE = 1024
"""Mappings that are left to the rest of the process, at least: threads, allocators, the way back."""


class Mappings:
    """An upper bound of the mappings in use, measured again (/proc/self/maps) whenever it meets the limit."""

    def __init__(self) -> None:
        self.limit = 65530  # mm/mmap.c, DEFAULT_MAX_MAP_COUNT
        with suppress(OSError), open("/proc/sys/vm/max_map_count") as value:
            self.limit = int(value.read())
        self._bound = self.limit

    def take(self, count: int, call: str) -> None:
        """The call will add at most so many; CallFailed(ENOMEM) when too few would be left."""
        self._bound += count
        if self._bound > self.limit - RESERVE:
            self._bound = used() + count
            if self._bound > self.limit - RESERVE:
                self._bound -= count
                raise CallFailed(call, errno.ENOMEM)


def used() -> int:
    """Mappings of this process now; 0 where /proc does not say."""
    with suppress(OSError), open("/proc/self/maps", "rb") as lines:
        return sum(1 for _ in lines)
    return 0


MAPPINGS = Mappings()
