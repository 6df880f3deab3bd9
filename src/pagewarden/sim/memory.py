"""The model behind the same protocol as live memory (port.Memory), with bytes: what runs on one runs on the other."""

import os
from collections.abc import Callable
from errno import EFAULT, EINVAL, EOPNOTSUPP

from pagewarden.designs import Do, Hop, Line, Options, Steps, follow
from pagewarden.designs.convert import donate, let_go, refault, share, unshare
from pagewarden.law import Op, Outcome, Policy, reason
from pagewarden.law.page import Owner
from pagewarden.port import Buffer, HostView, Listener, Segments
from pagewarden.sim.contents import Contents
from pagewarden.sim.machine import Machine
from pagewarden.vocab import PAGE_SIZE, Event, PageRange, Refused

Conversion = Callable[[Options, Policy], Steps]


class ModelMemory:
    """A guest's memory of `size` bytes under a policy. All pages start private and mapped for the guest."""

    def __init__(self, size: int, policy: Policy, seed: int = 0) -> None:
        self.size, self.backing, self.policy = size, f"model:{policy.name}", policy
        self.contents = Contents(Machine(policy, size // PAGE_SIZE, pool_pages=0), seed)
        self._listeners: list[Listener] = []
        self._hypercalls = 0
        self._closed = False
        self.perform(donate(policy), PageRange(0, size // PAGE_SIZE))

    @property
    def window(self) -> HostView:
        self._alive()
        return ModelView(self)

    def populate(self, offset: int, data: Buffer) -> None:
        """A payload, put there by the warden before the guest runs."""
        pages = self._covering(offset, memoryview(data).nbytes)
        for page in range(pages.start, pages.stop):
            if self.is_shared(page):
                raise Refused(EINVAL, "populate is for private pages, this one is shared", page * PAGE_SIZE)
        self.private_write(offset, data)

    def private_read(self, offset: int, length: int) -> bytes:
        """Bytes as the guest sees them."""
        self._covering(offset, length)
        return self.contents.read(Op.GUEST_LOAD, offset, length)

    def private_write(self, offset: int, data: Buffer) -> None:
        self._covering(offset, memoryview(data).nbytes)
        self.contents.write(Op.GUEST_STORE, offset, bytes(data))

    def share(self, pages: PageRange) -> None:
        if runs := self._in_state(pages, shared=False):
            self._around(pages, lambda: self._convert(runs, share, unshare))

    def unshare(self, pages: PageRange) -> None:
        if runs := self._in_state(pages, shared=True):
            self._around(pages, lambda: self._convert(runs, unshare, share))

    def _in_state(self, pages: PageRange, shared: bool) -> list[PageRange]:
        asked = self._range(pages)
        return PageRange.runs(page for page in range(asked.start, asked.stop) if self.is_shared(page) == shared)

    def _convert(self, runs: list[PageRange], there: Conversion, back: Conversion) -> None:
        """Run by run; a refusal undoes the runs before."""
        for done, run in enumerate(runs):
            try:
                self.perform(there(Options(), self.policy), run)
            except Refused:
                for earlier in runs[:done]:
                    self.perform(back(Options(), self.policy), earlier)
                raise

    def punch(self, pages: PageRange) -> None:
        """The pages are given up and come back empty at the guest's next touch."""
        if self._range(pages).count:
            self._around(pages, lambda: self._punched(pages))

    def _punched(self, pages: PageRange) -> None:
        """A hole is of private pages, or, where the policy guards those, of pages that the guest has shared."""
        policy, guarded = self.policy, self.policy.has("punch-guarded")
        if not policy.has("punches"):
            raise Refused(EOPNOTSUPP, reason(Op.PUNCH, policy), pages.start * PAGE_SIZE)
        there, back = (share, unshare) if guarded else (unshare, share)
        self._convert(self._in_state(pages, shared=not guarded), there, back)
        again = donate if guarded or policy.has("punch-shares") else refault
        self.perform((*let_go(policy), Do(Op.PUNCH), Do(Op.NOTIFY_END), *again(policy)), pages)

    def _around(self, pages: PageRange, change: Callable[[], None]) -> None:
        """Tell the listeners, change, tell those that it is over."""
        told: list[Listener] = []
        try:
            for listener in self._listeners:
                listener.invalidate_begin(pages)
                told.append(listener)
            change()
        finally:
            for listener in told:
                listener.invalidate_end(pages)

    def is_shared(self, page: int) -> bool:
        self._range(PageRange(page, page + 1))
        return self.contents.machine.page(page).owner is Owner.SHARED

    def subscribe(self, listener: Listener) -> None:
        self._alive()
        self._listeners.append(listener)

    def statistics(self) -> dict[str, int]:
        """Counts by event key, of conversions and accesses since the start."""
        counts = self.contents.machine.events.tolist()
        counts[Event.HYPERCALLS] += self._hypercalls
        return {event.key: counts[event] for event in Event if counts[event]}

    def close(self) -> None:
        """Nothing to give back; it is over all the same."""
        self._closed = True

    def _alive(self) -> None:
        if self._closed:
            raise ValueError("the memory is closed")

    def _range(self, pages: PageRange) -> PageRange:
        self._alive()
        if not isinstance(pages, PageRange):
            raise TypeError(f"pages are a PageRange(start, stop), not {pages!r}")
        return pages.checked(self.size // PAGE_SIZE)

    def _covering(self, offset: int, length: int) -> PageRange:
        self._alive()
        return PageRange.inside(offset, length, self.size)

    def perform(self, steps: Steps, pages: PageRange) -> None:
        """A procedure's steps on a range; what a refusal leads to is done before Refused is raised."""
        pages.checked(self.size // PAGE_SIZE)
        refusals: list[Refused] = []

        def act(line: Do) -> bool:
            refusal = self._do(line.op, pages)
            if refusal and line.otherwise != ():
                refusals.append(refusal)
            return refusal is None

        def tell(line: Line) -> None:
            self._hypercalls += isinstance(line, Hop) and line.hypercall

        follow(steps, act, tell)
        if refusals:
            raise refusals[0]

    def _do(self, op: Op, pages: PageRange) -> Refused | None:
        outcome, stopped = self.contents.apply(op, pages)
        if outcome is Outcome.DONE:
            return None
        return Refused(outcome.errno or EFAULT, reason(op, self.policy), stopped * PAGE_SIZE)


class ModelView:
    """What the host sees of it (port.HostView): the kernel's checked copies."""

    def __init__(self, memory: ModelMemory) -> None:
        self._inside, self._contents, self.size = memory._covering, memory.contents, memory.size

    def read(self, offset: int, length: int) -> bytes:
        self._inside(offset, length)
        return self._contents.read(Op.UACCESS_READ, offset, length)

    def write(self, offset: int, data: Buffer) -> None:
        self._inside(offset, len(data))
        self._contents.write(Op.UACCESS_WRITE, offset, bytes(data))

    def read_into(self, offset: int, target: Buffer) -> None:
        view = memoryview(target).cast("B")
        view[:] = self.read(offset, len(view))

    def pread_from(self, fd: int, file_offset: int, segments: Segments) -> int:
        moved = 0
        for offset, length in segments:
            data = os.pread(fd, length, file_offset + moved)
            self.write(offset, data)
            moved += len(data)
            if len(data) < length:
                break
        return moved

    def pwrite_to(self, fd: int, file_offset: int, segments: Segments) -> int:
        data = b"".join(self.read(offset, length) for offset, length in segments)
        return os.pwrite(fd, data, file_offset)
