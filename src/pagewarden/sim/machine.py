"""The machine: guest, hypervisor, host kernel and process, device; their pages as states of one policy's table."""

from collections.abc import Callable, Sequence
from errno import EFAULT, EOPNOTSUPP

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pagewarden.designs import RESOURCES, Do, Line, Procedure, RowKind, Steps, Stop, programs
from pagewarden.law import Op, Outcome, Page, Policy, reason, tabulate
from pagewarden.sim import pages as states
from pagewarden.sim.counts import Counts
from pagewarden.sim.engine import Procedures, Requests, Tally, rules_of, run
from pagewarden.sim.pages import Pages
from pagewarden.vocab import PAGE_SIZE, Event, PageRange, Refused

POOL_BYTES = 64 << 20
"""swiotlb's default size (kernel/dma/swiotlb.c, IO_TLB_DEFAULT_SIZE)."""
RING_ENTRIES = 1024
"""Entries of the ring of recent I/O PTEs: a choice, no source."""


class Machine:
    """A guest of so many pages, and behind them the pages of the shared pool.

    page_size: bytes of a page, 4 KiB or 2 MiB. Ranges count pages. Nothing is random: the same calls give the same
    counts. Memory: 2 bytes a page, touched only where the pages of a 512-page block differ.
    """

    def __init__(
        self, policy: Policy, pages: int, *, page_size: int = PAGE_SIZE,
        pool_pages: int | None = None, ring_entries: int = RING_ENTRIES,
    ) -> None:  # fmt: skip
        self.policy, self.count, self.page_size = policy, pages, page_size
        self.pool_pages = POOL_BYTES // page_size if pool_pages is None else pool_pages
        self.table = tabulate(policy)
        self.memory = Pages.uniform(pages + self.pool_pages)
        self.free = np.array([{"pool": self.pool_pages, "ring": ring_entries}[name] for name in RESOURCES], np.int64)
        self.events = np.zeros(len(Event), np.int64)  # of every `apply` so far, by Event
        self._rules = rules_of(self.table)

    def page(self, number: int) -> Page:
        """What is known of a page."""
        return self.table.pages[self.memory.state(number)]

    def alike(self, pages: PageRange, classes: NDArray[np.intp]) -> int | None:
        """The class that the states of all pages of the range have; None where they differ. classes: intp[S]."""
        found = np.unique(classes[np.unique(self.memory.expand(pages.start, pages.stop))])
        return int(found[0]) if len(found) == 1 else None

    def apply(self, op: Op, pages: PageRange) -> tuple[Outcome, int]:
        """One operation on a range, all pages or none; the outcome and the first page that refused (or pages.stop)."""
        pages.checked(self.count + self.pool_pages)
        tally = Tally.empty(1, len(self.table.pages))
        outcome, page = states.apply_range(
            self.memory, self._rules, op, pages.start, pages.stop, tally.hits[0], tally.mixed[0], 1
        )
        self.events += tally.events(self.table, np.array([[RowKind.DO, op, -1, 0]], np.int32))[0][0]
        return Outcome(int(outcome)), int(page)

    def perform(self, procedure: Procedure, pages: PageRange, size: int | None = None) -> Counts:
        """A procedure once, on a range, with its setup (not counted) before; size: the request's bytes."""
        self.prepare(procedure, pages)
        return self.run([procedure], [0], [pages.start], [pages.count], [size or pages.count * self.page_size])

    def prepare(self, procedure: Procedure, pages: PageRange) -> None:
        """Bring untouched pages to where the procedure starts, and the pool's if it uses it. Refused if that fails."""
        self._whole(procedure.setup, pages)
        self._whole(procedure.pool_setup, PageRange(self.count, self.count + self.pool_pages))

    def _whole(self, steps: Steps, pages: PageRange) -> None:
        if steps:
            found = self.run([Procedure("setup", steps)], [0], [pages.start], [pages.count], [0])
            if found.failed:
                raise found.refusal or Refused(EOPNOTSUPP, f"{self.policy.name} does not get to where this starts")

    def run(
        self, procedures: Sequence[Procedure], which: ArrayLike, firsts: ArrayLike, counts: ArrayLike, sizes: ArrayLike,
        times: ArrayLike = 1, after: Callable[[int], None] | None = None,
    ) -> Counts:  # fmt: skip
        """Requests one after the other. which: the procedure of each; firsts, counts: its pages; times: how often each
        counts; sizes: the bytes of all of that; after: called with the number of each that has ended."""
        rows, starts, steps = programs(list(procedures))
        kinds = np.asarray(which, np.int32)
        given = [np.asarray(column, np.int64) for column in (firsts, counts, sizes, times)]
        columns = [each if each.ndim else np.full(kinds.shape, each) for each in given]
        tally = self._tally(Procedures(rows, starts), Requests(kinds, *map(np.ascontiguousarray, columns)), after)
        failed, completed = tally.ended.tolist()
        found = Counts(completed=completed, failed=failed, refusal=self._refusal(tally, rows, steps))
        events, once = tally.events(self.table, rows)
        found.events += events.sum(0)
        found.add_ranges(once.sum(0))
        for row in np.flatnonzero(rows[:, 0] == RowKind.COUNT):
            found.add_step(steps[row], int(tally.ran[row]), int(tally.moved[row]))
        return found

    def trace(
        self, procedure: Procedure, pages: PageRange, size: int
    ) -> tuple[list[tuple[Line, int, Counts]], Refused | None]:
        """A procedure once, on a range, after its setup: the steps that ran, how often, and what each cost; and the
        law's refusal of the last one, if that ended it."""
        self.prepare(procedure, pages)
        rows, starts, steps = programs([procedure])
        one = (np.array([value]) for value in (pages.start, pages.count, size, 1))
        tally = self._tally(Procedures(rows, starts), Requests(np.zeros(1, np.int32), *one))
        events, once = tally.events(self.table, rows)
        lines = []
        for row in np.flatnonzero(tally.ran):
            found = Counts(events=events[row])
            found.add_ranges(once[row])
            kind = int(rows[row, 0])  # numpy's own integers ask an enumeration for much, and swallow Ctrl-C meanwhile
            if kind == RowKind.COUNT:
                found.add_step(steps[row], int(tally.ran[row]), int(tally.moved[row]))
            if kind not in (RowKind.JUMP, RowKind.NEXT):
                lines.append((steps[row], int(tally.ran[row]), found))
        return lines, self._refusal(tally, rows, steps)

    def _tally(self, program: Procedures, requests: Requests, after: Callable[[int], None] | None = None) -> Tally:
        tally = Tally.empty(len(program.rows), len(self.table.pages))
        run(program, requests, self.memory, self._rules, self.free, self.count, tally, after)
        return tally

    def _refusal(self, tally: Tally, rows: NDArray[np.int32], steps: Sequence[Line]) -> Refused | None:
        row, outcome, page = (int(value) for value in tally.refusal)
        if row < 0 and tally.ended[0]:
            row, outcome = self._stopped(tally, rows, steps)
        if row < 0:
            return None
        op, what = Op(rows[row, 1]), Outcome(outcome)
        trap = "" if what.errno else f"{what.name}; "
        why = f"{op.key} under {self.policy.name}: {trap}{reason(op, self.policy, what)}"
        return Refused(what.errno or EFAULT, why, page * self.page_size if page >= 0 else None)

    def _stopped(self, tally: Tally, rows: NDArray[np.int32], steps: Sequence[Line]) -> tuple[int, int]:
        """The row, and the outcome, of an operation whose refusal a procedure stops for; (-1, 0) for none."""
        for row in np.flatnonzero((rows[:, 0] == RowKind.DO) & (tally.ran > 0)).tolist():
            step = steps[row]
            ends = isinstance(step, Do) and any(isinstance(end, Stop) and not end.ok for end in step.otherwise or ())
            outcomes = self.table.outcome[np.flatnonzero(tally.hits[row, :, 0]), rows[row, 1]]
            if ends and outcomes.any():
                return row, int(outcomes.max())
        return -1, 0
