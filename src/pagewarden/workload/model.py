"""What a workload is: requests as columns, and what had to be left out of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

MAX_LENGTH = 2**32 - 1
"""Bytes of the longest request: fio keeps a length in an unsigned int (its replay reads `%u`)."""
MAX_END = 2**63 - 1
"""Last byte a request may reach: loff_t is signed."""


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """n data requests in the order they were issued. The arrays are read-only and equally long.

    Two workloads are the same only if they are the same object; compare the columns.
    """

    name: str  # the file's name without its directory, or what was asked for
    format: str  # "fio job", "fio iolog v2", "fio iolog v3", "blkparse" or "single"
    write: NDArray[np.bool_]  # True: guest memory is the source; False: the device fills guest memory
    offset: NDArray[np.uint64]  # bytes from the start of the file or device
    length: NDArray[np.uint32]  # bytes, at least 1
    time_ns: NDArray[np.int64] | None = None  # since the trace began; None when the format has no time
    depth: int = 1  # requests in flight at once, as far as the format tells
    skipped: Mapping[str, int] = field(default_factory=dict)  # reason -> lines that are no data request
    notes: tuple[str, ...] = ()  # what was read otherwise than the file's own tool would
    owner: NDArray[np.int32] | None = None  # the index in `jobs` of whose each is; None: nobody says
    jobs: tuple[tuple[str, int], ...] = ()  # name and depth of each job that made them
    until: NDArray[np.int32] | None = None  # each ends before this later one is issued; None: `depth` at any time
    direct: bool = False  # all of it by direct I/O: no page cache of the guest lies between
    independent: bool = False  # its jobs are experiments of their own: one after the other, or each on its own file

    def __post_init__(self) -> None:
        columns = [self.write, self.offset, self.length]
        columns += [column for column in (self.time_ns, self.owner, self.until) if column is not None]
        if len({len(column) for column in columns}) != 1:
            raise ValueError(f"columns of {[len(column) for column in columns]} requests do not match")
        for column in columns:
            column.flags.writeable = False

    @property
    def requests(self) -> int:
        """How many data requests there are."""
        return len(self.length)

    def part(self, chosen: "slice | NDArray[np.bool_]") -> "Workload":
        """Some of the requests, in their order."""
        columns = {
            name: values[chosen]
            for name in ("write", "offset", "length", "time_ns", "owner", "until")
            if (values := getattr(self, name)) is not None
        }
        if self.until is not None:
            kept = np.zeros(self.requests + 1, np.int32)
            kept[1:][chosen] = 1
            columns["until"] = np.cumsum(kept, dtype=np.int32)[columns["until"]]
        return replace(self, **columns)

    def parts(self) -> "tuple[Workload, ...]":
        """The requests of each job alone, in their order, the empty ones left out; itself where there is one."""
        if self.owner is None or len(self.jobs) < 2:
            return (self,)
        found = []
        for index, (name, depth) in enumerate(self.jobs):
            mine = self.owner == index
            if mine.any():
                found.append(
                    replace(self.part(mine), name=name, depth=depth, skipped={}, notes=(), owner=None, jobs=())
                )
        return tuple(found)

    @property
    def bytes(self) -> int:
        """Bytes moved by all requests together."""
        return int(self.length.sum(dtype=np.uint64))


def single(length: int = 4096, write: bool = True) -> Workload:
    """One request of `length` bytes at offset 0; ValueError outside 1..MAX_LENGTH."""
    if not 1 <= length <= MAX_LENGTH:
        raise ValueError(f"a request has 1 to {MAX_LENGTH} bytes, not {length}")
    return Workload(
        name=f"one {length}-byte {'write' if write else 'read'}",
        format="single",
        write=np.array([write]),
        offset=np.zeros(1, np.uint64),
        length=np.array([length], np.uint32),
    )
