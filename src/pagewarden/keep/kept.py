"""Private memory under a limit: what the guest does not use lies sealed in a file, and comes back as it is touched."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from pagewarden.abi import uffd
from pagewarden.keep.faults import AHEAD, FaultServer
from pagewarden.keep.residence import AWAY, HOLE, MODES, Residence
from pagewarden.keep.seal import BATCH, Slots
from pagewarden.keep.snapshot import Manifest, Snapshot, write_snapshot
from pagewarden.kernel.causes import lacking
from pagewarden.kernel.region import Region
from pagewarden.kernel.uffd import ASIDE_FEATURES, GUARD_FEATURES, Userfault
from pagewarden.memory import PAGE_SIZE, BackingName, PageRange, PrivateMemory, Refused, Unavailable, UserMistake
from pagewarden.memory.backings.uffd_window import UffdWindow
from pagewarden.memory.bolts import BUSY
from pagewarden.memory.conversions import runs_of
from pagewarden.memory.ending import insist
from pagewarden.memory.isolated.window import IsolatedWindow
from pagewarden.port import Buffer
from pagewarden.vocab import Event
from pagewarden.vocab.runs import in_runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagewarden.memory.private import Ranges

_FEATURES = GUARD_FEATURES & ~uffd.UFFD_FEATURE_SIGBUS | ASIDE_FEATURES | uffd.UFFD_FEATURE_POISON
"""Poison: Linux 6.6."""


class KeptMemory(PrivateMemory):
    """A PrivateMemory whose private pages may be away; shared pages are always there.

    limit: bytes of private pages that may be resident, None for all; over it the least recently used go, as many as
    the swap file takes: where it takes none (a full disk), nothing is lost and the limit is passed (`resident` says).
    swap: a file of this memory alone, which goes with it: one that is not there, or was left behind by another one's.
    ahead: pages that come at a touch, an eighth of the limit at most.

    The guest's view waits on a page that is not there until it has come, in a thread of this process: Python code must
    not touch `guest_address` itself, for it waits with the interpreter's lock (private_read and private_write do not).
    A page whose copy is refused is poison for the guest (SIGBUS, EFAULT of KVM_RUN), Refused(EBADMSG) for private_read
    and share, and `refused` says why. Raises as PrivateMemory does, Unavailable without a userfaultfd window,
    Refused(EBUSY) where the file is in use, Refused(EEXIST) where it is none, and the OSError of opening it. Shared
    pages do not go: devices hold them, and load and store there without a word to anybody. isolated: as of a
    PrivateMemory; only private pages go and come, where the host side's window answers for none, there or away.
    """

    def __init__(
        self,
        size: int,
        backing: BackingName | str = "uffd-window",
        *,
        limit: int | None = None,
        swap: str | os.PathLike[str] | None = None,
        ahead: int = AHEAD,
        isolated: bool | Literal["best-effort"] = False,
    ) -> None:
        self._closed = True  # until there is something to close
        if limit is not None and swap is None:
            raise UserMistake("a limit needs a swap file: swap=PATH")
        if limit is not None and limit < PAGE_SIZE:
            raise UserMistake(f"a limit of {limit} bytes has no room for a page ({PAGE_SIZE})")
        with ExitStack() as undone:
            slots = None if swap is None else Slots.swap(swap)
            if slots is not None:
                undone.callback(slots.close)
            super().__init__(size, backing, isolated=isolated)
            undone.callback(super().close)
            if not isinstance(self._backing, (UffdWindow, IsolatedWindow)):
                raise UserMistake(f"{self.backing} memory is not kept: a uffd-window or uffd-rwp is")
            self._bolts.words[BUSY] += 1  # no conversion goes by without a look at who is there
            pages = None if limit is None else limit // PAGE_SIZE
            ahead = ahead if pages is None else max(1, min(ahead, pages // 8))
            guest = self._backing.guest
            try:
                self._fault = _fault_of_guest()
                undone.callback(self._fault.close)
                self._residence = self._place(guest, pages, slots)
                undone.callback(self._residence.close)
                self._residence.around = self._around
                if isinstance(self._backing, IsolatedWindow):
                    self._backing.lend(self._fault, self._residence.lock)
                self._residence.forgotten = self._backing.forget
                self._server = FaultServer(self._fault, guest.address, self._residence, ahead)
            except OSError as error:
                raise Unavailable(*lacking(error)) from error
            undone.pop_all()

    def _place(self, guest: Region, limit: int | None, swap: Slots | None) -> Residence:
        self._fault.register(guest.address, guest.size, MODES)
        return Residence(guest, self._backing.file, self._fault, self._state.shared, limit, swap)

    # -- what is where -------------------------------------------------------------------------------------------------

    @property
    def resident(self) -> int:
        """Bytes of pages that are there and private: those that the limit is for."""
        return self._residence.private_there * PAGE_SIZE

    @property
    def swapped(self) -> int:
        """Bytes of pages whose only copy is in the swap file."""
        return int((self._residence.state == AWAY).sum()) * PAGE_SIZE

    @property
    def refused(self) -> dict[int, str]:
        """Pages that the guest met as poison, and why."""
        return dict(self._server.refused)

    @property
    def trouble(self) -> Exception | None:
        """What ended the thread that answers the guest: from then on it waits at the next page that is away."""
        return self._server.trouble

    def traffic(self) -> dict[str, int]:
        """Faults that were answered, pages that went, pages that came back."""
        return {"faults": self._server.faults, "gone": self._residence.gone, "came": self._residence.came}

    def swap_events(self) -> dict[str, int]:
        """Counts by event kind of what went and came; `statistics` has the rest, and the notifications of both. A page
        sealed or unsealed is a copy, one that is put in place takes a frame, and a run that goes is an invalidation."""
        residence = self._residence
        with residence.lock:
            counts = {
                Event.HYP_COPIES: residence.gone + residence.came, Event.ALLOCATIONS: residence.filled,
                Event.TLBI: residence.dropped, Event.FAULTS: self._server.faults,
            }  # fmt: skip
        return {event.key: count for event, count in counts.items()}

    def _around(self, runs: Sequence[tuple[int, int]], go: Callable[[], None]) -> None:
        """See Residence. The thread that answers the guest must not wait for one that waits for a page."""
        if not self._consumers.present:
            go()
            return
        if not self._lock.acquire(blocking=False):
            raise Refused(errno.EAGAIN, "somebody changes the memory meanwhile", runs[0][0] * PAGE_SIZE)
        try:
            self._consumers.around([PageRange(*run) for run in runs], [], go)
        finally:
            self._lock.release()

    def swap_out(self, pages: PageRange) -> int:
        """Send away what of the range is private, there and not in use; how many pages. Listeners are told. Refused
        with the file's errno (ENOSPC, EIO), EAGAIN while a page is held, or as a listener does, the pages stay then;
        ValueError outside."""
        with self._lock:
            self._range(pages)
            return self._residence.send(pages.start, pages.stop)

    def prefetch(self, pages: PageRange) -> None:
        """Bring the pages back ahead of use, as far as the limit allows; Refused(EBADMSG) by page and reason."""
        with self._lock:
            self._range(pages)
            self._residence.bring(pages.start, pages.stop)

    # -- snapshots -----------------------------------------------------------------------------------------------------

    def snapshot(self, path: str | os.PathLike[str], key: bytes, state: bytes = b"") -> None:
        """Seal all pages into a file under a key of 32 bytes, with the caller's own state (CPUs, devices): the path
        leads to the whole of it or to what was there before. The guest's writes wait meanwhile; what the host writes to
        shared pages is its own affair. OSError, Refused(EBADMSG) where a copy in the swap file is not right."""
        with self._lock, self._residence.still():
            shared = np.frombuffer(bytes(self._state.shared), np.bool_)
            present = self._residence.state != HOLE
            write_snapshot(path, key, Manifest(present, shared, state), self._residence.copy)

    @classmethod
    def restored(
        cls, path: str | os.PathLike[str], key: bytes, *, lazy: bool = True, **options: Any
    ) -> tuple[Self, bytes]:
        """A memory from a snapshot, and the state that came with it. lazy: pages come as they are touched, shared ones
        at once, and the file must stay as it is: what is wrong in it is refused page by page. options: as for the class
        but its size. Raises as snapshot.Snapshot and the class do. That the file is not an older snapshot under the
        same key, only the caller can know."""
        saved = Snapshot(path, key)
        try:
            memory = cls(saved.size, **options)
        except BaseException:
            saved.close()
            raise
        try:
            memory._residence.adopt(saved, saved.manifest.present)
            memory._share_as(saved.manifest)
            if not lazy:
                memory.replay(np.flatnonzero(saved.manifest.present))
        except BaseException:
            memory.close()
            raise
        return memory, saved.manifest.state

    def _share_as(self, manifest: Manifest) -> None:
        shared = bytes(manifest.shared)
        for start, stop in runs_of(shared, 0, len(shared), 1):
            self.share(PageRange(start, stop))

    def record(self) -> list[int]:
        """From now on, pages that come from the snapshot as the guest touches them are noted in this list, in order."""
        with self._residence.lock:
            order: list[int] = []
            self._residence.order = order
            return order

    def replay(self, pages: "Sequence[int] | NDArray[np.int64]") -> None:
        """Bring what was recorded of a guest like this ahead of its use, in that order; from any thread, while the
        guest runs. Refused(EBADMSG) by page and reason, ValueError outside the memory."""
        every = np.asarray(pages, np.int64)
        if len(every) and not 0 <= every.min() <= every.max() < self._pages:
            raise ValueError(f"pages [{every.min()}, {every.max()}] do not lie in a memory of {self._pages} pages")
        for first in range(0, len(every), BATCH):
            for start, stop in in_runs(np.unique(every[first : first + BATCH])):
                self._residence.bring(start, stop)

    # -- as PrivateMemory, on pages that are there ---------------------------------------------------------------------

    @contextmanager
    def _there(self, pages: PageRange) -> Iterator[None]:
        with self._lock, self._residence.wanted(pages.start, pages.stop):
            yield

    def private_read(self, offset: int, length: int) -> bytes:
        with self._lock:
            self._covering(offset, length)
            return b"".join([self._read_there(*piece) for piece in self._pieces(offset, length)])

    def _read_there(self, offset: int, length: int) -> bytes:
        with self._there(PageRange.covering(offset, length)):
            return super().private_read(offset, length)

    def private_write(self, offset: int, data: Buffer) -> None:
        source = memoryview(data).cast("B")
        with self._lock:
            self._covering(offset, len(source))
            for at, length in self._pieces(offset, len(source)):
                pages = PageRange.covering(at, length)
                with self._there(pages):
                    self._residence.written(pages.start, pages.stop)
                    super().private_write(at, source[at - offset : at - offset + length])

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Offsets and lengths, bytes, of parts whose pages the limit has room for."""
        most, end = self._residence.batch * PAGE_SIZE, offset + length
        while offset < end:
            stop = min(end, (offset // most + 1) * most)
            yield offset, stop - offset
            offset = stop

    def share(self, pages: PageRange) -> None:
        held = self._residence
        with self._lock, held.offered(self._range(pages).start, pages.stop), held.changing(pages.start, pages.stop):
            super().share(pages)

    def unshare(self, pages: PageRange) -> None:
        with self._lock:
            self._range(pages)
            with self._residence.changing(pages.start, pages.stop):
                super().unshare(pages)
            self._residence.trim()

    def convert(self, to_shared: "Ranges" = (), to_private: "Ranges" = ()) -> None:
        with self._lock, ExitStack() as stack:
            for start, stop in self._vector(to_shared).tolist():
                stack.enter_context(self._residence.offered(start, stop))
            with self._residence.changing(0, self._pages):
                super().convert(to_shared, to_private)
        self._residence.trim()

    def punch(self, pages: PageRange) -> None:
        with self._lock:
            self._range(pages)
            with self._residence.changing(pages.start, pages.stop):
                super().punch(pages)

    def _punch(self, pages: PageRange) -> None:
        with self._residence.lock:
            super()._punch(pages)
            self._residence.forget(pages.start, pages.stop)

    # -- lifetime ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        if not self._closed:
            insist(super().close, self._server.close, self._fault.close, self._residence.close)

    def forked(self) -> None:
        if not self._closed:
            super().forked()
            self._fault.close()
            self._residence.forked()


def _fault_of_guest() -> Userfault:
    """One that also stops the kernel on the guest's behalf (KVM), where this user may have it."""
    try:
        return Userfault(_FEATURES, user_mode_only=False)
    except Unavailable:
        return Userfault(_FEATURES)
