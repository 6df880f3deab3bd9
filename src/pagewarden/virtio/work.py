"""What the compiled parts of a queue share: one record, so that a call takes one argument.

Everything in it is this process's own. The ring may be mapped memory that the driver writes at any time: `desc` and
`avail` are addresses of that, or of a copy, and are only read through kernel.guarded, each word once.
"""

from typing import Any

import numpy as np
from numba import from_dtype, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from pagewarden.kernel.guarded import IOV_MAX
from pagewarden.vocab.compiled import njit

BATCH = 256
"""Most requests of a batch."""
DESCRIPTORS = 4096
"""Most descriptors of a batch, those of indirect tables included."""
SIZE_MAX = 1024
"""Largest queue of this device, entries: a chain may be as long as the queue, and one readv call takes 1024 parts."""
PIECES = 16384
"""Most places that a batch looks at before it commits: header parts and a byte of each page of data."""
ADDR, LEN, FLAGS = range(3)
"""Rows of a flat list of descriptors."""
OUT_AT, IN_AT, END, OUT_BYTES, IN_BYTES, STATUS, START = range(7)
"""Columns of a request: segments [OUT_AT, IN_AT) are data to the device, [IN_AT, END) from it; STATUS is a gpa;
classify sets START, the first sector."""
FIELDS = 7
OP, FILE_AT, BEGIN, STOP, FIRST, COUNT, BYTES = range(7)
"""Columns of a run: requests FIRST .. FIRST + COUNT - 1 do one thing, with segments [BEGIN, STOP). The first four are
as port.VectoredView.transfer has them, for VIRTIO_BLK_T_IN is 0 and VIRTIO_BLK_T_OUT is 1."""
RUN_FIELDS = 7

_NUMBERS = (
    # the ring: addresses of what is read, entries, chains completed modulo 2^16, whether event indices are used and
    # whether an interrupt may have got lost; where the ring itself is mapped, while it is lent
    *("desc", "avail", "size", "done", "events", "owed", "lent_desc", "lent_avail", "used"),
    # what a request may be: bytes of memory, descriptors of a chain with an indirect table (0: there are none), sectors
    # of the disk, a bit for each VIRTIO_BLK_T_* below 32 that the device does, whether the disk cannot be written
    *("memory", "longest", "capacity", "kinds", "sealed"),
    # guarded copies: scratch file, where it is mapped, its bytes, a file of zeroes, where the window is mapped, its
    # bytes, and the table by which places are found in it (0: as they are)
    *("scratch", "scratch_at", "room", "zeroes", "window", "reach", "table"),
    # the gate of what is lent, 0 if nothing is; the disk, and a bit for each VIRTIO_BLK_T_* that it may do at once
    *("gate", "disk", "quick"),
    # addresses of this record's own: headers (or the scratch file's), indirect tables, struct iovec
    *("headers_at", "words_at", "iov_at"),
    # the batch: number of this one, chains, which lists hold its descriptors, runs, places of statuses
    *("turn", "chains", "wide", "runs", "marked"),
    # bytes of data of all requests so far that were good
    "carried",
    # what is wrong, if something is: faults.*, with which chain of the batch, index, gpa or size
    *("fault", "chain", "detail"),
)
_TABLES = {
    "seen": (SIZE_MAX,),  # `turn` marks the descriptors of this batch
    "heads": (BATCH,),
    "flat": (2, 3, DESCRIPTORS),  # descriptors, as in the ring ...
    "bounds": (2, BATCH + 1),  # ... and where each chain begins; then those with indirect tables in their place
    "tables": (2, DESCRIPTORS),  # gpa and bytes of each indirect table
    "words": (2 * DESCRIPTORS,),  # of the tables, one after the other
    "segments": (2, DESCRIPTORS),
    "rows": (BATCH, FIELDS),
    "pieces": (2, PIECES),
    "known": (64,),  # pages met lately
    "headers": (2 * BATCH,),
    "run": (BATCH, RUN_FIELDS),
    "marks": (2, BATCH),  # where the status bytes go
    "moved": (BATCH, 4),  # the runs, and the places, as the window has them
    "placed": (2, PIECES + 2 * DESCRIPTORS),
    "places": (2, BATCH + 3),  # what is written at last
    "iov": (2 * IOV_MAX,),
}
WORK = np.dtype(
    [(name, np.int64) for name in _NUMBERS]
    + [(name, np.int64, shape) for name, shape in _TABLES.items()]
    + [
        ("used_elements", np.uint32, (2 * BATCH,)),
        ("statuses", np.uint8, (BATCH,)),
        ("data", np.uint8, (9 * BATCH + 2,)),
    ],
    align=True,
)


def _pointer(typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


_pointer_to: Any = intrinsic(_pointer)


def _record_at(address: int) -> Any:
    """The record that lies there: an address is the quickest that can be handed to compiled code."""
    return carray(_pointer_to(address), 1, WORK)


record_at: Any = njit(_record_at)
RECORD: Any = types.Array(from_dtype(WORK), 1, "C")
"""How a compiled function takes it, an array of one: faster to hand over than a record. Types are given, so that the
code is ready when the module is imported: a device may have lost its right to open files by the time it needs them."""


class Work:
    """The record, and its parts as arrays."""

    def __init__(self) -> None:
        self.record = np.zeros(1, WORK)
        begin = self.record.ctypes.data
        for name, part in (("headers_at", "headers"), ("words_at", "words"), ("iov_at", "iov")):
            self.record[name] = begin + self.offset(part)
        self.address = begin
        numbers = self.record.view(np.uint8)[: 8 * len(_NUMBERS)].data.cast("q")
        self._numbers, self._index = numbers, {name: n for n, name in enumerate(_NUMBERS)}

    @staticmethod
    def offset(part: str) -> int:
        """Of a part from the start of the record, bytes."""
        fields = WORK.fields
        assert fields is not None
        return int(fields[part][1])

    def __getitem__(self, name: str) -> int:
        return self._numbers[self._index[name]]

    def __setitem__(self, name: str, value: int) -> None:
        self._numbers[self._index[name]] = value

    def table(self, name: str) -> Any:
        return self.record[name][0]
