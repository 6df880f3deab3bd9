"""Which pages of a clone are its own, which are the template's, and how the one become the other."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np

from pagewarden.abi import uffd
from pagewarden.keep.residence import HOLE, MODES, SAVED, THERE, Residence, alike_bytes
from pagewarden.keep.seal import wipe
from pagewarden.keep.writes import KeptWrites
from pagewarden.kernel.door import punch_hole
from pagewarden.kernel.files import write_at
from pagewarden.memory.backings.uffd_window import share_window
from pagewarden.vocab import PAGE_SIZE, Refused
from pagewarden.vocab.runs import in_runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagewarden.keep.clean_pages import CleanPages
    from pagewarden.kernel.region import Region
    from pagewarden.kernel.uffd import Userfault


class ClonedResidence(Residence):
    """SAVED is a page that is the template's, mapped for reading or not at all; THERE one of this memory alone, in a
    frame of the guest's mapping or, from its first sharing on, in the memory's own file.

    Every touch of a page that has no entry waits (missing and minor faults), so none is read that was not looked at,
    and an entry of the template's frame is write-protected, so no write goes by without a copy here."""

    def __init__(
        self, guest: "Region", file: int, fault: "Userfault", shared: bytearray, template: "CleanPages", locked: bool
    ) -> None:
        super().__init__(guest, file, fault, shared, None, None)
        self._template, self._locked = template, locked
        self._in_file = bytearray(len(shared))
        self._filed = np.frombuffer(self._in_file, np.bool_)
        self._writes = _ClonedWrites(fault, guest.address, self.state)
        self.state[template.manifest.present] = SAVED

    def alike(self, start: int, end: int) -> tuple[int, int]:
        """As of Residence, within one mapping."""
        kind, run = super().alike(start, end)
        return kind, min(run, alike_bytes(self._in_file, start, start + run))

    # -- what is mapped ------------------------------------------------------------------------------------------------

    def _right(self, first: int, count: int) -> tuple[int, Refused | None]:
        """Of pages that are the template's: how many, and what refuses the next."""
        right, why = self._template.bring(first, count)
        return right, Refused(errno.EBADMSG, why, (first + right) * PAGE_SIZE) if why else None

    def _fill(self, kind: int, first: int, count: int) -> None:
        if kind != SAVED:
            self._writes.bare(first, first + count)
            super()._fill(kind, first, count)
            return
        right, refusal = self._right(first, count)
        if right:
            at, length = first * PAGE_SIZE, right * PAGE_SIZE
            mode = uffd.UFFDIO_CONTINUE_MODE_WP
            share_window(self._fault, self._guest.address, self._template.region, at, length, mode)
            self._fault.wake(self._guest.address + at, length)
        if refusal is not None:
            raise refusal

    def for_writing(self, page: int) -> None:
        self._own(page, page + 1)

    def _own(self, start: int, stop: int) -> None:
        """The pages have frames of this memory alone from now on, in the place of the template's."""
        with self.lock:
            for first, end in in_runs(start + np.flatnonzero(self.state[start:stop] == SAVED)):
                right, refusal = self._right(first, end - first)
                if self._hand.mapped(first, first + right).any():
                    self._hand.unmap(first, first + right)
                    self.dropped += 1
                self._install(first, right, self._template.region.address + first * PAGE_SIZE)
                self.came += right
                if refusal is not None:
                    raise refusal

    @contextmanager
    def wanted(self, start: int, stop: int) -> Iterator[None]:
        self._own(start, stop)
        with super().wanted(start, stop):
            yield

    @contextmanager
    def offered(self, start: int, stop: int) -> Iterator[None]:
        with self.wanted(start, stop):
            self._put_into_file(start, stop)
            yield

    def _put_into_file(self, start: int, stop: int) -> None:
        """Writers wait meanwhile; who reads finds the same bytes before and afterwards. Refused with the kernel's
        errno (ENOMEM: the process has as many mappings as it may, vm.max_map_count), and the rest stays as it is."""
        with self.lock:
            for first, end in in_runs(start + np.flatnonzero(~self._filed[start:stop])):
                at, length = first * PAGE_SIZE, (end - first) * PAGE_SIZE
                try:
                    self._writes.protect(first, end)
                    write_at(self._file, self._guest.memory[at : at + length], at)
                    self._guest.place(self._file, offset=at, length=length, at=at)
                    self._guest.keep_to_this_process(at, length)
                    self._fault.register(self._guest.address + at, length, MODES)
                except OSError as error:
                    with suppress(OSError):
                        punch_hole(self._file, at, length)
                        self._writes.protect(first, end, on=False)
                    raise Refused(error.errno or errno.EIO, f"share: {error.strerror}", at) from error
                if self._locked:
                    self._guest.lock_when_touched(at, length)
                self._filed[first:end] = True
                self._writes.note(first, end)
                self._fault.wake(self._guest.address + at, length)

    def send(self, start: int, stop: int) -> int:
        why = "a clone has no swap file: its clean pages are the template's, and go back with it"
        raise Refused(errno.EOPNOTSUPP, why, start * PAGE_SIZE)

    def forget(self, start: int, stop: int) -> None:
        for first, end in in_runs(start + np.flatnonzero(~self._filed[start:stop])):
            self._hand.unmap(first, end)
        super().forget(start, stop)

    def scrub(self) -> None:
        with self.lock:
            for first, end in in_runs(np.flatnonzero((self.state == THERE) & ~self._filed)):
                wipe(self._guest.memory[first * PAGE_SIZE : end * PAGE_SIZE])
            self.forget(0, len(self.state))

    # -- what is in them -----------------------------------------------------------------------------------------------

    def read(self, offset: int, length: int) -> bytes:
        """Bytes as the guest sees them; no page is brought for that but into the template. Refused."""
        parts, end = [], offset + length
        with self.lock:
            while offset < end:
                page = offset // PAGE_SIZE
                kind, run = self.alike(page, -(-end // PAGE_SIZE))
                stop = min(end, (page + run) * PAGE_SIZE)
                if kind == SAVED and (refusal := self._right(page, run)[1]) is not None:
                    raise refusal
                source = self._guest if kind == THERE else self._template.region
                parts.append(bytes(stop - offset) if kind == HOLE else bytes(source.memory[offset:stop]))
                offset = stop
        return b"".join(parts)

    def _fetched(self, kind: int, first: int, count: int, targets: Sequence[memoryview]) -> tuple[int, str]:
        return self._template.read(first, count, targets)


class _ClonedWrites(KeptWrites):
    """Protection is never taken from the template's frames."""

    def __init__(self, fault: "Userfault", address: int, state: "NDArray[np.uint8]") -> None:
        super().__init__(fault, address, len(state))
        self._state = state

    def protect(self, start: int, stop: int, on: bool = True) -> None:
        if on:
            super().protect(start, stop)
            return
        for first, end in in_runs(start + np.flatnonzero(self._state[start:stop] != SAVED)):
            super().protect(first, end, on=False)
