"""A batch in two compiled calls, where the ring itself is borrowed from the memory: mapped without a guard.

The same checks by the same functions as Batch and Virtqueue make them, with one guarded copy for headers and pages and
one for the statuses. What does not go through is left undone: whoever called goes the long way, which finds out why.
"""

from typing import Any

from numba import types

from pagewarden.abi.virtio import VIRTQ_AVAIL_F_NO_INTERRUPT, VIRTQ_USED_F_NO_NOTIFY, virtq_used_elem
from pagewarden.kernel.guarded import copy_in, copy_out, fence, load16, store8, store16, store32
from pagewarden.port import LendingView, Loan
from pagewarden.virtio import ring as ring_rules
from pagewarden.virtio.chains import expand, flatten
from pagewarden.virtio.requests import classify, frame
from pagewarden.virtio.ring import RING, Ring
from pagewarden.virtio.work import RECORD, Work
from pagewarden.vocab.compiled import njit

_ELEM = virtq_used_elem.itemsize
WANTED = 1 << 16
need_event: Any = njit(ring_rules.need_event)


def _take(work: Any) -> int:
    """The chains that wait, checked, headers judged, all pages touched; how many, or -1: the long way."""
    x = work[0]
    x.desc, x.avail = x.lent_desc, x.lent_avail
    waiting = (load16(x.avail + 2) - x.done) & 0xFFFF
    x.chains = x.runs = 0
    if waiting == 0 or waiting > x.size:
        return -1 if waiting else 0
    tables = flatten(x, waiting)
    if tables > 0:
        x.words_at = x.scratch_at
        if copy_out(x.scratch, x.room, x.window, x.memory, x.tables, tables, x.iov_at) < 0 or expand(x) < 0:
            return -1
    pieces = frame(x) if tables >= 0 else -1
    if pieces < 0 or copy_out(x.scratch, x.room, x.window, x.memory, x.pieces, pieces, x.iov_at) < 0:
        return -1
    x.headers_at = x.scratch_at
    classify(x)
    if not x.events:
        store16(x.used, VIRTQ_USED_F_NO_NOTIFY)
    return int(x.chains)


def _finish(work: Any, completed: int) -> int:
    """Statuses, used elements, the wish for a kick, and last the used index; then how many chains wait by now, plus
    WANTED where the driver asked to be told, of these or of the `completed` before. -1: nothing was handed back;
    -2: it was, but how many wait is absurd: the long way."""
    x = work[0]
    count = x.chains
    for k in range(count):
        store8(x.scratch_at + k, x.statuses[k])
    if copy_in(x.scratch, count, x.window, x.memory, x.marks, x.marked, x.iov_at) < 0:
        return -1
    elements = x.used + RING
    for k in range(count):
        at = elements + _ELEM * ((x.done + k) & (x.size - 1))
        store32(at, x.used_elements[2 * k])
        store32(at + 4, x.used_elements[2 * k + 1])
    x.done = (x.done + count) & 0xFFFF
    if x.events:
        store16(elements + _ELEM * x.size, x.done)
    else:
        store16(x.used, 0)
    store16(x.used + 2, load16(x.used + 2) + count)
    fence()
    waiting = (load16(x.avail + 2) - x.done) & 0xFFFF
    if waiting > x.size:
        return -2
    if x.events:
        wanted = need_event(load16(x.avail + RING + 2 * x.size), x.done, x.done - completed - count)
    else:
        wanted = not load16(x.avail) & VIRTQ_AVAIL_F_NO_INTERRUPT
    if wanted or x.owed:
        x.owed = 0
        return int(waiting | WANTED)
    return int(waiting)


take: Any = njit(types.int64(RECORD), nogil=True)(_take)
finish: Any = njit(types.int64(RECORD, types.int64), nogil=True)(_finish)


class AtOnce:
    """One queue's ring on loan. Both calls return -1 while the memory does not lend it."""

    def __init__(self, view: object, ring: Ring, work: Work) -> None:
        self._view = view if isinstance(view, LendingView) else None
        self._ring, self._work, self._record = ring, work, work.record
        self._loan: Loan | None = None

    def take(self) -> int:
        loan = self._loan
        if loan is None or not loan.good:
            if self._view is None or not self._borrowed(self._view):
                return -1
            return self.take()
        with loan.busy:
            count: int = take(self._record) if loan.good else -1
            return count

    def finish(self, completed: int) -> int:
        loan = self._loan
        if loan is None:
            return -1
        with loan.busy:
            seen: int = finish(self._record, completed) if loan.good else -1
            return seen

    def _borrowed(self, view: LendingView) -> bool:
        """Ask for the ring, at first and when it was taken back (it may be shared again); a refusal is for good."""
        self.close()
        ring, work = self._ring, self._work
        self._loan = loan = view.lend(*ring.parts)
        if loan is None:
            self._view = None  # a view that does not lend is not asked at every kick
            return False
        work["lent_desc"], work["lent_avail"], work["used"] = loan.addresses
        work["scratch"], work["scratch_at"], work["room"] = loan.scratch
        work["window"] = loan.window
        return True

    def close(self) -> None:
        if self._loan is not None:
            self._loan.close()
            self._loan = None
