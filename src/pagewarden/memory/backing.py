"""What a subtype of the backing object must do, and the two plain ones: memfd and memfd_secret."""

import errno
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

from pagewarden.abi import memory as uapi
from pagewarden.kernel.door import Region, memfd, memfd_secret, syscall
from pagewarden.vocab import Event


@dataclass(frozen=True)
class Price:
    """The events of one change: so many a page, and so many a contiguous run."""

    page: Mapping[Event, int] = field(default_factory=dict)
    run: Mapping[Event, int] = field(default_factory=dict)


class Backing(Protocol):
    """One memory's pages. Offsets and lengths are bytes, whole pages, inside the memory: the caller has checked them.

    A method that raises OSError has changed nothing. `open` answers the host from then on, `shut` stops that; an open
    page may be opened again.
    """

    name: str
    whole_file: bool
    """The state belongs to the file as a whole, from its creation on."""

    @property
    def window(self) -> Region | None:
        """The host's view; None where it is in another process."""

    guest: Region
    """The guest's and the warden's view; where nobody but a guest may look, nothing is placed in it."""
    file: int
    """The fd of the memory."""
    opening: Price
    shutting: Price
    punching: Price

    def open(self, offset: int, length: int) -> None: ...
    def shut(self, offset: int, length: int) -> None: ...
    def punch(self, offset: int, length: int) -> None: ...
    def close(self) -> None: ...


def keep_to_this_process(region: Region) -> None:
    """No forked child and no core dump gets at the region, and no huge page closes what was opened singly."""
    region.advise_all(uapi.MADV_DONTFORK, uapi.MADV_DONTDUMP)
    try:
        region.advise_all(uapi.MADV_NOHUGEPAGE)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a kernel without huge pages does not know the advice
            raise


def punch_hole(file: int, offset: int, length: int) -> None:
    """The bytes are gone and every mapping of them with them; OSError."""
    syscall("fallocate", file, uapi.FALLOC_FL_KEEP_SIZE | uapi.FALLOC_FL_PUNCH_HOLE, offset, length)


class Memfd:
    """Ordinary shared memory: no protection at all, the baseline that the others are measured against."""

    name = "memfd"
    whole_file = False
    opening = shutting = Price()
    punching = Price({}, {Event.TLBI: 1})

    def __init__(self, size: int) -> None:
        with ExitStack() as undo:
            self.file = memfd("pagewarden", size)
            undo.callback(os.close, self.file)
            self.window = self.guest = Region(size)
            undo.callback(self.window.close)
            self.window.place(self.file)
            self._release = undo.pop_all()

    def open(self, offset: int, length: int) -> None:
        pass

    def shut(self, offset: int, length: int) -> None:
        pass

    def punch(self, offset: int, length: int) -> None:
        punch_hole(self.file, offset, length)

    def close(self) -> None:
        self._release.close()


class MemfdSecret:
    """memfd_secret mapped twice, the host's view guarded by mprotect: out of the direct map, never pinned (no GUP).

    For emulated CPUs: KVM cannot map it. A range of other permissions splits the mapping, so a scattered pattern of
    shared pages may meet vm.max_map_count (ENOMEM).
    """

    name = "memfd-secret"
    whole_file = False
    opening = Price({Event.HYP_PTE_SET: 1})
    shutting = Price({Event.HYP_PTE_CLEAR: 1}, {Event.TLBI: 1})
    punching = Price()

    def __init__(self, size: int) -> None:
        with ExitStack() as undo:
            self.file = memfd_secret(size)
            undo.callback(os.close, self.file)
            self.guest = Region(size)
            undo.callback(self.guest.close)
            self.window = Region(size)
            undo.callback(self.window.close)
            self.guest.place(self.file)
            self.window.place(self.file, uapi.PROT_NONE)
            for region in (self.guest, self.window):
                region.advise_all(uapi.MADV_DONTFORK)
            self._release = undo.pop_all()

    def open(self, offset: int, length: int) -> None:
        self._protect(uapi.PROT_READ | uapi.PROT_WRITE, uapi.PROT_NONE, offset, length)

    def shut(self, offset: int, length: int) -> None:
        self._protect(uapi.PROT_NONE, uapi.PROT_READ | uapi.PROT_WRITE, offset, length)

    def _protect(self, prot: int, before: int, offset: int, length: int) -> None:
        try:
            self.window.protect(prot, offset, length)
        except OSError:
            self.window.protect(before, offset, length)  # the first pages may have changed when a later split failed
            raise

    def punch(self, offset: int, length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "memfd_secret cannot give pages back before it is closed")

    def close(self) -> None:
        self._release.close()
