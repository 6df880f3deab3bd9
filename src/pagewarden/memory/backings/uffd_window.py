"""A memfd mapped twice, the host's view guarded by userfaultfd: in place, contents kept, on a stock kernel."""

import errno
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pagewarden.abi import memory as uapi
from pagewarden.kernel.door import memfd
from pagewarden.kernel.region import Region
from pagewarden.kernel.uffd import GUARD, GUARD_FEATURES, Userfault
from pagewarden.memory.backings.protocol import FileBacked, Tariff, Wanted, backing
from pagewarden.memory.ending import insist
from pagewarden.vocab import HUGE_PAGE, PAGE_SIZE, Event

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pagewarden.memory import batch

PIECES = 1024
"""The most pieces of a window that get their guard apart."""
PATIENCE = 1000
"""Tries in a row at one page before an EAGAIN without progress (the address space is changing) is passed on."""


def share_window(guard: Userfault, address: int, guest: Region, offset: int, length: int, mode: int = 0) -> None:
    """Map [offset, offset + length) into the window that starts at `address`; OSError, some perhaps done. mode: as of
    Userfault.map_present.

    Pages that are mapped already stay; holes are filled first, through the guest's view (a window page cannot be
    continued from a hole: EFAULT). Source: mm/userfaultfd.c, mfill_atomic_pte_continue.
    """
    end, filled, tries = offset + length, -1, 0
    while offset < end:
        done, code = guard.map_present(address + offset, end - offset, mode)
        offset += done
        tries = 0 if done else tries + 1
        if code == errno.EEXIST:
            offset += PAGE_SIZE
        elif code == errno.EFAULT and filled < offset:
            guest.advise(uapi.MADV_POPULATE_WRITE, offset, end - offset)
            filled = offset
        elif code not in (0, errno.EAGAIN) or tries > PATIENCE:
            raise OSError(code, f"UFFDIO_CONTINUE: {os.strerror(code)}")


@backing(
    "uffd-window",
    20,
    {
        "any": "every page has its own guard, for KVM and emulated CPUs alike",
        "kvm": "every page has its own guard and KVM can map it; memfd_secret refuses KVM's pins, and guest_memfd "
        "converts no single page",
        "emulated": "every page has its own guard",
        "host": "every page has its own guard",
    },
    stops="touches of the window, system calls that are given its addresses, new pins, a forked child",
    leaves="whoever may read this process (/proc/PID/mem, ptrace, the private mapping or the descriptor in it), and "
    "pins that were taken while a page was shared: isolated=True is against those",
)
class UffdWindow(FileBacked):
    """The cooperating host: guard, window and open mapping in one process.

    The ledger counts one invalidation a call; the kernel flushes once for each page table (2 MiB) that a call touches
    (mm/memory.c, zap_pte_range: dirty pages of a file are flushed before the table's lock is dropped).
    """

    name = "uffd-window"
    modes, features = GUARD, GUARD_FEATURES
    sharing = Tariff({Event.HYP_PTE_SET: 1})
    unsharing = Tariff({Event.HYP_PTE_CLEAR: 1}, {Event.TLBI: 1})
    punching = Tariff({}, {Event.TLBI: 1})

    def __init__(self, wanted: Wanted) -> None:
        super().__init__()
        size = wanted.size
        self.keep(memfd("pagewarden", size))
        self.guest = self.own(Region(size))
        self.guest.place(self.file)
        self.guest.keep_to_this_process()
        self.guard = self.own(Userfault(self.features))
        self.window = self.own(Region(size))  # barred before the guard goes
        self.window.place(self.file)
        self.window.keep_to_this_process()
        self._bare = bytearray(0)
        if wanted.shared:
            self._bare = bytearray(b"\1" * -(-size // self._piece(size)))
        else:
            self.guard.register(self.window.address, size, self.modes)
        self.zap = self.window.best_zap()
        self.share, self._shut = self._ways()
        self.unshare = self._unshare_bare if wanted.shared else self._shut
        self._locked = self.guest.lock_when_touched()

    def _ways(self) -> tuple[Callable[[int, int], None], Callable[[int, int], None]]:
        """How a range (offset, length) is opened and shut, once it is guarded."""
        slowly = partial(share_window, self.guard, self.window.address, self.guest)
        return self.guard.mapper(self.window.address, slowly), self.window.adviser(self.zap)

    @staticmethod
    def _piece(size: int) -> int:
        """Bytes that get their guard at once, where all pages start shared: so few pieces that their borders do not use
        up the process's mappings, so small that little is filled which nobody touched."""
        return max(HUGE_PAGE, -(-size // PIECES // PAGE_SIZE) * PAGE_SIZE)

    def _guard(self, offset: int, length: int) -> None:
        """Guard the pieces that the range touches and that have none yet. What is mapped stays mapped: a piece that
        goes on being shared in part is filled before, so that no page of it stops answering meanwhile."""
        piece = self._piece(self.window.size)
        for k in range(offset // piece, (offset + length - 1) // piece + 1):
            if self._bare[k]:
                start = k * piece
                count = min(piece, self.window.size - start)
                if start < offset or start + count > offset + length:  # not all of it is to be shut
                    self.window.advise(uapi.MADV_POPULATE_WRITE, start, count)
                self.guard.register(self.window.address + start, count, self.modes)
                self._bare[k] = 0
        if not any(self._bare):
            self._bare = bytearray(0)

    def _unshare_bare(self, offset: int, length: int) -> None:
        if self._bare:
            self._guard(offset, length)
        self._shut(offset, length)

    def compiled(self, shared: bytearray, ranges: "NDArray[np.int64]", to: int) -> tuple[int, int, int]:
        """See protocol.Compiled; the first call loads the compiler."""
        from pagewarden.memory import batch

        if self._bare:
            return 0, 0, 0
        return batch.change(self.guard.fd, self.window.address, self.zap, shared, ranges, to)

    def single(self, shared: bytearray, bolts: int) -> "batch.CompiledSingle | None":
        """See protocol.Backing."""
        from pagewarden.memory import batch

        if self._bare:
            return None
        return batch.single(self.guard.fd, self.window.address, self.zap, shared, bolts)

    def forget(self, offset: int, length: int) -> None:
        """The pages are gone from the file, and their entries with them: nothing is known of those here."""

    def punch(self, offset: int, length: int) -> None:
        if self._bare and length:
            self._guard(offset, length)
        super().punch(offset, length)

    def forked(self) -> None:
        super().forked()
        self.guard.close()

    def close(self) -> None:
        insist(self.window.close)  # what cannot be barred keeps its guard
        super().close()
