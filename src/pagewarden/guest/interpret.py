"""The executor that needs no CPU: a guest program's steps in Python, over anything that reads, writes and is called.

It leaves the same bytes in memory and makes the same hypercalls and doorbells as the machine code; it is what the
other executors are tested against.
"""

import struct
from collections.abc import Callable
from typing import Any, Protocol

from pagewarden.abi import virtio, virtio_blk
from pagewarden.guest import layout as at
from pagewarden.guest import pattern
from pagewarden.guest.hypercalls import GuestReport, Number
from pagewarden.guest.program import EPILOGUE, IOPTE_VALID, PROLOGUE, Act, Program
from pagewarden.vocab import PAGE_SIZE, GuestStopped

_UNUSED = 0xFF
"""A status byte that no device writes."""


class World(Protocol):
    """What a guest meets: its memory (gpa, bytes), and whoever answers hypercalls and doorbells.

    doorbell returns when the device has used what was posted; hypercall returns what the guest finds in rax.
    """

    def read(self, gpa: int, length: int) -> bytes: ...
    def write(self, gpa: int, data: bytes) -> None: ...
    def hypercall(self, number: int, arguments: tuple[int, int, int]) -> int: ...
    def doorbell(self, queue: int) -> None: ...


def interpret(described: Program, world: World) -> GuestReport:
    """Run the program to its end. Raises GuestStopped when a hypercall fails or the device does not answer."""
    run = _Run(described, world)
    run.run()
    return GuestReport(run.done, run.failures, run.first_failure)


class _Run:
    """A program under way: the batch's requests (as plain integers), the avail index, what failed so far."""

    def __init__(self, described: Program, world: World) -> None:
        self.program, self.world, self.layout = described, world, described.layout
        self.batch: list[dict[str, int]] = []
        self.done = self.posted = self.mapped = self.failures = self.first_failure = 0

    def run(self) -> None:
        requests = self.program.requests
        self._make(PROLOGUE)
        while self.done < len(requests):
            self.batch = [_plain(record) for record in requests[self.done : self.done + self.program.batch]]
            self._make(self.program.steps)
            self.done += len(self.batch)
        self._make(EPILOGUE)

    def _make(self, steps: tuple[Act, ...]) -> None:
        for step in steps:
            _DO[step](self)

    def call(self, number: Number, *arguments: int) -> None:
        a, b, c = (*arguments, 0, 0, 0)[:3]
        answer = self.world.hypercall(number, (a, b, c))
        if answer:
            self.world.hypercall(Number.ABORT, (number, answer, a))
            raise GuestStopped(f"{number.name.lower()} was answered {answer}", 0)

    def private(self, request: dict[str, int]) -> int:
        return self.layout.data + request["page"] * PAGE_SIZE

    def device_buffer(self, request: dict[str, int]) -> int:
        copies = Act.COPY_OUT in self.program.steps
        return (self.layout.pool if copies else self.layout.data) + request["page"] * PAGE_SIZE

    def data_pages(self) -> tuple[int, int]:
        last = self.batch[-1]
        return self.layout.data // PAGE_SIZE, last["page"] + last["pages"]


def _plain(record: Any) -> dict[str, int]:
    return {name: int(record[name]) for name in record.dtype.names}


def _clear(run: _Run) -> None:
    run.world.write(run.layout.shared, bytes(run.layout.data - run.layout.shared))


def _expose(run: _Run) -> None:
    shared = run.layout.shared_pages
    run.call(Number.SHARE, shared.start, shared.count)


def _fill(run: _Run) -> None:
    for request in run.batch:
        if request["write"]:
            run.world.write(run.private(request), pattern.fill(request["word"], request["length"]))


def _copy_out(run: _Run) -> None:
    for request in run.batch:
        if request["write"]:
            run.world.write(run.device_buffer(request), run.world.read(run.private(request), request["length"]))


def _copy_in(run: _Run) -> None:
    for request in run.batch:
        if not request["write"]:
            run.world.write(run.private(request), run.world.read(run.device_buffer(request), request["length"]))


def _map(run: _Run) -> None:
    """The ring's head is the guest's own count: what lies in shared memory is only written."""
    gfn, count = run.data_pages()
    for page in range(count):
        run.world.write(run.layout.iopt + 8 * page, struct.pack("<Q", (gfn + page) * PAGE_SIZE | IOPTE_VALID))
        place = run.mapped % run.layout.recent_entries
        run.world.write(run.layout.recent + at.RECENT_HEAD + 8 * place, struct.pack("<Q", page))
        run.mapped += 1
    run.world.write(run.layout.recent, struct.pack("<Q", run.mapped))


def _unmap(run: _Run) -> None:
    run.world.write(run.layout.iopt, bytes(8 * run.data_pages()[1]))


def _post(run: _Run) -> None:
    for request in run.batch:
        _chain(run, request)
        ring = run.layout.avail + 4 + 2 * (run.posted % run.layout.queue)
        run.world.write(ring, struct.pack("<H", at.CHAIN * request["slot"]))
        run.posted += 1
    run.world.write(run.layout.avail, struct.pack("<HH", virtio.VIRTQ_AVAIL_F_NO_INTERRUPT, run.posted & 0xFFFF))


def _chain(run: _Run, request: dict[str, int]) -> None:
    slot, write = request["slot"], request["write"]
    header, status = run.layout.headers + at.HEADER * slot, run.layout.status + slot
    head = at.CHAIN * slot
    flags = virtio.VIRTQ_DESC_F_NEXT | (0 if write else virtio.VIRTQ_DESC_F_WRITE)
    kind = virtio_blk.VIRTIO_BLK_T_OUT if write else virtio_blk.VIRTIO_BLK_T_IN
    run.world.write(header, struct.pack("<IIQ", kind, 0, request["sector"]))
    run.world.write(status, bytes([_UNUSED]))
    chain = (
        (header, at.HEADER, virtio.VIRTQ_DESC_F_NEXT, head + 1),
        (run.device_buffer(request), request["length"], flags, head + 2),
        (status, 1, virtio.VIRTQ_DESC_F_WRITE, 0),
    )
    described = b"".join(struct.pack("<QIHH", *descriptor) for descriptor in chain)
    run.world.write(run.layout.shared + at.DESCRIPTOR * head, described)


def _wait(run: _Run) -> None:
    (used,) = struct.unpack("<H", run.world.read(run.layout.used + 2, 2))
    if used != run.posted & 0xFFFF:
        raise GuestStopped(f"the device used {used} of {run.posted & 0xFFFF} requests, then nothing more", 0)


def _check(run: _Run) -> None:
    for index, request in enumerate(run.batch, run.done):
        good = run.world.read(run.layout.status + request["slot"], 1)[0] == virtio_blk.VIRTIO_BLK_S_OK
        if good and not request["write"]:
            good = pattern.digest(run.world.read(run.private(request), request["length"])) == request["word"]
        if not good:
            run.first_failure = run.first_failure if run.failures else index
            run.failures += 1


_DO: dict[Act, Callable[[_Run], None]] = {
    Act.CLEAR: _clear,
    Act.EXPOSE: _expose,
    Act.FILL: _fill,
    Act.COPY_OUT: _copy_out,
    Act.COPY_IN: _copy_in,
    Act.SHARE: lambda run: run.call(Number.SHARE, *run.data_pages()),
    Act.UNSHARE: lambda run: run.call(Number.UNSHARE, *run.data_pages()),
    Act.MAP: _map,
    Act.UNMAP: _unmap,
    Act.POST: _post,
    Act.KICK: lambda run: run.world.doorbell(run.program.queue),
    Act.WAIT: _wait,
    Act.CHECK: _check,
    Act.FINISH: lambda run: run.call(Number.DONE, run.done, run.failures, run.first_failure),
}
