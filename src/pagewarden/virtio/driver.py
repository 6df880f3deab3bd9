"""The driver side of a split virtqueue, for reference: plain, one descriptor at a time, as specified."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pagewarden.abi.virtio import (
    VIRTQ_AVAIL_F_NO_INTERRUPT,
    VIRTQ_DESC_F_INDIRECT,
    VIRTQ_DESC_F_NEXT,
    VIRTQ_DESC_F_WRITE,
    VIRTQ_USED_F_NO_NOTIFY,
    virtq_desc,
    virtq_used_elem,
)
from pagewarden.port import Buffer, Segments
from pagewarden.virtio.faults import UsedRingBroken
from pagewarden.virtio.ring import RING, Ring, barrier, need_event

_DESC = struct.Struct("<QIHH")
_MODULO = 0xFFFF


class GuestMemory(Protocol):
    """What answers for everything the guest has; offsets are gpas."""

    def read(self, offset: int, length: int) -> bytes: ...
    def write(self, offset: int, data: Buffer) -> None: ...


@dataclass(frozen=True, slots=True)
class Used:
    """A chain that came back: its head, and the bytes that the device wrote from its first writable one on."""

    head: int
    length: int


class Driver:
    """One queue as the guest sees it."""

    def __init__(self, memory: GuestMemory, ring: Ring, event_idx: bool = False) -> None:
        self.ring, self._memory, self._event_idx = ring, memory, event_idx
        self._free = list(range(ring.size))[::-1]  # descriptors, the next one last
        self._chains: dict[int, tuple[list[int], int]] = {}  # of each under way: descriptors, writable bytes; by head
        self._avail = self._told = self._used = 0  # modulo 2^16: next entry, entries the device knows, entries reaped
        memory.write(ring.desc, bytes(virtq_desc.itemsize * ring.size))
        memory.write(ring.avail, bytes(ring.used_event + 2 - ring.avail))
        memory.write(ring.used, bytes(ring.avail_event + 2 - ring.used))

    @property
    def free(self) -> int:
        """Descriptors that are not in use."""
        return len(self._free)

    def add_chain(self, readable: Segments, writable: Segments, table: int | None = None) -> int:
        """Make a chain available, without telling the device; its head. table: gpa for an indirect table, 16 bytes for
        each segment. IndexError when the descriptors do not suffice."""
        parts = [(*part, 0) for part in readable] + [(*part, VIRTQ_DESC_F_WRITE) for part in writable]
        if table is not None:
            self._link(table, parts, list(range(len(parts))))
            parts = [(table, len(parts) * virtq_desc.itemsize, VIRTQ_DESC_F_INDIRECT)]
        if len(parts) > len(self._free):
            raise IndexError(f"a chain of {len(parts)} descriptors, {len(self._free)} are free")
        indices = [self._free.pop() for _ in parts]
        self._link(self.ring.desc, parts, indices)
        self._chains[indices[0]] = indices, sum(length for _, length in writable)
        self._store(self.ring.avail + RING + 2 * (self._avail % self.ring.size), indices[0])
        self._avail = self._avail + 1 & _MODULO
        return indices[0]

    def publish(self) -> bool:
        """Tell the device of all chains added since; whether it wants a kick."""
        new, old = self._avail, self._told
        self._store(self.ring.avail + 2, new)
        self._told = new
        barrier()
        if self._event_idx:
            return need_event(self._load(self.ring.avail_event), new, old)
        return new != old and not self._load(self.ring.used) & VIRTQ_USED_F_NO_NOTIFY

    def reap(self) -> list[Used]:
        """The chains that came back since the last call, oldest first; their descriptors are free again.
        UsedRingBroken where the device hands back what it was not given."""
        back = []
        while self._used != self._load(self.ring.used + 2):
            at = self.ring.used + RING + virtq_used_elem.itemsize * (self._used % self.ring.size)
            head, length = struct.unpack("<II", self._memory.read(at, virtq_used_elem.itemsize))
            if head not in self._chains:
                raise UsedRingBroken(f"names head {head}, which is not under way")
            indices, most = self._chains[head]
            if length > most:
                raise UsedRingBroken(f"says {length} bytes written to head {head}, which has room for {most}")
            del self._chains[head]
            self._free += indices[::-1]
            back.append(Used(head, length))
            self._used = self._used + 1 & _MODULO
        return back

    def ask_interrupt(self, after: int = 1) -> None:
        """Ask for an interrupt once so many more chains came back; 0: for none (without event indices: a hint).
        Reap once more afterwards, the device may have been quicker."""
        if self._event_idx:
            self._store(self.ring.used_event, self._used + after - 1 & _MODULO)
        else:
            self._store(self.ring.avail, 0 if after else VIRTQ_AVAIL_F_NO_INTERRUPT)
        barrier()

    def _link(self, table: int, parts: Sequence[tuple[int, int, int]], indices: list[int]) -> None:
        for (gpa, length, flags), index, after in zip(parts, indices, [*indices[1:], None], strict=True):
            more = 0 if after is None else VIRTQ_DESC_F_NEXT
            entry = _DESC.pack(gpa, length, flags | more, after or 0)
            self._memory.write(table + virtq_desc.itemsize * index, entry)

    def _load(self, offset: int) -> int:
        return int.from_bytes(self._memory.read(offset, 2), "little")

    def _store(self, offset: int, value: int) -> None:
        self._memory.write(offset, value.to_bytes(2, "little"))
