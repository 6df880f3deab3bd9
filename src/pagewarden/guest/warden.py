"""The hypervisor's part in a guest's run: converts pages of its private memory at its word, and trusts none of it."""

import errno
import struct
from collections import Counter
from collections.abc import Callable, Sequence

from pagewarden.guest.hypercalls import Number, decode
from pagewarden.guest.layout import RECENT_HEAD
from pagewarden.guest.program import IOPTE_VALID, Act, Program
from pagewarden.port import Memory
from pagewarden.vocab import PAGE_SIZE, PageRange, Refused


class Warden:
    """Answers the guest programs that run in one memory; serve.Hypervisor.

    `notify` is called with a queue's number at its doorbell, and returns when the device has used what was posted.
    calls counts well-formed hypercalls by number; log holds (value, value) of each LOG, the last 1000; host_error is
    the first no of the host's kernel to a conversion.
    """

    def __init__(self, memory: Memory, programs: Sequence[Program], notify: Callable[[int], None]) -> None:
        self.memory, self.notify = memory, notify
        self.calls: Counter[int] = Counter()
        self.doorbells = self.taken_up = 0
        self.log: list[tuple[int, int]] = []
        self.host_error: OSError | None = None
        self._recent = {p.queue: _RecentEntries(memory, p) for p in programs if Act.MAP in p.steps}

    def hypercall(self, number: int, arguments: tuple[int, int, int]) -> int:
        """0, or a negative errno; a refused call changes nothing."""
        try:
            call = decode(number, arguments, self.memory.size // PAGE_SIZE)
            self.calls[call.number] += 1
            if call.number is Number.SHARE:
                self.memory.share(call.pages)
            elif call.number is Number.UNSHARE:
                self.memory.unshare(call.pages)
            elif call.number is Number.LOG:
                self.log = [*self.log[-999:], call.values[:2]]
        except Refused as refusal:
            if self.host_error is None and isinstance(refusal.__cause__, OSError):
                self.host_error = refusal.__cause__
            return -refusal.errno
        return 0

    def resume(self, taken_up: int) -> None:
        """Go on with one guest that was paused when a warden before this one had taken up so many entries."""
        self.taken_up = taken_up
        for recent in self._recent.values():
            recent.seen = taken_up

    def doorbell(self, queue: int) -> None:
        """While the exit is handled anyway: take up new I/O page-table entries, then tell the device."""
        self.doorbells += 1
        if queue in self._recent:
            self.taken_up += self._recent[queue].take_up()
        self.notify(queue)


class _RecentEntries:
    """The ring in which a guest lists I/O page-table entries that it wrote (LKML, 5 April 2022, virtual IOMMU)."""

    def __init__(self, memory: Memory, described: Program) -> None:
        self._memory, self._layout = memory, described.layout
        self.seen = 0

    def take_up(self) -> int:
        """Share the pages of the entries added since last time; how many. Refused when the guest wrote nonsense.

        Ring and table are copied once, and the copies judged: the guest may write on meanwhile.
        """
        layout = self._layout
        (head,) = self._words(layout.recent, 1)
        new = head - self.seen
        if not 0 <= new <= layout.recent_entries:
            raise Refused(errno.EINVAL, f"{new} new entries in a ring of {layout.recent_entries}", layout.recent)
        if new:
            for run in PageRange.runs(sorted(set(self._pages(self._listed(new))))):
                self._memory.share(run)
        self.seen = head
        return new

    def _listed(self, new: int) -> list[int]:
        """The next entries of the ring: indices into the I/O page table, checked."""
        layout, first = self._layout, self.seen % self._layout.recent_entries
        fit = min(new, layout.recent_entries - first)
        ring = layout.recent + RECENT_HEAD
        listed = [*self._words(ring + 8 * first, fit), *self._words(ring, new - fit)]
        if max(listed) >= layout.data_pages:
            raise Refused(errno.ERANGE, f"I/O page-table entry {max(listed)} of {layout.data_pages}", ring)
        return listed

    def _pages(self, listed: list[int]) -> list[int]:
        """The pages that these entries of the I/O page table lead to, checked."""
        first, pages = min(listed), self._memory.size // PAGE_SIZE
        table = self._words(self._layout.iopt + 8 * first, max(listed) - first + 1)
        found = []
        for index in listed:
            gfn, valid = divmod(table[index - first], PAGE_SIZE)
            if valid != IOPTE_VALID or gfn >= pages:
                raise Refused(
                    errno.EINVAL, f"I/O page-table entry {table[index - first]:#x}", self._layout.iopt + 8 * index
                )
            found.append(gfn)
        return found

    def _words(self, gpa: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}Q", self._memory.window.read(gpa, 8 * count)) if count else ()
