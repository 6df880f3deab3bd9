"""Private memory on this host's own MMU: who may see which page, checked first, then changed, all or nothing."""

import errno
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from pagewarden.kernel.causes import lacking
from pagewarden.memory.backings.protocol import BackingName, Use
from pagewarden.memory.consumers import Hold
from pagewarden.memory.guarded_copies import Keeper
from pagewarden.memory.isolated.process import START_TIMEOUT, HostProcess
from pagewarden.memory.known import KnownPages, no_range
from pagewarden.memory.own_process import closed
from pagewarden.memory.window import Window
from pagewarden.port import Buffer, Listener
from pagewarden.vocab import PAGE_SIZE, PageRange, Refused, Unavailable, UserMistake
from pagewarden.vocab.closing import Closing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pagewarden.memory.loan import DirectLoan

    Ranges: TypeAlias = Sequence[PageRange] | NDArray[np.int64]


class PrivateMemory(KnownPages, Closing):
    """A guest's memory of `size` bytes, as its warden holds it (pagewarden.port.Memory). Page numbers count from 0.

    backing: a name in pagewarden.memory.backings.protocol.KINDS, or "auto", the strongest that this host has for `use`;
    `.backing` and `.why` say which it became. isolated: the host is not trusted, its window exists only in the process
    that `spawn` starts, and unshare replaces a page, or protects it where that process could not have pinned it
    (uffd-rwp); Unavailable where that process cannot be kept apart, and "best-effort" takes what there is of its room
    (`missing` says what is not). shared: the state that all pages start in. vm: the KVM VM that a guest-memfd is bound
    to. Raises Unavailable, UserMistake, ValueError. Conversions may come from any thread and wait for each other;
    accessors of the window wait for a conversion of the page they touch.
    """

    def __init__(
        self,
        size: int,
        backing: BackingName | str = "auto",
        *,
        isolated: bool | Literal["best-effort"] = False,
        use: Use = "any",
        shared: bool = False,
        vm: int | None = None,
    ) -> None:
        super().__init__(size, backing, isolated, use, shared, vm)
        view = self._backing.window
        keeper = Keeper(self._lock, self._reopen, self.hold, self._lend, self._hold_touched)
        self._window = None if view is None else Window(view, keeper)
        self._closed = False

    # -- the guest's and the warden's side -----------------------------------------------------------------------------

    def populate(self, offset: int, data: Buffer) -> None:
        """Put bytes into private pages (a payload, before a guest runs). Refused(EINVAL) where a page is shared,
        Refused(EOPNOTSUPP) where only a guest may write; ValueError outside the memory."""
        length = memoryview(data).nbytes
        with self._lock, self._bolts:
            pages = self._covering(offset, length)
            first = self._state.shared.find(1, pages.start, pages.stop)
            if first >= 0:
                raise Refused(errno.EINVAL, "populate is for private pages, this one is shared", first * PAGE_SIZE)
            self.private_write(offset, data)

    def private_read(self, offset: int, length: int) -> bytes:
        """Bytes as the guest sees them, whoever may see the page; Refused(EOPNOTSUPP) where only a guest may."""
        with self._lock:
            self._covering(offset, length)
            return self._guest_view()[offset : offset + length].tobytes()

    def private_write(self, offset: int, data: Buffer) -> None:
        """Write as the guest would; Refused(EOPNOTSUPP) where only a guest may."""
        source = memoryview(data).cast("B")
        with self._lock:
            self._covering(offset, len(source))
            self._guest_view()[offset : offset + len(source)] = source

    def _guest_view(self) -> memoryview:
        if self._backing.whole_file and not self._state.shared[0]:
            raise Refused(errno.EOPNOTSUPP, "only a guest reaches a private guest_memfd")
        return self._backing.guest.memory

    @property
    def guest_address(self) -> int:
        """Host virtual address of the guest's view, for a KVM memslot or an emulated CPU: it is open to its holder."""
        self._alive()
        return self._backing.guest.address

    @property
    def file(self) -> int:
        """The fd of the memory. It belongs to the warden: whoever has it can reach every page of a memfd."""
        self._alive()
        return self._backing.file

    # -- conversions ---------------------------------------------------------------------------------------------------

    def share(self, pages: PageRange) -> None:
        """Let the host see the pages; those it sees already stay so. Refused(EAGAIN, offset) while one is held,
        Refused with the kernel's errno where it says no; then everything is as before. ValueError outside."""
        state = self._state
        if pages.__class__ is PageRange and (at := state.at):
            try:  # a float, far outside: `_change` says so
                if state.share_single(at, pages.start | 0, pages.stop | 0):
                    return
            except (TypeError, OverflowError):
                pass
        self._change(pages, state.share, 0)

    def unshare(self, pages: PageRange) -> None:
        """Take the pages back, contents kept; raises as share does."""
        state = self._state
        if pages.__class__ is PageRange and (at := state.at):
            try:
                if state.unshare_single(at, pages.start | 0, pages.stop | 0):
                    return
            except (TypeError, OverflowError):
                pass
        self._change(pages, state.unshare, 1)

    def _change(self, pages: PageRange, change: Callable[[int, int], None], state: int) -> None:
        """Change those of the pages that are in the state, if any."""
        if not isinstance(pages, PageRange):
            raise no_range(pages)
        start, stop = pages.start, pages.stop
        with self._lock:
            if self._state.over is not None or not 0 <= start <= stop <= self._pages:
                self._range(pages)
            if self._state.at or self._asked or self._lent:
                with self._bolts:
                    self._told(pages, change, state)
            else:
                change(start, stop)

    def _told(self, pages: PageRange, change: Callable[[int, int], None], state: int) -> None:
        """The same, with the consumers told whom it concerns."""
        start, stop = pages.start, pages.stop
        if not self._consumers.concerned(start, stop, state):
            change(start, stop)
        elif self._state.shared.find(state, start, stop) >= 0:
            self._consumers.around([pages], [pages] if state else [], lambda: change(start, stop))

    def convert(self, to_shared: "Ranges" = (), to_private: "Ranges" = ()) -> None:
        """Many ranges at once, first those to take back, then those to share: all of them, or nothing and Refused.

        Ranges: PageRange objects, or an int64 array of shape (n, 2), start and stop. Compiled for a uffd-window of a
        cooperating host; the first call, which may be empty, loads the compiler (a third of a second), and from then on
        share and unshare of one page are compiled too; without one, the 50,000th page shared singly does that.
        """
        vectors = self._vector(to_private), self._vector(to_shared)
        with self._lock, self._bolts:
            self._alive()
            asked = self._consumers.concerned(0, self._pages, 1)
            pages = [PageRange(*run) for ranges in vectors for run in ranges.tolist()] if asked else []
            self._consumers.around(pages, pages[: len(vectors[0])], lambda: self._state.convert_all(*vectors))

    def _vector(self, ranges: "Ranges") -> "NDArray[np.int64]":
        import numpy as np

        if not isinstance(ranges, np.ndarray):
            if isinstance(ranges, PageRange) or not {PageRange}.issuperset(map(type, ranges)):
                raise no_range(ranges)
            ranges = np.array([(pages.start, pages.stop) for pages in ranges], np.int64).reshape(-1, 2)
        if ranges.dtype != np.int64 or ranges.ndim != 2 or ranges.shape[1] != 2:
            raise ValueError(f"ranges are int64 of shape (n, 2), not {ranges.dtype} of shape {ranges.shape}")
        starts, stops = ranges[:, 0], ranges[:, 1]
        wrong = (starts < 0) | (starts > stops) | (stops > self._pages)
        if wrong.any():
            PageRange(*ranges[wrong][0].tolist()).checked(self._pages)
        return ranges

    def punch(self, pages: PageRange) -> None:
        """Give the pages back to the host: their bytes are gone, they are private and read as zeroes. Refused(EAGAIN)
        while one is held, Refused(EOPNOTSUPP) where the backing cannot; ValueError outside."""
        with self._lock, self._bolts:
            if not self._range(pages).count:
                return
            self._consumers.around([pages], [pages], lambda: self._punch(pages))

    def _punch(self, pages: PageRange) -> None:
        self._state.punch(pages)

    # -- who else has the pages ----------------------------------------------------------------------------------------

    def hold(self, *ranges: PageRange) -> Hold:
        """Take references on the pages, as a consumer that uses them now; waits for a conversion under way."""
        with self._lock:
            for pages in ranges:
                self._range(pages)
            return self._consumers.hold(ranges)

    def _hold_touched(self, places: "NDArray[np.int64]") -> Hold:
        """`hold` for the pages of many places (see consumers.Touched), all of them inside the memory."""
        with self._lock:
            self._alive()
            return self._consumers.hold_touched(places)

    def _lend(self, loan: "DirectLoan") -> bool:
        """Map the pages of the loan, if all of them are shared and the file can be mapped."""
        with self._lock, self._bolts:
            self._alive()
            for pages in loan.ranges:
                self._range(pages)
                if self._state.shared.find(0, pages.start, pages.stop) >= 0:
                    return False
            try:
                loan.open(self._backing.file, self._consumers.lending())
            except OSError:
                return False
            return True

    def subscribe(self, listener: Listener) -> None:
        """Tell the listener around each conversion and punch. It may refuse by raising Refused in invalidate_begin.
        There it must not wait for a thread that is inside an accessor of the window: that waits for the conversion.
        TypeError for an object that cannot be told."""
        if not callable(getattr(listener, "invalidate_begin", None)) or not hasattr(listener, "invalidate_end"):
            raise TypeError(f"a listener has invalidate_begin and invalidate_end (port.Listener), not {listener!r}")
        with self._lock:
            self._alive()
            self._consumers.subscribe(listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Tell it nothing more; ValueError when it was not subscribed."""
        with self._lock:
            self._alive()
            self._consumers.unsubscribe(listener)

    # -- what is known -------------------------------------------------------------------------------------------------

    @property
    def window(self) -> Window:
        """The host's view: mapped all the time, it answers only for shared pages; Unavailable when it is isolated."""
        self._alive()
        if self._window is None:
            raise Unavailable("an isolated memory's window is in the host side's process only", "use mem.spawn")
        return self._window

    def spawn(
        self,
        function: Callable[..., object],
        *arguments: object,
        fds: Sequence[int] = (),
        patience: float = START_TIMEOUT,
    ) -> HostProcess:
        """Run function(host, *arguments), host a HostSide, in a process that has the window and nothing else of the
        memory; of this process's descriptors it keeps `fds`, by the same numbers, files as open descriptions of its
        own. The function's module is imported before the process gives up its rights: what is imported later is not
        found. Only for an isolated memory, one at a time: UserMistake, Refused(EBUSY); Unavailable where the host side
        cannot be kept apart any more, or where one of the steps of its start (the longest imports the function's
        module) takes more than `patience` seconds."""
        self._alive()
        spawn = self._backing.spawn
        if spawn is None:
            raise UserMistake("spawn needs PrivateMemory(..., isolated=True)")
        with self._lock:
            self._alive()
            try:
                runs = [(run.start * PAGE_SIZE, run.stop * PAGE_SIZE) for run in self.shared_runs()]
                try:
                    host = spawn(function, arguments, tuple(fds), patience, runs)
                finally:
                    self._state.reprice()
                try:
                    host.go()
                except BaseException:
                    self._backing.bar()
                    raise
            except OSError as error:
                raise Unavailable(*lacking(error)) from error
            return host

    def _reopen(self, offset: int) -> bool:
        with self._bolts:
            return self._state.reopen(offset // PAGE_SIZE)

    # -- lifetime ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give everything back; arrays that still refer to the window lead to nothing (SIGSEGV). Twice is once."""
        with self._lock:
            if not self._closed:
                self._consumers.take_back(PageRange(0, self._pages))
                self._state.finish(closed)
                try:
                    if self._window is not None:
                        self._window.close()
                finally:
                    self._backing.close()
                self._closed = True

    def forked(self) -> None:
        """In a forked child: nothing of it is left but an object that refuses."""
        if not self._closed:
            self._closed = True
            self._lock = threading.RLock()  # another thread of the parent may have had it
            self._state.finish(self.foreign)
            self._backing.forked()

    def __del__(self) -> None:
        if not self._closed:
            try:
                warnings.warn(f"unclosed {self.backing} memory", ResourceWarning, stacklevel=2, source=self)
            finally:
                self.close()
