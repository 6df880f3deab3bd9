"""Which pages of a memory are there, which are sealed away, and how they go and come: one lock around all of it."""

import errno
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import numpy as np

from pagewarden.abi import uffd
from pagewarden.keep.hand import ClockHand
from pagewarden.keep.seal import BATCH, Sealer, Slots, cut, wipe
from pagewarden.keep.writes import KeptWrites
from pagewarden.kernel.door import punch_hole
from pagewarden.kernel.region import Region
from pagewarden.vocab import PAGE_SIZE, Refused
from pagewarden.vocab.runs import in_runs, runs_of_pages

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagewarden.keep.snapshot import Snapshot
    from pagewarden.kernel.uffd import Userfault

HOLE, THERE, AWAY, SAVED = range(4)
"""Of a page: nothing but zeroes; resident; in the swap file; in the snapshot that the memory was restored from."""
MODES = uffd.UFFDIO_REGISTER_MODE_MISSING | uffd.UFFDIO_REGISTER_MODE_WP
"""What a guest's view of its own file is registered for."""


def alike_bytes(states: bytearray, start: int, end: int) -> int:
    """How many are as the first, one after the other."""
    part = states[start:end]
    return len(part) - len(part.lstrip(part[:1]))


class Residence:
    """The pages of one guest view, which is registered with `fault` for missing pages and write protection."""

    def __init__(
        self, guest: Region, file: int, fault: "Userfault", shared: bytearray, limit: int | None, swap: Slots | None
    ) -> None:
        """shared: the memory's ledger, a byte a page. limit: pages, of those that are private."""
        self.lock = threading.RLock()
        pages = len(shared)
        self._states = bytearray(pages)
        self.state = np.frombuffer(self._states, np.uint8)
        self.versions = np.zeros(pages, np.uint64)
        """Of the copy in the swap file, one more for each that was begun."""
        self.batch = min(BATCH, limit or BATCH)
        """The most pages that come in one step: fewer where the limit is smaller."""
        self.limit, self.there, self.shared_there = limit, 0, 0
        self.gone = self.came = self.filled = self.dropped = 0
        """Pages that went and came back, pages that were made for any reason, and runs of pages that were dropped."""
        self.around: Callable[[Sequence[tuple[int, int]], Callable[[], None]], None] = lambda runs, go: go()
        """Lets pages go, and tells who else has them before and afterwards; Refused by one of those."""
        self.forgotten: Callable[[int, int], None] = lambda offset, length: None
        """Told of bytes that have left the file, and with it every page table."""
        self.saved: Snapshot | None = None
        self.order: list[int] | None = None
        """The pages that were asked for, in order, while they are recorded."""
        self._guest, self._file, self._fault, self._swap = guest, file, fault, swap
        self._ledger, self._shared = shared, np.frombuffer(shared, np.uint8)
        self._sealer = None if swap is None else Sealer()
        self._wanted: list[tuple[int, int]] = []  # nothing of these goes
        self._writes = KeptWrites(fault, guest.address, pages)
        self._hand = ClockHand(guest)
        self._plain = np.zeros(BATCH * PAGE_SIZE, np.uint8)
        self._pages, self._plain_address = self._plain.data, self._plain.ctypes.data
        self._parts, self._rows = cut(self._pages, PAGE_SIZE), self._plain.reshape(-1, PAGE_SIZE)

    # -- coming --------------------------------------------------------------------------------------------------------

    @contextmanager
    def wanted(self, start: int, stop: int) -> Iterator[None]:
        """The pages are there meanwhile; Refused by page and reason."""
        self._wanted.append((start, stop))
        try:
            self.bring(start, stop)
            yield
        finally:
            self._wanted.remove((start, stop))

    def offered(self, start: int, stop: int) -> AbstractContextManager[None]:
        """The same, and they lie in the file that the host's view is of."""
        return self.wanted(start, stop)

    def bare(self, page: int) -> None:
        """It is not there, and something else than a page can be put in its place; the caller has the lock."""
        self._writes.bare(page, page + 1)

    def for_writing(self, page: int) -> None:
        """The guest waits to write there; the caller has the lock. Refused as of `bring`."""

    def bring(self, start: int, stop: int) -> None:
        """Make the pages resident, zeroes where there was nothing; Refused, those before it are there."""
        with self.lock:
            while start < stop:
                end = min(start + self.batch, stop)
                while start < end:
                    kind, run = self.alike(start, end)
                    if kind != THERE:
                        self.come(kind, start, run, (start, end))
                    start += run

    def come(self, kind: int, first: int, count: int, keep: tuple[int, int]) -> None:
        """The same of pages of one kind, a batch at most, and none of `keep` goes for them; the caller has the lock."""
        if self.limit is not None and self.there - self.shared_there + count > self.limit:
            self._make_room(count, keep)
        self._fill(kind, first, count)

    def alike(self, start: int, end: int) -> tuple[int, int]:
        """The first page's state, and how many are so one after the other."""
        return self._states[start], alike_bytes(self._states, start, end)

    def _fill(self, kind: int, first: int, count: int) -> None:
        if kind == HOLE:
            self._install(first, count, 0)
            return
        try:
            right, why = self._fetched(kind, first, count, self._parts)
            self._install(first, right, self._plain_address)
        finally:
            wipe(self._pages[: count * PAGE_SIZE])
        self.came += right
        if why:
            raise Refused(errno.EBADMSG, why, (first + right) * PAGE_SIZE)

    def _fetched(self, kind: int, first: int, count: int, targets: Sequence[memoryview]) -> tuple[int, str]:
        """Pages that are away, at most BATCH, each into its target: how many are right, and why the next is not."""
        if kind == SAVED:
            assert self.saved is not None
            return self.saved.read(first, count, targets)
        assert self._swap is not None and self._sealer is not None
        return self._swap.fetch(first, self._sealer, first, self.versions[first : first + count], targets)

    def _install(self, first: int, count: int, source: int) -> None:
        """Put whole pages in place at once, from an address, or zeroes; who waits for them goes on."""
        at, end = first, first + count
        while at < end:
            address, length = self._guest.address + at * PAGE_SIZE, (end - at) * PAGE_SIZE
            try:
                if not source:
                    done = self._fault.zero(address, length)
                else:
                    done = self._fault.copy(address, source + (at - first) * PAGE_SIZE, length, self._writes.mode)
            except OSError as error:
                if error.errno == errno.EAGAIN:  # the address space is changing
                    continue
                if error.errno != errno.EEXIST:
                    raise
                self._fault.wake(address, PAGE_SIZE)
                done = PAGE_SIZE
            pages = done // PAGE_SIZE
            self.state[at : at + pages] = THERE
            if not source:
                self._writes.note(at, at + pages)
            self.there += pages
            self.filled += pages
            self.shared_there += self._ledger.count(1, at, at + pages)
            at += pages

    @contextmanager
    def still(self) -> Iterator[None]:
        """No page changes meanwhile by the guest, whose writes wait, nor comes or goes."""
        with self.lock:
            try:
                self._writes.protect(0, len(self.state))
                yield
            finally:
                self._writes.note(0, len(self.state))
                self._writes.protect(0, len(self.state), on=False)

    def follow(self, on: bool) -> None:
        """From now on the pages that are written are noted, or not any more."""
        with self.lock:
            self._writes.follow(on)

    def followed(self) -> "NDArray[np.int64]":
        """What was written since the last call, or may have been; ascending."""
        with self.lock:
            return self._writes.taken()

    def written(self, start: int, stop: int) -> bool:
        """The pages are being written: nobody waits there for that. False: nobody follows it."""
        with self.lock:
            return self._writes.let(start, stop)

    def copy(self, pages: "NDArray[np.int64]", out: memoryview) -> None:
        """What ascending pages hold, wherever they are, at most BATCH that are no holes; they stay where they are.
        Refused by page and reason. The caller has the lock."""
        targets, rows = cut(out, PAGE_SIZE), np.frombuffer(out, np.uint8).reshape(-1, PAGE_SIZE)
        for at, stop in runs_of_pages(pages):
            page = int(pages[at])
            while at < stop:
                kind, run = self.alike(page, page + stop - at)
                if kind == THERE:
                    self._held(np.arange(page, page + run), rows[at : at + run])
                else:
                    right, why = self._fetched(kind, page, run, targets[at : at + run])
                    if why:
                        raise Refused(errno.EBADMSG, why, (page + right) * PAGE_SIZE)
                at, page = at + run, page + run

    def _held(self, pages: "NDArray[np.int64]", rows: "NDArray[np.uint8]") -> None:
        """What pages hold that are there, through no array that keeps the bytes (mode "raise" has one)."""
        np.frombuffer(self._guest.memory, np.uint8).reshape(-1, PAGE_SIZE).take(pages, 0, rows, "clip")

    # -- going ---------------------------------------------------------------------------------------------------------

    @property
    def private_there(self) -> int:
        with self.lock:
            return self.there - self.shared_there

    def _make_room(self, count: int, keep: tuple[int, int] = (0, 0)) -> None:
        """Let pages go until so many more fit; where the file takes none, there are more for the time."""
        self._wanted.append(keep)
        try:
            while self.limit is not None and (over := self.private_there + count - self.limit) > 0:
                pages = self._hand.oldest(min(max(over, self.limit // 8), BATCH), self._may_go)
                if not len(pages) or self._refusal(pages):
                    return
        finally:
            self._wanted.remove(keep)

    def trim(self) -> None:
        """Back under the limit, as far as pages can go."""
        with self.lock:
            self._make_room(0)

    def _may_go(self, start: int, stop: int) -> "NDArray[np.bool_]":
        may: NDArray[np.bool_] = (self.state[start:stop] == THERE) & (self._shared[start:stop] == 0)
        for first, end in list(self._wanted):
            may[max(first - start, 0) : max(end - start, 0)] = False
        return may

    def send(self, start: int, stop: int) -> int:
        """Seal and write what of the pages is private and there; how many. Refused with the errno of the file."""
        if self._swap is None:
            raise Refused(errno.EOPNOTSUPP, "this memory has no swap file: name one, swap=PATH", start * PAGE_SIZE)
        with self.lock:
            pages = start + np.flatnonzero(self._may_go(start, stop))
            for k in range(0, len(pages), BATCH):
                if (error := self._refusal(pages[k : k + BATCH])) is not None:
                    raise error
            return len(pages)

    def _refusal(self, pages: "NDArray[np.int64]") -> Refused | None:
        """Away with them, at most BATCH, ascending, and who else has them is told; or what refuses that: they stay."""
        runs = list(in_runs(pages))
        try:
            self.around(runs, lambda: self._put_away(pages, runs))
        except Refused as refusal:
            return refusal
        return None

    def _put_away(self, pages: "NDArray[np.int64]", runs: list[tuple[int, int]]) -> None:
        """Writers wait, readers do not until the page is away. Refused with the errno of the file."""
        assert self._swap is not None and self._sealer is not None
        try:
            for first, stop in runs:
                self._writes.protect(first, stop)
            self.versions[pages] += np.uint64(1)  # before it is used: a version that failed is not used again
            try:  # at once, and sealed from there: faster than from where they lie
                self._held(pages, self._rows[: len(pages)])
                sealed = self._sealer.seal(pages, self.versions[pages], self._parts)
            finally:
                wipe(self._pages[: len(pages) * PAGE_SIZE])
            try:
                self._swap.put(pages, sealed)
            except OSError as error:
                for first, stop in runs:
                    self._writes.note(first, stop)
                why = f"the swap file takes no page: {error.strerror}"
                raise Refused(error.errno or errno.EIO, why, runs[0][0] * PAGE_SIZE) from error
            for first, stop in runs:
                self.state[first:stop] = AWAY
                self.there -= stop - first
                self.gone += stop - first
                self.dropped += 1
                punch_hole(self._file, first * PAGE_SIZE, (stop - first) * PAGE_SIZE)
                self.forgotten(first * PAGE_SIZE, (stop - first) * PAGE_SIZE)
        finally:
            for first, stop in runs:
                self._writes.protect(first, stop, on=False)

    # -- the ledger ----------------------------------------------------------------------------------------------------

    @contextmanager
    def changing(self, start: int, stop: int) -> Iterator[None]:
        """Pages that are resident, or stay private, change hands meanwhile, by the ledger."""
        part = self._shared[start:stop]
        before = int(np.count_nonzero(part))
        try:
            yield
        finally:
            with self.lock:
                self.shared_there += int(np.count_nonzero(part)) - before

    def adopt(self, saved: "Snapshot", present: "NDArray[np.bool_]") -> None:
        """Pages of a memory that nobody has touched are those of a snapshot."""
        with self.lock:
            self.saved = saved
            self.state[present] = SAVED

    def forget(self, start: int, stop: int) -> None:
        """They are being punched: zeroes from now on. The caller has the lock."""
        part = self.state[start:stop]
        self.there -= int(np.count_nonzero(part == THERE))
        part[:] = HOLE

    def scrub(self) -> None:
        """What lies in frames that the memory's file has not is overwritten, and they go back."""

    def close(self) -> None:
        """Give the files back. Twice is once."""
        for file in (self._hand, self._swap, self.saved):
            if file is not None:
                file.close()

    def forked(self) -> None:
        """In a forked child: the descriptors of the parent's files go, the files stay."""
        if self._swap is not None:
            self._swap.forked()
        self.close()
