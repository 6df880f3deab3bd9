"""Which pages of a kept memory the guest writes, again and again: by the userfaultfd that the memory has anyway."""

from typing import TYPE_CHECKING

import numpy as np

from pagewarden.abi import uffd
from pagewarden.vocab import PAGE_SIZE
from pagewarden.vocab.runs import in_runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagewarden.kernel.uffd import Userfault


class KeptWrites:
    """Write protection of one guest view, whose pages start at `address`. The kernel's own log (WrittenPages) cannot be
    had there, for a mapping has one userfaultfd; so the first write to a page after each answer waits until the fault
    is answered. The caller has the residence's lock."""

    def __init__(self, fault: "Userfault", address: int, pages: int) -> None:
        self._fault, self._address, self._pages = fault, address, pages
        self._changed: NDArray[np.bool_] | None = None

    @property
    def mode(self) -> int:
        """Of UFFDIO_COPY, for a page that comes as it was."""
        return 0 if self._changed is None else uffd.UFFDIO_COPY_MODE_WP

    def protect(self, start: int, stop: int, on: bool = True) -> None:
        """From now on who writes there waits, or does not any more."""
        self._fault.write_protect(self._address + start * PAGE_SIZE, (stop - start) * PAGE_SIZE, on)

    def bare(self, start: int, stop: int) -> None:
        """Nothing is mapped there, and no mark of protection stays, over which neither UFFDIO_POISON nor, in a private
        mapping, UFFDIO_ZEROPAGE puts anything (mm/userfaultfd.c, mfill_atomic_pte_poison: EEXIST)."""
        self._fault.write_protect(self._address + start * PAGE_SIZE, (stop - start) * PAGE_SIZE, on=False)

    def note(self, start: int, stop: int) -> None:
        """They are not protected, or will not be: they may have been written."""
        if self._changed is not None:
            self._changed[start:stop] = True

    def follow(self, on: bool) -> None:
        """From now on, or not any more."""
        if on or self._changed is not None:
            self._changed = np.zeros(self._pages, np.bool_) if on else None
            self.protect(0, self._pages, on)

    def taken(self) -> "NDArray[np.int64]":
        """Written since the last call; watched again."""
        assert self._changed is not None
        found = np.flatnonzero(self._changed)
        for start, stop in in_runs(found):
            self.protect(start, stop)
        self._changed[found] = False
        return found

    def let(self, start: int, stop: int) -> bool:
        """They are being written, and nobody waits for that. False: nobody follows it."""
        if self._changed is None:
            return False
        self.note(start, stop)
        self.protect(start, stop, on=False)
        return True
