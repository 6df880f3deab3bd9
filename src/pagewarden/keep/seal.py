"""Pages sealed with AES-GCM, each for its place, its version and its memory; and the file that holds them."""

import errno
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
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
_PLACE = np.dtype([("page", "<u8"), ("version", "<u8")])


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

    def _places(self, pages: "NDArray[np.int64]", versions: "NDArray[np.uint64]") -> tuple[bytes, bytes]:
        """Nonces of 12 bytes each, and associated data of 16 bytes each to go with the memory's name."""
        both = np.empty(len(pages), _PLACE)
        both["page"], both["version"] = pages, versions
        data = both.tobytes()
        nonces = np.frombuffer(data, np.uint8).reshape(-1, 2, 8)[:, :, :6].tobytes()
        return nonces, data

    def seal(
        self,
        pages: "NDArray[np.int64]",
        versions: "NDArray[np.uint64]",
        source: memoryview,
        out: memoryview,
        at: Iterable[int] | None = None,
    ) -> None:
        """The pages into slots one after the other. The source holds page p at p * PAGE_SIZE, or where `at` says, in
        pages too."""
        nonces, places = self._places(pages, versions)
        encrypt, memory = self._aead.encrypt_into, self.memory
        for k, place in enumerate(pages.tolist() if at is None else at):
            start = place * PAGE_SIZE
            encrypt(
                nonces[12 * k : 12 * k + 12], source[start : start + PAGE_SIZE], memory + places[16 * k : 16 * k + 16],
                out[k * SLOT : (k + 1) * SLOT],
            )  # fmt: skip

    def unseal(
        self, pages: "NDArray[np.int64]", versions: "NDArray[np.uint64]", slots: memoryview, out: memoryview
    ) -> int:
        """Slots, one after the other, into pages one after the other: how many are right, up to the first that is
        not. What lies in `out` from there on is nobody's."""
        nonces, places = self._places(pages, versions)
        decrypt, memory = self._aead.decrypt_into, self.memory
        for k in range(len(pages)):
            try:
                decrypt(
                    nonces[12 * k : 12 * k + 12], slots[k * SLOT : (k + 1) * SLOT],
                    memory + places[16 * k : 16 * k + 16], out[k * PAGE_SIZE : (k + 1) * PAGE_SIZE],
                )  # fmt: skip
            except self._wrong:
                return k
        return len(pages)

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
    np.frombuffer(plain, np.uint8)[:] = 0


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

    def get(self, slots: "NDArray[np.int64]", out: memoryview) -> int:
        """Read ascending slots one after the other: how many are whole, up to where the file ends; OSError."""
        for first, stop in runs_of_pages(slots):
            part, at = out[first * SLOT : stop * SLOT], self._start + int(slots[first]) * SLOT
            while part:
                done = os.preadv(self._file.fd, [part], at)
                if not done:
                    return stop - -(-len(part) // SLOT)
                part, at = part[done:], at + done
        return len(slots)

    def fetch(
        self, slots: "NDArray[np.int64]", sealer: Sealer, pages: "NDArray[np.int64]", versions: "NDArray[np.uint64]",
        sealed: memoryview, out: memoryview,
    ) -> tuple[int, str]:  # fmt: skip
        """Unseal ascending slots, by way of the buffer `sealed`, into `out`: how many are right, and why the next is
        not."""
        try:
            whole = self.get(slots, sealed)
        except OSError as error:
            return 0, self._wrong.unread.format(error.strerror)
        right = sealer.unseal(pages[:whole], versions[:whole], sealed, out)
        if right == len(pages):
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
