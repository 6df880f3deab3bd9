"""The stage-2 table of an emulated guest: what it may do with each of its pages. CPUs cache what they read of it."""

from collections.abc import Callable

import numpy as np

from pagewarden.vocab import PageRange

NONE, READ, WRITE, EXECUTE = 0, 1, 2, 4
ALL = READ | WRITE | EXECUTE


class Stage2:
    """Permissions by gfn, an array of `pages` bytes. All vCPUs of a guest share one.

    A permission that was taken away stays usable on a CPU that has cached it until `flush`, as on hardware: leaving
    the flush out is the missing-TLBI bug.
    """

    def __init__(self, pages: int, permissions: int = ALL) -> None:
        self.permissions = np.full(pages, permissions, dtype=np.uint8)
        self.flushes = 0
        self._caches: list[Callable[[], None]] = []

    def set(self, pages: PageRange, permissions: int) -> None:
        """Change the table alone. ValueError outside the memory."""
        pages.checked(len(self.permissions))
        self.permissions[pages.start : pages.stop] = permissions

    def flush(self) -> None:
        """Forget every cached translation on every CPU (a TLB shootdown)."""
        self.flushes += 1
        for forget in self._caches:
            forget()

    def attach(self, forget: Callable[[], None]) -> None:
        """A CPU that caches translations, and how to make it forget them."""
        self._caches.append(forget)

    def detach(self, forget: Callable[[], None]) -> None:
        """The CPU is gone."""
        self._caches.remove(forget)
