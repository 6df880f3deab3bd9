"""A batch in one compiled call, where the ring itself is borrowed from the memory: mapped without a guard.

The same checks by the same functions as Batch and Virtqueue make them, with one guarded copy for headers and pages and
one for the statuses. What does not go through is left undone: whoever called goes the long way, which finds out why.
The ring is touched inside the loan's gate only, and nobody is inside during a transfer, which may take its time.
"""

from typing import Any

from pagewarden.abi.virtio import VIRTQ_AVAIL_F_NO_INTERRUPT, VIRTQ_USED_F_NO_NOTIFY, virtq_used_elem
from pagewarden.kernel.guarded import (
    copy_in,
    copy_out,
    enter,
    fence,
    leave,
    load16,
    move,
    store8,
    store16,
    store32,
)
from pagewarden.port import LendingView, Loan
from pagewarden.virtio import ring as ring_rules
from pagewarden.virtio.chains import expand, flatten
from pagewarden.virtio.placing import BY_FLAGS, OPEN, WRITABLE, absent, translate, translate_runs
from pagewarden.virtio.requests import classify, frame
from pagewarden.virtio.ring import RING, Ring
from pagewarden.virtio.work import OP, Work, record_at
from pagewarden.vocab.compiled import entry, njit

_ELEM = virtq_used_elem.itemsize
WAITING, WANTED, COMPLETED = 0xFFFF, 1 << 16, 1 << 32
"""What a pass answers: chains that wait by now, in the low bits; a bit where the driver asked to be told; and chains
handed back, times COMPLETED."""
LONG_WAY, NOT_LENT, TAKEN, MOVED, UNSEEN, LACKING = -1, -2, -3, -4, -5, -6
"""Or how far it came: nothing was done, or not even the ring was to be had; the batch is checked, its transfers are
left; they are done, too; the batch was handed back, but how many wait is absurd; pages of it must be asked for."""
need_event: Any = njit(ring_rules.need_event)


def _out(x: Any, places: Any, count: int) -> int:
    """The bytes of the places into the scratch file; -1: not all."""
    if x.table == 0:
        return int(copy_out(x.scratch, x.room, x.window, x.reach, places, count, x.iov_at))
    n = translate(x.table, places, 0, count, OPEN, x.placed, 0)
    return int(copy_out(x.scratch, x.room, x.window, x.reach, x.placed, n, x.iov_at)) if n >= 0 else -1


def _in(x: Any, source: int, count: int) -> int:
    """So many status bytes of the source to their places; -1: not all."""
    if x.table == 0:
        return int(copy_in(source, count, x.window, x.reach, x.marks, x.marked, x.iov_at))
    n = translate(x.table, x.marks, 0, x.marked, OPEN | WRITABLE, x.placed, 0)
    return int(copy_in(source, count, x.window, x.reach, x.placed, n, x.iov_at)) if n >= 0 else -1


def _lacks(x: Any) -> bool:
    """Is a page that the descriptors name not lent?"""
    if x.table == 0:
        return False
    return bool(absent(x.table, x.flat[x.wide], x.bounds[x.wide, x.chains], BY_FLAGS, x.moved))


out: Any = njit(_out)
put: Any = njit(_in)
lacks: Any = njit(_lacks)


def _take(x: Any) -> int:
    """The chains that wait, checked, headers judged, all pages touched; how many, or LONG_WAY, or LACKING."""
    x.desc, x.avail = x.lent_desc, x.lent_avail
    waiting = (load16(x.avail + 2) - x.done) & 0xFFFF
    x.chains = x.runs = 0
    if waiting == 0 or waiting > x.size:
        return 0  # nothing, or an absurd number: `look` says which
    tables = flatten(x, waiting)
    if tables >= 0 and lacks(x):
        return LACKING
    if tables > 0:
        x.words_at = x.scratch_at
        if out(x, x.tables, tables) < 0 or expand(x) < 0:
            return LONG_WAY
        if lacks(x):
            return LACKING
    pieces = frame(x) if tables >= 0 else -1
    if pieces < 0 or out(x, x.pieces, pieces) < 0:
        return LONG_WAY
    x.headers_at = x.scratch_at
    classify(x)
    if not x.events:
        store16(x.used, VIRTQ_USED_F_NO_NOTIFY)
    return int(x.chains)


def _publish(x: Any) -> bool:
    """Statuses, used elements, the wish for a kick, and last the used index; False: nothing was handed back."""
    count, failed = x.chains, 0
    for k in range(count):
        store8(x.scratch_at + k, x.statuses[k])
        failed |= x.statuses[k]
    source = x.scratch if failed else x.zeroes  # VIRTIO_BLK_S_OK is 0
    if put(x, source, count) < 0:
        return False
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
    return True


def _look(x: Any, completed: int) -> int:
    """How many chains wait by now, plus WANTED where the driver asked to be told, of this batch or of the `completed`
    before, plus COMPLETED for each of the batch; or UNSEEN."""
    count = x.chains
    waiting = (load16(x.avail + 2) - x.done) & 0xFFFF
    if waiting > x.size:
        return UNSEEN
    answer = waiting + COMPLETED * count
    if completed + count == 0:
        wanted = False
    elif x.events:
        wanted = need_event(load16(x.avail + RING + 2 * x.size), x.done, x.done - completed - count)
    else:
        wanted = not load16(x.avail) & VIRTQ_AVAIL_F_NO_INTERRUPT
    if wanted or x.owed:
        x.owed = 0
        return int(answer + WANTED)
    return int(answer)


def _moved(x: Any) -> bool:
    """The transfers of the batch, where all of them are of the quick kind and go through whole."""
    for n in range(x.runs):
        if not x.quick >> x.run[n, OP] & 1:
            return False
    if x.table == 0:
        return bool(move(x.disk, x.window, x.reach, x.run, x.runs, x.segments, x.iov_at) == x.runs)
    if not translate_runs(x.table, x.run, x.runs, x.segments, x.moved, x.placed):
        return False
    return bool(move(x.disk, x.window, x.reach, x.moved, x.runs, x.placed, x.iov_at) == x.runs)


take: Any = njit(_take)
publish: Any = njit(_publish)
look: Any = njit(_look)
moved: Any = njit(_moved)


def _hand_back(x: Any, completed: int) -> int:
    """Publish and look; MOVED: nothing was handed back."""
    if not enter(x.gate):
        return MOVED
    answer = MOVED
    if publish(x):
        answer = look(x, completed)
    leave(x.gate)
    return int(answer)


hand_back: Any = njit(_hand_back)


def _serve(address: int, completed: int) -> int:
    """A batch of what waits, for the record at the address. completed: chains since the kick, before this batch."""
    x = record_at(address)[0]
    if not enter(x.gate):
        return NOT_LENT
    count = take(x)
    if count == 0:
        answer = look(x, completed)
        leave(x.gate)
        return int(answer)
    leave(x.gate)
    if count < 0:
        return int(count)
    if not moved(x):
        return TAKEN
    return int(hand_back(x, completed))


def _finish(address: int, completed: int) -> int:
    """The end of a batch that was taken, once its transfers are done."""
    return int(hand_back(record_at(address)[0], completed))


serve: Any = entry(njit("i8(i8,i8)", nogil=True)(_serve))
finish: Any = entry(njit("i8(i8,i8)", nogil=True)(_finish))


class AtOnce:
    """One queue's ring on loan."""

    def __init__(self, view: object, ring: Ring, work: Work) -> None:
        self._view = view if isinstance(view, LendingView) else None
        self._ring, self._work = ring, work
        self._loan: Loan | None = None

    def borrow(self) -> bool:
        """Ask for the ring, at first and when it was taken back (it may be shared again); a refusal is for good."""
        self.close()
        if self._view is None:
            return False
        ring, work = self._ring, self._work
        self._loan = loan = self._view.lend(*ring.parts)
        if loan is None:
            self._view = None  # a view that does not lend is not asked at every kick
            return False
        work["lent_desc"], work["lent_avail"], work["used"] = loan.addresses
        work["scratch"], work["scratch_at"], work["room"] = loan.scratch
        work["window"], work["reach"] = loan.window
        work["zeroes"], work["table"] = loan.zeroes, loan.table
        work["gate"] = loan.gate
        return True

    def close(self) -> None:
        """Give the ring back. Twice is once."""
        self._work["gate"] = 0
        if self._loan is not None:
            self._loan.close()
            self._loan = None
