"""The hypervisor's part in a guest's run: converts pages of its private memory at its word, and trusts none of it."""

import errno
from collections import Counter
from collections.abc import Callable, Sequence

from pagewarden.guest.hypercalls import Number, decode
from pagewarden.guest.layout import RECENT_HEAD
from pagewarden.guest.program import IOPTE_VALID, Program, Step
from pagewarden.port import Memory
from pagewarden.vocab import PAGE_SIZE, PageRange, Refused


class Warden:
    """Answers the guest programs that run in one memory; serve.Hypervisor.

    `notify` is called with a queue's number at its doorbell, and returns when the device has used what was posted.
    calls counts well-formed hypercalls by number; log holds (value, value) of each LOG, the last 1000.
    """

    def __init__(self, memory: Memory, programs: Sequence[Program], notify: Callable[[int], None]) -> None:
        self.memory, self.notify = memory, notify
        self.calls: Counter[int] = Counter()
        self.doorbells = self.taken_up = 0
        self.log: list[tuple[int, int]] = []
        self._recent = {p.queue: _RecentEntries(memory, p) for p in programs if Step.MAP in p.steps}

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
            return -refusal.errno
        return 0

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
        self._seen = 0

    def take_up(self) -> int:
        """Share the pages of the entries added since last time; how many. Refused when the guest wrote nonsense."""
        layout = self._layout
        head = self._word(layout.recent)
        new = head - self._seen
        if not 0 <= new <= layout.recent_entries:
            raise Refused(errno.EINVAL, f"{new} new entries in a ring of {layout.recent_entries}", layout.recent)
        pages = sorted({self._page(number) for number in range(self._seen, head)})
        self._seen = head
        for run in _runs(pages):
            self._memory.share(run)
        return new

    def _page(self, number: int) -> int:
        """The page that an entry of the ring leads to."""
        layout = self._layout
        place = layout.recent + RECENT_HEAD + 8 * (number % layout.recent_entries)
        index = self._word(place)
        if index >= layout.data_pages:
            raise Refused(errno.ERANGE, f"I/O page-table entry {index} of {layout.data_pages}", place)
        entry = self._word(layout.iopt + 8 * index)
        gfn, valid = divmod(entry, PAGE_SIZE)
        if valid != IOPTE_VALID or gfn >= self._memory.size // PAGE_SIZE:
            raise Refused(errno.EINVAL, f"I/O page-table entry {entry:#x}", layout.iopt + 8 * index)
        return gfn

    def _word(self, gpa: int) -> int:
        return int.from_bytes(self._memory.window.read(gpa, 8), "little")


def _runs(pages: Sequence[int]) -> list[PageRange]:
    """Sorted page numbers as ranges."""
    runs: list[PageRange] = []
    for page in pages:
        if runs and runs[-1].stop == page:
            runs[-1] = PageRange(runs[-1].start, page + 1)
        else:
            runs.append(PageRange(page, page + 1))
    return runs
