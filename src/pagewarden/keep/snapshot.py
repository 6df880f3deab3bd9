"""A memory's pages in one sealed file, written whole or not at all; read page by page, and believed page by page."""

import errno
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pagewarden.keep.seal import BATCH, SLOT, SNAPPED, Sealer, Slots, cut, wipe
from pagewarden.kernel.door import SIZE_MAX, Descriptor
from pagewarden.kernel.files import write_at
from pagewarden.vocab import PAGE_SIZE, Refused, UserMistake

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = b"pagewarden snap1"
"""The format's name and version: sealed pages in the order of their numbers, then the sealed manifest."""
_HEADER = Struct("<16s16sQQQ")
"""Magic, salt, bytes of the memory, pages that the file has, bytes of the caller's own state."""
_START = PAGE_SIZE
"""Where the sealed pages start."""
KEY = 32
"""Bytes of a key."""
MOST_STATE = 64 << 20
"""Bytes of state that a snapshot may have beside the pages."""


class Manifest(NamedTuple):
    """What there is beside the pages' bytes."""

    present: "NDArray[np.bool_]"
    """Pages that the file has; the others are zeroes."""
    shared: "NDArray[np.bool_]"
    state: bytes
    """The caller's own: CPUs, devices."""


def read_key(path: str | os.PathLike[str], make: bool = False) -> bytes:
    """The key in a file. make: where there is no such file, one with a fresh key, for its owner alone; UserMistake."""
    if make:
        with suppress(FileExistsError), open(path, "xb", opener=lambda at, flags: os.open(at, flags, 0o600)) as file:
            file.write(secrets.token_bytes(KEY))
    try:
        with open(path, "rb") as file:
            return _checked(file.read(KEY + 1))
    except FileNotFoundError:
        raise UserMistake(f"there is no key {os.fspath(path)}: give the one that was sealed with") from None


def _checked(key: bytes) -> bytes:
    if len(key) != KEY:
        raise UserMistake(f"a key has {KEY} bytes, not {len(key)}")
    return key


def _sealer(key: bytes, salt: bytes) -> Sealer:
    """A key for one snapshot alone (HMAC-SHA-256 of its salt): each of its pages is sealed once under it, so no page
    of another snapshot, however alike, passes for one of this."""
    return Sealer(hmac.digest(key, MAGIC + salt, hashlib.sha256), salt)


def _head(key: bytes, header: bytes) -> bytes:
    """The header with its own seal, which is looked at before a length in it is believed; UserMistake."""
    return header + hmac.digest(_checked(key), b"head" + header, hashlib.sha256)


def write_snapshot(
    path: str | os.PathLike[str],
    key: bytes,
    manifest: Manifest,
    copy: "Callable[[NDArray[np.int64], memoryview], None]",
) -> None:
    """copy: put ascending pages into a buffer, one after the other. The path leads to the old file or to the whole new
    one, at any moment (rename(2)), and what is there is on the disk. OSError, UserMistake, Unavailable."""
    salt = secrets.token_bytes(16)
    if len(manifest.state) > MOST_STATE:
        raise UserMistake(f"the state beside the pages has {len(manifest.state)} bytes, more than {MOST_STATE}")
    pages = np.flatnonzero(manifest.present)
    header = _HEADER.pack(MAGIC, salt, len(manifest.present) * PAGE_SIZE, len(pages), len(manifest.state))
    head, sealer = _head(key, header), _sealer(key, salt)
    place = os.fspath(path)
    folder, name = os.path.split(os.path.abspath(place))
    draft = os.path.join(folder, f".{name}.{secrets.token_hex(8)}")
    file = Descriptor(draft, "x+", opener=lambda at, flags: os.open(at, flags | os.O_CLOEXEC, 0o600))
    plain = memoryview(bytearray(BATCH * PAGE_SIZE))
    sources = cut(plain, PAGE_SIZE)
    try:
        slots = Slots(file, SNAPPED, _START)
        for first in range(0, len(pages), BATCH):
            part = pages[first : first + BATCH]
            copy(part, plain)
            slots.put(np.arange(first, first + len(part)), sealer.seal(part, np.ones(len(part), np.uint64), sources))
        bits = np.packbits(manifest.present).tobytes() + np.packbits(manifest.shared).tobytes()
        write_at(file.fd, sealer.box(bits + manifest.state, header), _START + len(pages) * SLOT)
        write_at(file.fd, head, 0)
        os.fsync(file.fd)
        os.replace(draft, place)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise
    finally:
        wipe(plain)
        file.close()
    home = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(home)
    finally:
        os.close(home)


class Snapshot:
    """A file that `write_snapshot` wrote, or that the host made of it: what is wrong in it is refused."""

    def __init__(self, path: str | os.PathLike[str], key: bytes) -> None:
        """Refused(EBADMSG): the file is not whole, not of this key, or changed; OSError, UserMistake, Unavailable."""
        self._file = Descriptor(path, "r")
        try:
            self._open(os.fspath(path), key)
        except BaseException:
            self._file.close()
            raise

    def _open(self, path: str, key: bytes) -> None:
        header = os.pread(self._file.fd, _HEADER.size, 0)
        if len(header) < _HEADER.size or not header.startswith(MAGIC):
            raise Refused(errno.EBADMSG, f"{path} is no snapshot of this format ({MAGIC.decode()})")
        if not hmac.compare_digest(_head(key, header), os.pread(self._file.fd, len(header) + 32, 0)):
            raise Refused(errno.EBADMSG, f"{path} is not sealed by this key, or its head was changed")
        _, salt, self.size, count, extra = _HEADER.unpack(header)
        pages, rest = divmod(self.size, PAGE_SIZE)
        bits = -(-pages // 8)
        at = _START + count * SLOT
        length = 2 * bits + extra + 16
        whole = 0 < self.size <= SIZE_MAX and not rest and count <= pages and extra <= MOST_STATE
        if not whole or os.fstat(self._file.fd).st_size != at + length:
            raise Refused(errno.EBADMSG, f"{path} has another length than its head says: it was truncated, or changed")
        self._sealer = _sealer(key, salt)
        plain = self._sealer.unbox(os.pread(self._file.fd, length, at), header)
        if plain is None:
            raise Refused(errno.EBADMSG, f"the manifest of {path} was changed: its pages cannot be told apart")
        both = [np.frombuffer(plain, np.uint8, bits, k * bits) for k in range(2)]
        present, shared = (np.unpackbits(each, count=pages).astype(np.bool_) for each in both)
        self.manifest = Manifest(present, shared, plain[2 * bits :])
        self._ranks = (np.cumsum(present) - 1).astype(np.uint32 if pages < 1 << 32 else np.int64)
        self._versions = np.ones(BATCH, np.uint64)
        self._slots = Slots(self._file, SNAPPED, _START)

    def read(self, first: int, count: int, targets: Sequence[memoryview]) -> tuple[int, str]:
        """Pages that follow each other and are present, at most BATCH, each into its target: how many are right, and
        why the next is not."""
        return self._slots.fetch(int(self._ranks[first]), self._sealer, first, self._versions[:count], targets)

    def close(self) -> None:
        """Give the file back. Twice is once."""
        self._file.close()
