"""The faults of one VMM, answered from a snapshot: in a process of its own, which another can take over at any point.

What must outlive it lies in a file that its successor maps: which units the VMM has removed (a balloon), and whether a
message was being read, which says that such a removal may be lost: then nobody goes on, for old bytes would come back.
A fault that was read and not answered is not lost: the successor wakes who waits, and they fault again.
"""

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pagewarden.abi import uffd
from pagewarden.keep.handover import HandedRegion
from pagewarden.keep.source import PageSource
from pagewarden.kernel.door import Descriptor, memfd, readable
from pagewarden.kernel.region import Region
from pagewarden.kernel.uffd import Userfault
from pagewarden.vocab import HUGE_PAGE, PAGE_SIZE
from pagewarden.vocab.runs import in_runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

READING, FAULTS, PAGES, AHEAD_PAGES, REMOVED_PAGES, RETRIED, REFUSED_PAGES, RESIDENT_PAGES = range(8)
"""Words of the ledger: the first a state, the last what is so now, the others counts."""
COUNTS = {
    "faults": FAULTS, "pages": PAGES, "pages_ahead": AHEAD_PAGES, "pages_removed": REMOVED_PAGES, "retried": RETRIED,
    "pages_refused": REFUSED_PAGES,
}  # fmt: skip
SAVED_UNIT, REMOVED_UNIT, THERE_UNIT = range(3)
TOGETHER = 16
"""Pages that come at a fault, where those after it have not come yet."""
STEP = 64
"""Pages that come ahead of use in one step."""


class PagerLedger:
    """A page of words, and a byte for each unit of the regions, in a memory file that forked processes share."""

    def __init__(self, units: int) -> None:
        size = PAGE_SIZE + -(-units // PAGE_SIZE) * PAGE_SIZE
        self._file: Descriptor = memfd("pagewarden-keep", size)
        self._region = Region(size)
        self._region.place(self._file.fd)
        self.words = np.frombuffer(self._region.memory[:PAGE_SIZE], np.int64)
        self.units = np.frombuffer(self._region.memory[PAGE_SIZE : PAGE_SIZE + units], np.uint8)

    def counts(self) -> dict[str, int]:
        return {name: int(self.words[word]) for name, word in COUNTS.items()}

    @property
    def resident(self) -> int:
        """Pages of the snapshot that are there now."""
        return int(self.words[RESIDENT_PAGES])

    def close(self) -> None:
        """Give everything back. Twice is once."""
        del self.words, self.units
        self._region.close()
        self._file.close()


class HopelessPager(Exception):
    """No right answer can be given any more; the VM is ended."""


class Pager:
    """One VMM's faults. Nothing is installed but what the source said is right, or zeroes for what was removed."""

    def __init__(
        self, fault: Userfault, regions: Sequence[HandedRegion], source: PageSource, ledger: PagerLedger,
        limit: int | None = None,
    ) -> None:  # fmt: skip
        """limit: pages of the snapshot that may be there for more to come than those that are asked for. (What is there
        only the VMM can give back: process_madvise(2) removes nothing from another process.)"""
        self._fault, self._source, self._ledger, self._limit = fault, source, ledger, limit
        self._regions = sorted(regions, key=lambda each: each.base_host_virt_addr)
        self._starts = np.array([each.base_host_virt_addr for each in self._regions], np.int64)
        self._unit = regions[0].unit
        sizes = [each.size // self._unit for each in self._regions]
        self._firsts = np.cumsum([0, *sizes[:-1]])
        self._late: list[int] = []
        self._zeroes = np.zeros(HUGE_PAGE if self._unit == HUGE_PAGE else 0, np.uint8)
        self.order: list[int] = []
        """Pages of the snapshot that were asked for, in order."""
        self.ahead: NDArray[np.int64] = np.zeros(0, np.int64)
        """The same of another run: they come while nobody waits."""

    def run(self, ended: int) -> None:
        """Until the VMM has ended, which is when `ended` (a pidfd) can be read. HopelessPager."""
        for region in self._regions:  # who was asked for by a pager that is no more asks again
            self._fault.wake(region.base_host_virt_addr, region.size)
        try:
            while ended not in readable(
                [self._fault.fd, ended], 0 if len(self.ahead) else 1e-3 if self._late else None
            ):
                self._read()
                self._serve()
                if len(self.ahead) and not self._late:
                    self._step_ahead()
        except OSError as error:
            if error.errno != errno.ESRCH:  # the address space is gone, and its process is going
                raise HopelessPager(f"{error.strerror or error} while a page was put in place") from error

    def _read(self) -> None:
        """What has happened: removals are known before any page is put in place."""
        words = self._ledger.words
        words[READING] = 1
        messages = self._fault.messages()
        for event, start, end, _ in messages:
            if event == uffd.UFFD_EVENT_REMOVE:
                self._removed(start, end)
            elif event != uffd.UFFD_EVENT_PAGEFAULT:
                raise HopelessPager(f"the VMM's memory changed in a way that was not handed over (event {event:#x})")
        words[READING] = 0
        faults = [
            address // self._unit * self._unit
            for event, _, address, _ in messages
            if event == uffd.UFFD_EVENT_PAGEFAULT
        ]
        words[FAULTS] += len(faults)
        self._late += faults

    def _removed(self, start: int, end: int) -> None:
        for region, first in zip(self._regions, self._firsts.tolist(), strict=True):
            low = max(start - region.base_host_virt_addr, 0) // self._unit
            high = min(end - region.base_host_virt_addr, region.size) // self._unit
            if low < high:
                part, each = self._ledger.units[first + low : first + high], self._unit // PAGE_SIZE
                self._ledger.words[RESIDENT_PAGES] -= int((part == THERE_UNIT).sum()) * each
                self._ledger.words[REMOVED_PAGES] += (high - low) * each
                part[:] = REMOVED_UNIT

    def _room(self, pages: int) -> int:
        """How many of them may come unasked."""
        if self._limit is None:
            return pages
        return max(0, min(pages, self._limit - self._ledger.resident))

    def _serve(self) -> None:
        """Answer who waits. Where the kernel says EAGAIN a removal waits to be read: those left come after it."""
        late, self._late = self._late, []
        for k, address in enumerate(late):
            try:
                self._answer(address)
            except BlockingIOError:
                self._ledger.words[RETRIED] += 1
                self._late = late[k:]
                return

    def _answer(self, address: int) -> None:
        k = int(np.searchsorted(self._starts, address, "right")) - 1
        at = address - int(self._starts[k])
        if k < 0 or at >= self._regions[k].size:
            raise HopelessPager(f"a page was touched that was not handed over, at {address:#x}")
        unit = at // self._unit
        states = self._ledger.units[self._firsts[k] + unit : self._firsts[k] + self._regions[k].size // self._unit]
        if states[0] != SAVED_UNIT:  # one that came, and is not there: it was dropped unsaid, and is zeroes as well
            self._zero(address)
            return
        count = 1
        if self._unit == PAGE_SIZE:
            others = np.flatnonzero(states[1:TOGETHER] != SAVED_UNIT)
            count += self._room(int(others[0]) if len(others) else len(states[1:TOGETHER]))
        self.order.append((self._regions[k].offset + at) // PAGE_SIZE)
        self._put(k, unit, count, asked=True)

    def _zero(self, address: int) -> None:
        try:
            if self._unit == PAGE_SIZE:
                self._fault.zero(address, PAGE_SIZE)
            else:  # there is no zero page of that size (mm/userfaultfd.c, userfaultfd_zeropage: EINVAL)
                self._fault.copy(address, self._zeroes.ctypes.data, self._unit)
        except FileExistsError:
            self._fault.wake(address, self._unit)

    def _put(self, k: int, unit: int, count: int, asked: bool) -> None:
        """Units of region k from the source, as many as come; BlockingIOError."""
        region = self._regions[k]
        address, length = region.base_host_virt_addr + unit * self._unit, count * self._unit
        where, right, why = self._source.fetch(region.offset + unit * self._unit, length)
        done = right // self._unit * self._unit
        if done:
            try:
                done = self._fault.copy(address, where, done)
            except FileExistsError:
                done = self._unit
                self._fault.wake(address, done)
            first = int(self._firsts[k]) + unit
            self._ledger.units[first : first + done // self._unit] = THERE_UNIT
            self._ledger.words[PAGES] += done // PAGE_SIZE
            self._ledger.words[RESIDENT_PAGES] += done // PAGE_SIZE
        elif asked:
            self._ledger.words[REFUSED_PAGES] += 1
            try:
                self._fault.poison(address, self._unit)
            except OSError as error:
                raise HopelessPager(f"{why} (page {(region.offset // PAGE_SIZE) + unit})") from error

    def _step_ahead(self) -> None:
        if not (room := self._room(STEP)):
            self.ahead = self.ahead[:0]
            return
        pages, self.ahead = self.ahead[:room], self.ahead[room:]
        for k, region in enumerate(self._regions):
            inside = (pages - region.offset // PAGE_SIZE) * PAGE_SIZE // self._unit
            units = np.unique(inside[(inside >= 0) & (inside < region.size // self._unit)])
            units = units[self._ledger.units[self._firsts[k] + units] == SAVED_UNIT]
            try:
                for start, stop in in_runs(units):
                    before = int(self._ledger.words[PAGES])
                    self._put(k, start, stop - start if self._unit == PAGE_SIZE else 1, asked=False)
                    self._ledger.words[AHEAD_PAGES] += int(self._ledger.words[PAGES]) - before
            except BlockingIOError:
                self.ahead = np.concatenate([pages, self.ahead])
                return
