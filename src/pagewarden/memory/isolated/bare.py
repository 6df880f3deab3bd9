"""Parts of a host side's window that are shared from its start on: they answer without having been opened page by page,
so that nothing is allocated which nobody touches.

Their guard stands aside: registered for protection alone, where nothing is protected, it stops no touch, and
UFFDIO_CONTINUE still reaches the pages. It is put back, piece by piece, before the first page of one is taken away.
"""

from pagewarden.kernel.region import Region
from pagewarden.kernel.uffd import Userfault
from pagewarden.memory.backings.uffd_window import PIECES, share_window
from pagewarden.vocab import HUGE_PAGE, PAGE_SIZE


class BareParts:
    """The parts of one host side's window, by where its guard is and where it starts. Its owner serializes everything.

    What is listed may be open without a page of it having been mapped; what is not is guarded. So a part is listed
    before it is opened, and goes from the list after it was shut, whatever comes between.
    """

    def __init__(self, guard: Userfault, address: int, guest: Region, modes: tuple[int, int]) -> None:
        """modes: the guard's when it stands aside, and when it does not."""
        self._guard, self._address, self._guest = guard, address, guest
        self._aside, self._guarding = modes
        self._size, self._parts = guest.size, list[tuple[int, int]]()
        self._piece = max(HUGE_PAGE, -(-guest.size // PIECES // PAGE_SIZE) * PAGE_SIZE)
        """Bytes that are shut at once: the borders between must not use up the process's mappings."""

    def open(self, runs: list[tuple[int, int]]) -> None:
        """Let runs (offset, end in bytes) answer; OSError. With very many of them the rest is opened page by page."""
        self._parts = runs[:PIECES]
        shut = 0
        for start, end in self._parts:
            self._guard.register(self._address + start, end - start, self._aside)
            self._shut(shut, start)
            shut = end
        self._shut(shut, self._size)
        for start, end in runs[PIECES:]:
            share_window(self._guard, self._address, self._guest, start, end - start)

    def shut(self, offset: int, length: int) -> None:
        """Guard the pieces that the range touches. What else of them is shared stays so, page by page; OSError, and all
        is open still."""
        end = offset + length
        for start, stop in [part for part in self._parts if part[0] < end and offset < part[1]]:
            first = max(start, offset // self._piece * self._piece)
            last = min(stop, -(-end // self._piece) * self._piece)
            for a, b in ((first, offset), (end, last)):
                if a < b:
                    share_window(self._guard, self._address, self._guest, a, b - a)
            self._shut(first, last)
            left = [(a, b) for a, b in ((start, first), (last, stop)) if a < b]
            self._parts = [part for part in self._parts if part != (start, stop)] + left

    def _shut(self, start: int, end: int) -> None:
        if start < end:
            self._guard.register(self._address + start, end - start, self._guarding)
