"""A memfd mapped twice, the host's view read- and write-protected by userfaultfd (Linux 7.3): the special mapping that
the mail of 5 April 2022 asks for, where nothing is mapped or unmapped at a conversion."""

import errno
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pagewarden.kernel.region import Region
from pagewarden.kernel.uffd import RWP_FEATURES, RWP_GUARD, Userfault
from pagewarden.memory.backings.protocol import backing
from pagewarden.memory.backings.uffd_window import PATIENCE, UffdWindow, share_window
from pagewarden.vocab import PAGE_SIZE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pagewarden.memory import batch

SHUT, OPEN = 1, 2
"""What the window's page table has of a page, as far as is known; 0 says nothing."""
SHUTTING = bytes.maketrans(bytes([OPEN]), bytes([SHUT]))


class ProtectedWindow:
    """The pages of one window, opened and shut by protection. Its owner serializes everything.

    An entry is made at the first share, by UFFDIO_CONTINUE; protection is of entries that are there, so the other modes
    guard the rest: holes, and what reclaim, a punch or madvise(DONTNEED) took out of the page table.
    """

    def __init__(self, guard: Userfault, address: int, guest: Region, stays: Callable[[int, int], bool]) -> None:
        """address: where it starts. stays(offset, length): does what has been mapped there stay mapped?"""
        self.entries = bytearray(guest.size // PAGE_SIZE)
        self._allow, self._forbid = guard.protector(address, False), guard.protector(address, True)
        self._map, self._stays = partial(share_window, guard, address, guest), stays

    def open(self, offset: int, length: int) -> None:
        """Pages that were open already are looked after as well: whoever asks may have found the entry gone. OSError,
        some perhaps done."""
        first, stop = offset // PAGE_SIZE, (offset + length) // PAGE_SIZE
        there = self.entries.count(SHUT, first, stop) == stop - first
        try:
            self._allow(offset, length)
        except OSError as error:
            _again(error, self._allow, offset, length)
        if not there or not self._stays(offset, length):
            self._map(offset, length)
        self.entries[first:stop] = bytes((OPEN,)) * (stop - first)

    def shut(self, offset: int, length: int) -> None:
        """Nothing of it answers any more; OSError, and nothing has changed."""
        try:
            self._forbid(offset, length)
        except OSError as error:
            _again(error, self._forbid, offset, length)
        first, stop = offset // PAGE_SIZE, (offset + length) // PAGE_SIZE
        self.entries[first:stop] = self.entries[first:stop].translate(SHUTTING)

    def forget(self, offset: int, length: int) -> None:
        """The pages are gone from the file, and their entries with them."""
        self.entries[offset // PAGE_SIZE : (offset + length) // PAGE_SIZE] = bytes(length // PAGE_SIZE)


WHY = "every page has its own guard, and one call opens or shuts it where it is"


@backing(
    "uffd-rwp",
    25,
    {"any": WHY, "kvm": WHY, "emulated": WHY, "host": WHY},
    stops="touches of the window, system calls that are given its addresses, new pins, a forked child",
    leaves="what uffd-window leaves: whoever may read this process, and pins that were taken while a page was shared",
)
class UffdRwp(UffdWindow):
    """As UffdWindow, but a page that is taken back stays in the host's page table, without permission (PROT_NONE): one
    UFFDIO_RWPROTECT shuts a range, one opens it, and no entry goes (mm/userfaultfd.c, mrwprotect_range). GUP, which
    passes by PROT_NONE elsewhere, faults on such an entry (mm/gup.c, gup_can_follow_protnone).
    """

    name = "uffd-rwp"
    modes, features = RWP_GUARD, RWP_FEATURES

    def _ways(self) -> tuple[Callable[[int, int], None], Callable[[int, int], None]]:
        self._protected = ProtectedWindow(
            self.guard,
            self.window.address,
            self.guest,
            lambda offset, length: self._locked or self.window.is_mapped(offset, length),
        )
        return self._protected.open, self._protected.shut

    def compiled(self, shared: bytearray, ranges: "NDArray[np.int64]", to: int) -> tuple[int, int, int]:
        """See protocol.Compiled; the first call loads the compiler."""
        from pagewarden.memory import batch

        if self._bare or not self._locked:
            return 0, 0, 0
        return batch.protect(self.guard.fd, self.window.address, self._protected.entries, shared, ranges, to)

    def single(self, shared: bytearray, bolts: int) -> "batch.CompiledSingle | None":
        """See protocol.Backing."""
        from pagewarden.memory import batch

        if self._bare or not self._locked:
            return None
        return batch.single(self.guard.fd, self.window.address, self.zap, shared, bolts, self._protected.entries)

    def forget(self, offset: int, length: int) -> None:
        """See ProtectedWindow."""
        self._protected.forget(offset, length)

    def punch(self, offset: int, length: int) -> None:
        self.forget(offset, length)
        super().punch(offset, length)


def _again(error: OSError, act: Callable[[int, int], None], offset: int, length: int) -> None:
    """Once more, and again, while the address space is changing (EAGAIN); OSError."""
    for _ in range(PATIENCE):
        if error.errno != errno.EAGAIN:
            raise error
        try:
            return act(offset, length)
        except OSError as next_error:
            error = next_error
    raise error
