"""Pages sealed with AES-GCM, each for its place, its version and its memory; and the file that holds them."""

import errno
import os
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pagewarden.kernel.door import Descriptor
from pagewarden.kernel.files import lock, write_at
from pagewarden.vocab import PAGE_SIZE, Refused, Unavailable
from pagewarden.vocab.runs import runs_of_pages

if TYPE_CHECKING:
    from numpy.typing import NDArray

TAG = 16
"""Bytes that a sealed page is longer than a page: the tag of AES-GCM."""
SLOT = PAGE_SIZE + TAG
BATCH = 64
"""The most pages that go or come in one step."""
SWAP = b"pagewarden swap1"
"""What a swap file begins with, before its slots: a file of anybody else's is not taken for one."""
_NONCE = 12
_ABOUT = np.dtype([("memory", "u1", 16), ("page", "<u8"), ("version", "<u8")])
"""What a page is sealed for."""
_ONE = Struct("<QQ").pack
_ZEROES = memoryview(bytes(BATCH * PAGE_SIZE))


def cut(buffer: memoryview, each: int) -> list[memoryview]:
    """A buffer in parts of so many bytes."""
    return [buffer[at : at + each] for at in range(0, len(buffer), each)]


class Sealer:
    """One key. A page's nonce is its number (6 bytes) and version (6 bytes): no version of a page is sealed twice."""

    def __init__(self, key: bytes | None = None, memory: bytes = b"") -> None:
        """key: 32 bytes, else a fresh one. memory: a name of 16 bytes, else a fresh one. Unavailable."""
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise Unavailable("sealing needs the package cryptography", "pip install 'pagewarden[keep]'") from error
        self._aead: Any = AESGCM(secrets.token_bytes(32) if key is None else key)
        self._wrong: Any = InvalidTag
        self.memory = memory or secrets.token_bytes(16)
        self.slots = memoryview(bytearray(BATCH * SLOT))
        """What is sealed lies there until the next call, and what is to be unsealed is put there."""
        self._slots = cut(self.slots, SLOT)
        self._about = np.zeros(BATCH, _ABOUT)
        self._about["memory"] = np.frombuffer(self.memory, np.uint8)
        self._nonces = np.zeros((BATCH, _NONCE), np.uint8)
        self._bits = self._about.view(np.uint8).reshape(BATCH, 4, 8)[:, 2:, :6]
        self._parts = list(
            zip(cut(self._nonces.data.cast("B"), _NONCE), cut(self._about.view(np.uint8).data, 32), strict=True)
        )

    def _places(
        self, pages: "NDArray[np.int64]", versions: "NDArray[np.uint64]"
    ) -> list[tuple[memoryview, memoryview]]:
        """Nonce and associated data of each."""
        count = len(pages)
        self._about["page"][:count], self._about["version"][:count] = pages, versions
        self._nonces[:count] = self._bits[:count].reshape(count, _NONCE)
        return self._parts[:count]

    def seal(
        self, pages: "NDArray[np.int64]", versions: "NDArray[np.uint64]", sources: Iterable[memoryview]
    ) -> memoryview:
        """The pages, at most BATCH, each from its source: their slots one after the other."""
        encrypt = self._aead.encrypt_into
        for (nonce, about), source, slot in zip(self._places(pages, versions), sources, self._slots, strict=False):
            encrypt(nonce, source, about, slot)
        return self.slots[: len(pages) * SLOT]

    def unseal(self, first: int, versions: "NDArray[np.uint64]", targets: Sequence[memoryview]) -> int:
        """The first slots, which are pages that follow each other, each into its target: how many are right, up to the
        first that is not. What lies in the targets from there on is nobody's."""
        decrypt, right, count = self._aead.decrypt_into, 0, len(versions)
        try:
            if count == 1:  # at a fault, where each microsecond is the guest's
                version = int(versions[0])
                bits = first | version << 48
                decrypt(bits.to_bytes(_NONCE, "little"), self._slots[0], self.memory + _ONE(first, version), targets[0])
                return 1
            places = self._places(np.arange(first, first + count), versions)
            for (nonce, about), target, slot in zip(places, targets, self._slots, strict=False):
                decrypt(nonce, slot, about, target)
                right += 1
        except self._wrong:
            pass
        return right

    def box(self, data: bytes, about: bytes) -> bytes:
        """Other bytes, once for a key: under a nonce that no page has."""
        sealed: bytes = self._aead.encrypt(b"\xff" * 12, data, self.memory + about)
        return sealed

    def unbox(self, sealed: bytes, about: bytes) -> bytes | None:
        """The same back; None: they are not what was sealed."""
        try:
            data: bytes = self._aead.decrypt(b"\xff" * 12, sealed, self.memory + about)
        except self._wrong:
            return None
        return data


def wipe(plain: memoryview) -> None:
    """What the guest's bytes went through holds none of them any more: whoever reads this process finds nothing."""
    for at in range(0, len(plain), len(_ZEROES)):
        part = plain[at : at + len(_ZEROES)]
        part[:] = _ZEROES[: len(part)]


class WrongCopy(NamedTuple):
    """What is said of a page whose copy is not to be had. unread: with the system's own words in its place."""

    unread: str
    cut: str
    changed: str


SWAPPED = WrongCopy(
    "the page's copy in the swap file cannot be read ({}): look after its disk",
    "the swap file ends before the page's copy: it was truncated",
    "the page's copy in the swap file is not the one written last: the file was changed, or its disk fails",
)
SNAPPED = WrongCopy(
    "the page cannot be read from the snapshot ({}): look after its disk",
    "the snapshot ends before the page: it was truncated",
    "the page in the snapshot is not the one that was sealed: the file was changed, or its disk fails",
)


class Slots:
    """A file of sealed pages, the untrusted host's: slot s lies at `start + s * SLOT`."""

    def __init__(
        self, file: Descriptor, wrong: WrongCopy, start: int = 0, goes: str | os.PathLike[str] | None = None
    ) -> None:
        """goes: the path that goes with it, as long as it leads to it."""
        self._file, self._wrong, self._start, self._goes = file, wrong, start, goes
        self._head = b"" if goes is None else SWAP

    @classmethod
    def swap(cls, path: str | os.PathLike[str]) -> "Slots":
        """A file for one memory, which goes with it: a new one, an empty one, or a swap file that was left behind.
        Refused(EBUSY) while another uses it, Refused(EEXIST) where it is anything else; OSError."""
        file = Descriptor(path, "w+", opener=_without_links)
        if lock(file.fd, shared=False) is not None:
            raise Refused(errno.EBUSY, f"{os.fspath(path)} is the swap file of a memory that is alive: name another")
        if os.pread(file.fd, len(SWAP), 0) not in (b"", SWAP):
            raise Refused(errno.EEXIST, f"{os.fspath(path)} is no swap file: it was left alone, name another")
        os.ftruncate(file.fd, 0)
        return cls(file, SWAPPED, len(SWAP), path)

    def put(self, slots: "NDArray[np.int64]", data: memoryview) -> None:
        """Write one after the other to ascending slots; OSError, with some written perhaps."""
        if self._head:
            write_at(self._file.fd, self._head, 0)
            self._head = b""
        for first, stop in runs_of_pages(slots):
            write_at(self._file.fd, data[first * SLOT : stop * SLOT], self._start + int(slots[first]) * SLOT)

    def _get(self, slot: int, out: memoryview) -> int:
        """Read slots that follow each other: how many are whole, up to where the file ends; OSError."""
        part, at = out, self._start + slot * SLOT
        while part:
            done = os.preadv(self._file.fd, [part], at)
            if not done:
                break
            part, at = part[done:], at + done
        return (len(out) - len(part)) // SLOT

    def fetch(
        self, slot: int, sealer: Sealer, first: int, versions: "NDArray[np.uint64]", targets: Sequence[memoryview]
    ) -> tuple[int, str]:
        """Unseal pages that follow each other, as their slots do, at most BATCH, each into its target: how many are
        right, and why the next is not. versions: one a page."""
        try:
            whole = self._get(slot, sealer.slots[: len(versions) * SLOT])
        except OSError as error:
            return 0, self._wrong.unread.format(error.strerror)
        right = sealer.unseal(first, versions[:whole], targets)
        if right == len(versions):
            return right, ""
        return right, self._wrong.cut if right == whole else self._wrong.changed

    def close(self) -> None:
        """Give the file back. Twice is once."""
        if self._goes is not None:
            with suppress(OSError):  # without the key it is noise
                if os.path.samestat(os.lstat(self._goes), os.fstat(self._file.fd)):
                    os.unlink(self._goes)
            self._goes = None
        self._file.close()

    def forked(self) -> None:
        """In a forked child: see Residence."""
        self._goes = None
        self._file.close()


def _without_links(path: str, flags: int) -> int:
    """Nobody's link, nobody else's to read, and not emptied before it is known to be free."""
    return os.open(path, flags & ~os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
