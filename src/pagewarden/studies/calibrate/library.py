"""The same prices as this library pays them: the warden in Python, calls through the interpreter.

`run` executes this code, so a prediction of its requests needs these prices; a VMM in C pays those of compiled calls.
What the kernel and the processor do (flushes, the rise of a call a page) is timed by compiled code in both cases.
"""

import json
import os
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial

import numpy as np

from pagewarden.guest.hypercalls import Number
from pagewarden.guest.layout import Layout
from pagewarden.guest.program import IOPTE_VALID, Program, program
from pagewarden.guest.warden import Warden
from pagewarden.kernel.door import map_anywhere, memfd, syscall, unmap
from pagewarden.kernel.files import Pipe
from pagewarden.memory import PrivateMemory
from pagewarden.studies.calibrate.sampling import Array, StraightLine, Timed
from pagewarden.studies.calibrate.scripts import LONGEST, SIZES, PriceFound, positive
from pagewarden.studies.run.host_half import HostHalf, Request
from pagewarden.vocab import PAGE_SIZE, PageRange
from pagewarden.vocab.closing import Closing

_TEXT = json.dumps([{"a": [1, 2.5, "b"], "c": {"d": None}}] * 40)
_ROOM = (bytearray(256 << 10), bytearray(256 << 10))


def elsewhere() -> None:
    """Other work, of the interpreter and in memory: between two calls of a request the device does as much, so that
    code and data of each are no longer in the nearest caches. A price that is timed back to back is too low for it."""
    json.loads(_TEXT)
    _ROOM[0][:] = _ROOM[1]


class Calls:
    """sampling.Timed: Python calls in order, each timed on its own after other work; the clock is in it.

    skipped: rounds at first that are not counted. None, where the code is as far away as a request finds it; one, where
    two calls that share code are compared."""

    def __init__(
        self, *calls: Callable[[], object], between: Callable[[], object] = elsewhere, skipped: int = 0
    ) -> None:
        self._calls, self._between, self._skipped = calls, between, skipped

    def time(self, rounds: int) -> list[float]:
        now, spent = time.perf_counter_ns, [0] * len(self._calls)
        for done in range(self._skipped + rounds):
            for i, call in enumerate(self._calls):
                self._between()
                before = now()
                call()
                spent[i] += (now() - before) * (done >= self._skipped)
        return [ns / rounds for ns in spent]


def nothing() -> None:
    """What is timed to know the clock."""


class TimedLibrary(Closing):
    """A warden, a memory with the layout of an iommu guest, and a host half."""

    def __init__(self) -> None:
        with ExitStack() as undo:
            self.program = _iommu_program()
            self.at: Layout = self.program.layout
            self.pool = self.at.size
            self.memory = undo.enter_context(PrivateMemory(self.pool + LONGEST, "uffd-window"))
            self.memory.populate(0, bytes(self.memory.size))
            self.memory.share(self.at.shared_pages)
            self.memory.share(PageRange.covering(self.pool, LONGEST))
            self.disk = undo.enter_context(memfd("pagewarden-disk", LONGEST)).fd
            self.half = undo.enter_context(HostHalf(self.memory, self.disk, LONGEST))
            self.pipe = Pipe(LONGEST)
            undo.callback(self.pipe.close)
            self._release = undo.pop_all()
        self.warden = Warden(self.memory, [self.program], lambda queue: None)
        self._buffer = memoryview(bytearray(LONGEST))
        self._data = self.at.data // PAGE_SIZE
        self._added = 0
        entries = [(self._data + i) * PAGE_SIZE | IOPTE_VALID for i in range(self.at.data_pages)]
        self.memory.private_write(self.at.iopt, struct.pack(f"<{len(entries)}Q", *entries))

    def scripts(self) -> dict[str, Timed]:
        """By name, LIBRARY/what/pages."""
        made: dict[str, Timed] = {
            "library/clock": Calls(nothing),
            "library/map": self._mapping(),
        }
        for pages in SIZES:
            made[f"library/convert/{pages}"] = self._converting(pages)
            made[f"library/take-up/{pages}"] = self._taking_up(pages)
            made[f"library/copy/{pages}"] = self._copy(pages)
            made[f"library/file/{pages}"] = self._file(pages)
        return made

    def _converting(self, pages: int) -> Calls:
        """As the guest asks for it."""
        calls = (
            partial(self.warden.hypercall, call, (self._data, pages, 0)) for call in (Number.SHARE, Number.UNSHARE)
        )
        return Calls(*calls)

    def _taking_up(self, pages: int) -> Calls:
        """The guest lists entries (row 0), rings (row 1), and takes its pages back (row 2)."""
        return Calls(
            lambda: self._list(pages),
            lambda: self.warden.doorbell(self.program.queue),
            lambda: self.warden.hypercall(Number.UNSHARE, (self._data, pages, 0)),
        )

    def _list(self, pages: int) -> None:
        """As the guest does: so many more entries in the ring of recent I/O page-table entries."""
        self._added += pages
        room = self.at.recent_entries
        ring = [position % pages for position in range(room)]
        self.memory.private_write(self.at.recent, struct.pack(f"<{room + 1}Q", self._added, *ring))

    def _mapping(self) -> Calls:
        mapped = [0]

        def make() -> None:
            mapped[0] = map_anywhere(PAGE_SIZE, self.memory.file, 0)

        return Calls(make, lambda: unmap(mapped[0], PAGE_SIZE))

    def _put(self, pages: int) -> Callable[[], object]:
        """A guest puts bytes into its pool, and other work comes."""
        data = bytes(pages * PAGE_SIZE)

        def put() -> None:
            self.memory.private_write(self.pool, data)
            elsewhere()

        return put

    def _file(self, pages: int) -> Calls:
        """pread of the memory's file, splice into a pipe and out of it, the I/O with bytes of the host's own, or the
        guest's."""
        file, disk, at, length = self.memory.file, self.disk, self.pool, pages * PAGE_SIZE
        buffer, own, address = self._buffer[:length], bytes(length), self.memory.guest_address + at
        return Calls(
            lambda: os.preadv(file, [buffer], at),
            lambda: os.splice(file, self.pipe.transmit, length, at),
            lambda: os.splice(self.pipe.receive, disk, length, None, 0),
            lambda: os.pwrite(disk, own, 0),
            lambda: syscall("pwrite64", disk, address, length, 0),
            between=self._put(pages),
        )

    def _copy(self, pages: int) -> Calls:
        """As the host half copies and writes, and with bytes of its own."""
        request, own = Request(self.pool, pages * PAGE_SIZE, 0, True), bytes(pages * PAGE_SIZE)

        def write() -> None:
            with self.half.claim(request):
                os.pwrite(self.disk, own, 0)

        return Calls(lambda: self.half.copied(request), write, between=self._put(pages), skipped=1)

    def close(self) -> None:
        """Give everything back."""
        self._release.close()


def _iommu_program() -> Program:
    """One request as long as the longest."""
    one = np.ones(1, np.int64)
    return program("iommu", one.astype(bool), 0 * one, LONGEST * one, np.zeros(LONGEST // 512, np.uint64))


class Overheads:
    """What the interpreter and this library add to each call: the same page by both, and the difference of medians."""

    def __init__(self, taken: Mapping[str, Array]) -> None:
        self._taken = taken
        self._clocks = {True: float(np.median(taken["library/clock"][0])), False: float(np.median(taken["clock"][0]))}

    def median(self, name: str, row: int = 0) -> float:
        return float(np.median(self._taken[name][row])) - self._clocks[name.startswith("library/")]

    def of(self, name: str, row: int, compiled: str, its_row: int) -> float:
        """ns that a call of the library takes longer than the compiled one."""
        return max(0.0, self.median(f"library/{name}", row) - self.median(compiled, its_row))

    def take_up(self) -> StraightLine:
        """The warden reads the ring and the table at a doorbell: without opening the pages."""
        return StraightLine.through(SIZES, self._sizes("take-up", 1) - self._sizes("convert", 0))

    def copies(self) -> StraightLine:
        """The host half with its copy, less what writes bytes of its own; by bytes."""
        lengths = [pages * PAGE_SIZE for pages in SIZES]
        return StraightLine.through(lengths, self._sizes("copy", 0) - self._sizes("copy", 1))

    def line(self, name: str, row: int, less: float = 0) -> StraightLine:
        """A call of the library by pages, less something that is priced apart, ns."""
        return StraightLine.through(SIZES, self._sizes(name, row) - self._clocks[True] - less)

    def _sizes(self, name: str, row: int) -> Array:
        return np.stack([self._taken[f"library/{name}/{pages}"][row] for pages in SIZES])


_ADDED = {
    "syscall_mmap": ("map", 0, "map", 0),
    "syscall_munmap": ("map", 1, "map", 1),
}
"""Price -> the call of the library that is behind it, and the compiled one."""


def library_prices(prices: Mapping[str, PriceFound], taken: Mapping[str, Array]) -> dict[str, PriceFound]:
    """The compiled prices with what this library adds, and the warden's reading of a guest's I/O page table."""
    overheads, made = Overheads(taken), dict(prices)
    for name, calls in _ADDED.items():
        added, found = overheads.of(*calls), prices[name]
        what = f"{found.what}, and {added:,.0f} ns that the same call takes longer through this library"
        made[name] = PriceFound(found.spread.plus(added), what, found.bend)
    copies, entries = overheads.copies(), "reading I/O page-table entries at a doorbell, beside opening the pages"
    unshares = overheads.line("convert", 1, prices["tlbi"].spread.median)
    for what, line, fixed, unit in (
        ("a share, from the call on", overheads.line("convert", 0), "hyp_pte_set_range", "hyp_pte_set"),
        ("an unshare, beside a flush", unshares, "hyp_pte_clear_range", "hyp_pte_clear"),
        ("a copy by the host half of what a guest has just written", copies, "host_copies", "copy_warm"),
        ("pread(2), beside a copy", overheads.line("file", 0, copies.fixed.median), "syscall_pread", None),
        ("splice(2) from the memory's file", overheads.line("file", 1), "syscall_splice", "pins"),
        (entries, overheads.take_up(), "io_pte_set_range", "io_pte_set"),
    ):
        made[fixed] = PriceFound(positive(line.fixed), f"{what}, by this library: its fixed part", line.bend)
        if unit:
            made[unit] = PriceFound(positive(line.unit, LONGEST), f"{what}, by this library: its rise", line.bend)
    return made
