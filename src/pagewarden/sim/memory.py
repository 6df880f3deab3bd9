"""The model behind the same protocol as live memory (port.Memory), with bytes: what runs on one runs on the other."""

import os
from collections.abc import Sequence
from errno import EFAULT

from pagewarden.designs import Do, Hop, Line, Options, Steps, follow
from pagewarden.designs.convert import donate, let_go, share, unshare
from pagewarden.law import Op, Outcome, Policy, reason
from pagewarden.law.page import Owner
from pagewarden.port import Buffer, HostView, Listener
from pagewarden.sim.contents import Contents
from pagewarden.sim.machine import Machine
from pagewarden.vocab import PAGE_SIZE, Event, PageRange, Refused


class ModelMemory:
    """A guest's memory of `size` bytes under a policy. All pages start private and mapped for the guest."""

    def __init__(self, size: int, policy: Policy, seed: int = 0) -> None:
        self.size, self.backing, self.policy = size, f"model:{policy.name}", policy
        self.contents = Contents(Machine(policy, size // PAGE_SIZE, pool_pages=0), seed)
        self._listeners: list[Listener] = []
        self._hypercalls = 0
        self.perform(donate(policy), PageRange(0, size // PAGE_SIZE))

    @property
    def window(self) -> HostView:
        return ModelView(self)

    def populate(self, offset: int, data: Buffer) -> None:
        """A payload, put there by the warden before the guest runs."""
        self.private_write(offset, data)

    def private_read(self, offset: int, length: int) -> bytes:
        """Bytes as the guest sees them."""
        return self.contents.read(Op.GUEST_LOAD, offset, length)

    def private_write(self, offset: int, data: Buffer) -> None:
        self.contents.write(Op.GUEST_STORE, offset, bytes(data))

    def share(self, pages: PageRange) -> None:
        """Refused (EPERM) where a page is shared already."""
        self.perform(share(Options(), self.policy), pages)

    def unshare(self, pages: PageRange) -> None:
        """Refused (EAGAIN) while the host holds a page, (EPERM) where one is private already."""
        self.perform(unshare(Options(), self.policy), pages)

    def punch(self, pages: PageRange) -> None:
        """The pages are given up and come back empty at the guest's next touch."""
        for listener in self._listeners:
            listener.invalidate_begin(pages)
        self.perform((*let_go(self.policy), Do(Op.PUNCH), Do(Op.NOTIFY_END), *donate(self.policy)), pages)
        for listener in self._listeners:
            listener.invalidate_end(pages)

    def is_shared(self, page: int) -> bool:
        return self.contents.machine.page(page).owner is Owner.SHARED

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def statistics(self) -> dict[str, int]:
        """Counts by event key, of conversions and accesses since the start."""
        counts = self.contents.machine.events.tolist()
        counts[Event.HYPERCALLS] += self._hypercalls
        return {event.key: counts[event] for event in Event if counts[event]}

    def close(self) -> None:
        """Nothing to give back."""

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
        return None if outcome is Outcome.DONE else Refused(outcome.errno or EFAULT, reason(op), stopped * PAGE_SIZE)


class ModelView:
    """What the host sees of it (port.HostView): the kernel's checked copies."""

    def __init__(self, memory: ModelMemory) -> None:
        self._contents, self.size = memory.contents, memory.size

    def read(self, offset: int, length: int) -> bytes:
        self._inside(offset, length)
        return self._contents.read(Op.UACCESS_READ, offset, length)

    def write(self, offset: int, data: Buffer) -> None:
        self._inside(offset, len(data))
        self._contents.write(Op.UACCESS_WRITE, offset, bytes(data))

    def read_into(self, offset: int, target: Buffer) -> None:
        view = memoryview(target).cast("B")
        view[:] = self.read(offset, len(view))

    def pread_from(self, fd: int, file_offset: int, segments: Sequence[tuple[int, int]]) -> int:
        moved = 0
        for offset, length in segments:
            data = os.pread(fd, length, file_offset + moved)
            self.write(offset, data)
            moved += len(data)
            if len(data) < length:
                break
        return moved

    def pwrite_to(self, fd: int, file_offset: int, segments: Sequence[tuple[int, int]]) -> int:
        data = b"".join(self.read(offset, length) for offset, length in segments)
        return os.pwrite(fd, data, file_offset)

    def _inside(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"bytes [{offset:#x}, {offset + length:#x}) do not lie in a memory of {self.size:#x}")
