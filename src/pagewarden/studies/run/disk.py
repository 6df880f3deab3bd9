"""The disk of a run: a temporary file, or the user's own, which is never damaged by accident.

Of a disk only the bytes that the workload touches are held in memory, one piece behind another: `packed`.
"""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pagewarden.abi.virtio_blk import SECTOR
from pagewarden.kernel.files import holder_name, lock, unlock
from pagewarden.studies.run.host_error import remedy
from pagewarden.vocab import Unavailable, UserMistake
from pagewarden.workload import Workload

MOST = 1 << 30
"""Bytes of the disk that a workload may touch: they are held in memory, to know what every read must find."""
LONGEST = 4 << 20
"""Bytes of a request, as the block device takes them (virtio/requests.py, REQUEST_MAX)."""
Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Extents:
    """Disjoint pieces of a disk in order, [starts, ends) in bytes, and where each begins when they are packed."""

    starts: Numbers
    ends: Numbers

    @classmethod
    def of(cls, offset: Numbers, length: Numbers) -> "Extents":
        """What requests touch, together."""
        order = np.argsort(offset, kind="stable")
        first, last = offset[order], np.maximum.accumulate((offset + length)[order])
        begins = np.flatnonzero(np.append(True, first[1:] > last[:-1])) if len(first) else np.zeros(0, np.int64)
        return cls(first[begins], last[np.append(begins[1:] - 1, len(first) - 1)] if len(first) else last)

    @property
    def bytes(self) -> int:
        return int((self.ends - self.starts).sum())

    @property
    def end(self) -> int:
        """Bytes of the smallest disk that has them all."""
        return int(self.ends.max(initial=0))

    def packed(self, offset: Numbers) -> Numbers:
        """Where the bytes at these offsets of the disk are when the pieces are packed."""
        piece = np.searchsorted(self.starts, offset, "right") - 1
        lengths = self.ends - self.starts
        return np.asarray((np.cumsum(lengths) - lengths)[piece] + offset - self.starts[piece], np.int64)


class DiskFile:
    """An open file and the part of it that a workload touches. `why`: which file it is."""

    def __init__(self, fd: int, extents: Extents, read_only: bool, why: str, path: Path | None = None) -> None:
        self.fd, self.extents, self.read_only, self.why, self._path = fd, extents, read_only, why, path

    def take(self, wait: bool = False) -> str:
        """For as long as the file is open, or it is released: two runs that write it would each find the other's bytes.
        "", or a word that there are no locks. UserMistake says who has it, where nobody is to be waited for."""
        if self._path is None:
            return ""
        try:
            holder = lock(self.fd, self.read_only, wait)
        except OSError as error:
            return f", not locked ({error.strerror})"
        if holder is None:
            return ""
        raise UserMistake(
            f"{self._path} is in use as a disk by {holder_name(holder)}: wait for its end, give each run a file of its "
            "own, or none (no --disk) for a temporary one"
        )

    def release(self) -> None:
        """Somebody else may take it."""
        unlock(self.fd)

    def read(self) -> Bytes:
        """What is there now, packed. Unavailable, UserMistake."""
        try:
            return _read(self.fd, self.extents)
        except OSError as error:
            raise _failed("reading", self.why, error) from error

    def write(self, content: Bytes) -> None:
        at = 0
        for start, end in zip(self.extents.starts.tolist(), self.extents.ends.tolist(), strict=True):
            while start < end:
                done = os.pwrite(self.fd, content[at : at + end - start].data, start)
                start, at = start + done, at + done


def _read(fd: int, extents: Extents) -> Bytes:
    content, at = np.empty(extents.bytes, np.uint8), 0
    for start, end in zip(extents.starts.tolist(), extents.ends.tolist(), strict=True):
        while start < end:
            done = os.preadv(fd, [content[at : at + end - start].data], start)
            if not done:
                raise UserMistake(f"the disk became shorter than {end:,} bytes while it was read")
            start, at = start + done, at + done
    return content


def _failed(doing: str, what: str, error: OSError) -> Unavailable:
    return Unavailable(f"{doing} {what}: {error.strerror or error}", remedy(error.errno or 0))


def columns(workload: Workload) -> tuple[Numbers, Numbers]:
    """Offset and length of each request, in bytes; UserMistake for one that a block device cannot have."""
    offset, length = workload.offset.astype(np.int64), workload.length.astype(np.int64)
    if not workload.requests:
        raise UserMistake(f"{workload.name} has no requests")
    odd = np.flatnonzero((offset % SECTOR != 0) | (length % SECTOR != 0))
    if len(odd):
        at = odd[0]
        raise UserMistake(
            f"{workload.name}: request {at} is {length[at]:,} bytes at byte {offset[at]:,}; a block "
            f"device moves whole sectors of {SECTOR} bytes"
        )
    if length.max() > LONGEST:
        raise UserMistake(
            f"{workload.name}: request {length.argmax()} has {length.max():,} bytes; the device takes "
            f"{LONGEST:,} at most"
        )
    return offset, length


@contextmanager
def open_disk(
    workload: Workload, path: Path | None, overwrite: bool, seed: int = 1, source: Path | None = None,
    make: bool = False, take: bool = True,
) -> Iterator[DiskFile]:  # fmt: skip
    """The user's file, or without one a temporary file of random bytes, gone when this ends however it ends.

    source: the file that the workload was read from. make: a file that is not there is made, all zeroes. take: see
    DiskFile. UserMistake if it is the disk, `overwrite` or not, for a file that is too small, and, without `overwrite`,
    for one that holds something where the workload writes.
    """
    offset, length = columns(workload)
    extents = Extents.of(offset, length)
    if extents.bytes > MOST:
        raise UserMistake(
            f"{workload.name} touches {extents.bytes:,} bytes of disk, over {MOST:,}; --requests N takes "
            "only its first N requests"
        )
    if path is None:
        with _temporary(extents, seed) as disk:
            yield disk
        return
    write = np.asarray(workload.write)
    if make:
        with suppress(FileExistsError), path.open("xb") as new:
            new.truncate(extents.end)
    fd = _open(path, read_only=not write.any())
    try:
        if source is not None and _is(fd, source):
            raise UserMistake(
                f"{path} is the file that the workload was read from ({source}), not a disk: give another file, or no "
                "--disk for a temporary one"
            )
        disk = DiskFile(fd, extents, not write.any(), str(path), path)
        disk.why += disk.take() if take else ""
        _check(fd, path, extents, Extents.of(offset[write], length[write]), overwrite)
        yield disk
    finally:
        os.close(fd)


@contextmanager
def _temporary(extents: Extents, seed: int) -> Iterator[DiskFile]:
    with ExitStack() as opened:
        try:
            file = opened.enter_context(tempfile.TemporaryFile(prefix="pagewarden-disk-"))
            disk = DiskFile(file.fileno(), extents, False, f"a temporary file in {tempfile.gettempdir()}")
            os.truncate(disk.fd, extents.end)
            disk.write(np.frombuffer(np.random.default_rng(seed).bytes(extents.bytes), np.uint8))
        except OSError as error:
            raise _failed(f"making a disk of {extents.end:,} bytes, a temporary file", "(TMPDIR)", error) from error
        yield disk


def _open(path: Path, read_only: bool) -> int:
    flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR)
    try:
        if stat.S_ISBLK(path.stat().st_mode):
            flags |= os.O_EXCL  # refused (EBUSY) while it is mounted or otherwise in use
        elif not path.is_file():
            raise UserMistake(f"{path} is neither a file nor a block device; name one of them")
        return os.open(path, flags)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UserMistake(f"{path} cannot be the disk: {why}; without --disk a temporary file is used") from error


def _is(fd: int, source: Path) -> bool:
    """Whether the open file is what `source` names, by whatever other name; `-` is standard input."""
    with suppress(OSError, ValueError):
        return os.path.samestat(os.fstat(fd), os.fstat(0) if str(source) == "-" else source.stat())
    return False


def _check(fd: int, path: Path, extents: Extents, written: Extents, overwrite: bool) -> None:
    size = os.lseek(fd, 0, os.SEEK_END)
    if size < extents.end:
        raise UserMistake(
            f"{path} has {size:,} bytes and the workload reaches byte {extents.end:,}: use a larger file "
            f"(truncate -s {extents.end} {path} grows it), or no --disk for a temporary one"
        )
    if written.bytes and not overwrite and _read(fd, written).any():
        raise UserMistake(
            f"{path} is not empty where the workload would write {written.bytes:,} bytes: they would be "
            "lost; give --overwrite if they may be, or no --disk for a temporary file"
        )
