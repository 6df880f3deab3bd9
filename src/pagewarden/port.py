"""What the workshops (sim, live, virtio, guest) know of each other: protocols only, no code.

A device sees a HostView; a guest's executor sees a Memory; a consumer of the fd (KVM, an IOMMU) is a Listener.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from pagewarden.vocab import Exit, PageRange

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes-like (collections.abc.Buffer needs Python 3.12)."""
Segments: TypeAlias = Sequence[tuple[int, int]]
"""Places of a memory: offset and length of each, bytes."""


class Listener(Protocol):
    """A consumer of the memory, told before pages go away and when that is over (memfile_notifier, 2022; virt/kvm
    mmu_invalidate_begin/end). It must drop its references inside invalidate_begin, or refuse by raising Refused there:
    then it hears nothing more. Whoever was told hears the end, whatever another makes of it."""

    def invalidate_begin(self, pages: PageRange) -> None: ...
    def invalidate_end(self, pages: PageRange) -> None: ...


class HostView(Protocol):
    """The host's view of a guest's memory: mapped all the time, it answers only for shared pages.

    Offsets and lengths are bytes. Every method raises PrivateAccess (offset: the first byte that did not answer) and
    ValueError for a range outside the memory; a refused call may have moved the bytes before that offset.

    A host that drops its own entries (MADV_DONTNEED) finds a shared page refused until it is shared again where only
    the warden can set the entry, and answered where none is needed: of pages that were shared from the start the guard
    stands aside, so that nothing is allocated for them.
    """

    size: int

    def read(self, offset: int, length: int) -> bytes: ...
    def write(self, offset: int, data: Buffer) -> None: ...
    def read_into(self, offset: int, target: Buffer) -> None: ...
    def pread_from(self, fd: int, file_offset: int, segments: Segments) -> int:
        """File to shared pages, one preadv. Returns bytes moved."""

    def pwrite_to(self, fd: int, file_offset: int, segments: Segments) -> int:
        """Shared pages to file, one pwritev; returns bytes moved."""


@runtime_checkable
class VectoredView(HostView, Protocol):
    """A HostView that reaches many small places at once, for a device's hot path.

    places: int64 of shape (2, n), offsets and lengths, of which the first `count` are meant. The methods raise as
    those of HostView do.
    """

    def gather(self, places: "NDArray[np.int64]", count: int, target: "NDArray[np.uint8]") -> None:
        """The bytes of the places, in their order, into the start of target; what it does not hold is only touched."""

    def scatter(self, places: "NDArray[np.int64]", count: int, data: "NDArray[np.uint8]") -> None:
        """The bytes of data, a writable array, to the places, in their order; both hold as much."""

    def transfer(self, fd: int, runs: "NDArray[np.int64]", places: "NDArray[np.int64]") -> int:
        """One preadv or pwritev for each run, as far as all of a run moves; how many did.

        runs: shape (n, 4 or more): 0 from the file to memory, 1 from memory to the file, anything else stops; offset in
        the file, bytes; first of its places; the one after its last. Raises nothing: ask pread_from what is wrong.
        """

    def add16(self, offset: int, amount: int) -> None:
        """Add to the 2-byte little-endian number at an offset that is 2 modulo 4 (a used index: virtio 1.2, 2.7.8).

        The other side only ever sees whole numbers on the way from the old one to the new one, modulo 2^16; a copy by
        the kernel goes byte by byte. A full memory barrier.
        """


@runtime_checkable
class ForeseeingView(VectoredView, Protocol):
    """A VectoredView that must ask for pages, and rather for many at once."""

    def ahead(self, descriptors: "NDArray[np.int64]", count: int) -> None:
        """What will be touched next: rows gpa, bytes and flags (virtio.virtq_desc) of so many columns. Raises
        PrivateAccess where one of them is not to be had."""


@runtime_checkable
class QueueingView(VectoredView, Protocol):
    """A VectoredView that has many transfers under way at once, for a file without a page cache."""

    def no_queue(self) -> str | None:
        """Why there is no such thing here; None: there is."""

    def together(
        self, fd: int, runs: "NDArray[np.int64]", places: "NDArray[np.int64]", moved: "NDArray[np.uint8]"
    ) -> int:
        """The first of the runs (as transfer has them) at once; how many, all of them over when this returns.

        moved, one for each run: 1 where all of it moved, 0 where not, and a part may have. Their pages can be neither
        converted nor punched meanwhile: Refused(EAGAIN). Raises nothing about a run: ask pread_from what is wrong.
        """


class Loan(Protocol):
    """Shared pages that may be loaded and stored directly, by compiled code of one thread that got inside the gate: a
    conversion of one of them takes them back first, and waits until nobody is inside, where nothing may wait for a
    conversion or call Python."""

    good: bool
    """Not taken back yet."""
    gate: int
    """Address of the gate (kernel.guarded.enter, leave)."""
    addresses: tuple[int, ...]
    """Where each of the places lies."""
    window: tuple[int, int]
    """Where the window is mapped, and its bytes, for guarded copies (kernel.guarded) ..."""
    scratch: tuple[int, int, int]
    """... and the file that they go through: fd, where it is mapped, bytes."""
    zeroes: int
    """One that reads as zeroes, or that file."""
    table: int
    """0, or where the table lies by which the borrower's places are found in that window (virtio.placing)."""

    def close(self) -> None:
        """Give the pages back. Twice is once."""


@runtime_checkable
class LendingView(VectoredView, Protocol):
    """A VectoredView that lends shared pages: no system call for what is read and written all the time (a ring)."""

    def lend(self, *places: tuple[int, int]) -> Loan | None:
        """places: (offset, bytes) each; the last is stored to, the others are only loaded. None while one of their
        pages is private, or where there is no such thing."""


@runtime_checkable
class Memory(Protocol):
    """Private memory as its warden holds it, live or the model's. Pages count from 0; a change is all or nothing.

    share, unshare: what is in the state already stays; an empty range and one without a page to change do nothing, and
    tell nobody. Refused(EAGAIN, offset) while something holds a page. populate: Refused(EINVAL, offset) where a page is
    shared. punch: the pages are private afterwards and read as zeroes. Listeners hear the range that was asked for.
    ValueError for what does not lie in the memory and for every call after close; TypeError for what is no PageRange.

    May differ: `backing`, what `statistics` counts, where the kernel or a policy refuses (Refused with its errno: punch
    of memfd_secret, any conversion of guest_memfd), what a policy that is not in place makes of bytes, and `window`,
    which is Unavailable where it is in another process.
    """

    size: int
    backing: str

    @property
    def window(self) -> HostView: ...
    def populate(self, offset: int, data: Buffer) -> None: ...
    def share(self, pages: PageRange) -> None: ...
    def unshare(self, pages: PageRange) -> None: ...
    def punch(self, pages: PageRange) -> None: ...
    def is_shared(self, page: int) -> bool: ...
    def subscribe(self, listener: Listener) -> None: ...
    def statistics(self) -> dict[str, int]: ...
    def close(self) -> None: ...


class Cpu(Protocol):
    """One virtual CPU that runs a guest's machine code in 64-bit mode (an emulator, KVM).

    The guest speaks by `out dx, eax`: number in rax, arguments in rdi, rsi, r10, answer in rax.
    """

    backend: str
    level: str
    """Privilege level of the guest's code, and whether instructions run natively: every number carries it."""

    def start(self, rip: int) -> None:
        """Clear the registers and begin at this address with the next run."""

    def run(self, out: Callable[[int, int], None]) -> Exit:
        """Run until something ends it. Each 4-byte OUT calls out(port, value) before the next instruction; there,
        arguments, reply and stop may be called. An exception of `out` passes through."""

    def registers(self) -> tuple[int, ...]:
        """From inside `out` or after run: rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 to r15, rip, rflags, behind the
        OUT: a CPU of any kind that is told to `resume` from these goes on there."""

    def resume(self, registers: Sequence[int]) -> None:
        """Go on with these, as `registers` gave them, at the next run."""

    def arguments(self) -> tuple[int, int, int]: ...
    def reply(self, value: int) -> None: ...
    def stop(self) -> None: ...
    def rip(self) -> int: ...
    def kick(self) -> None:
        """Make run return KICKED, from any thread; without a run under way, the next one."""

    def close(self) -> None: ...
