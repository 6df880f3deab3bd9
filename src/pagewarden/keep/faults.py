"""Who answers a guest that touches a page that is not there: one thread for a memory, by its residence."""

import errno
import os
import threading

from pagewarden.abi import uffd
from pagewarden.keep.residence import AWAY, SAVED, THERE, Residence
from pagewarden.kernel.door import copy
from pagewarden.kernel.region import Region
from pagewarden.kernel.uffd import Userfault
from pagewarden.vocab import PAGE_SIZE, Refused

AHEAD = 16
"""Pages that come with the one that was touched, where those after it are away as well."""


class FaultServer:
    """Faults of the view that starts at `address`. What cannot be answered rightly is answered by no page: poison."""

    def __init__(self, fault: Userfault, address: int, residence: Residence, ahead: int = AHEAD) -> None:
        self.faults = 0
        self.refused: dict[int, str] = {}
        """Pages whose copy was refused, and why: the guest met a hardware error there."""
        self.trouble: Exception | None = None
        """What ended the thread: from then on who touches a page that is not there waits."""
        self._fault, self._address, self._residence = fault, address, residence
        self._ahead = min(ahead, residence.batch)
        self._bell = Region(2 * PAGE_SIZE)
        """Who touches the first page of it ends the thread, which needs no other descriptor to wait at."""
        fault.register(self._bell.address, PAGE_SIZE, uffd.UFFDIO_REGISTER_MODE_MISSING)
        os.set_blocking(fault.fd, True)
        self._thread = threading.Thread(target=self._serve, name="pagewarden-keep", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            while True:
                for _, flags, address, _ in self._fault.messages():  # of no other events than faults
                    if address == self._bell.address:
                        return
                    self._answer((address - self._address) // PAGE_SIZE, flags)
        except Exception as error:  # nobody is answered any more, and nobody wrongly
            self.trouble = error
        finally:
            self._fault.unregister(self._bell.address, PAGE_SIZE)

    def _answer(self, page: int, flags: int) -> None:
        residence = self._residence
        self.faults += 1
        writes = flags & (uffd.UFFD_PAGEFAULT_FLAG_WP | uffd.UFFD_PAGEFAULT_FLAG_WRITE)
        with residence.lock:
            kind, run = residence.alike(page, page + self._ahead)
            if kind == THERE or (kind != SAVED and flags & uffd.UFFD_PAGEFAULT_FLAG_WP):
                if not (writes and residence.written(page, page + 1)):
                    self._fault.wake(self._address + page * PAGE_SIZE, PAGE_SIZE)
                return
            stop = page + (run if kind in (AWAY, SAVED) else 1)
            if residence.order is not None and kind == SAVED:
                residence.order.extend(range(page, stop))
            try:
                if writes and kind == SAVED:
                    residence.for_writing(page)
                    residence.bring(page, stop)
                else:
                    residence.come(kind, page, stop - page, (page, stop))
            except Refused as refusal:
                if refusal.offset == page * PAGE_SIZE:
                    self._poison(page, refusal.why)

    def _poison(self, page: int, why: str) -> None:
        self.refused[page] = why
        try:
            self._residence.bare(page)
            self._fault.poison(self._address + page * PAGE_SIZE, PAGE_SIZE)
        except OSError as error:
            if error.errno != errno.EEXIST:  # without it the guest waits, which is not wrong either
                self.trouble = error

    def close(self) -> None:
        """End the thread. Twice is once."""
        copy(self._bell.address, self._bell.address + PAGE_SIZE, 1)  # it stays, for whoever does this at the same time
        self._thread.join()
