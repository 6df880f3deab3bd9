"""The untrusted host: its window is in another process, and taking a page back puts the bytes on a fresh page.

What the host kept of the old page (a pin, a registered buffer, a pipe) lives on for it alone and holds what was
shared. `replace` says what happens to a page meanwhile.
"""

import errno
from contextlib import AbstractContextManager

from pagewarden.kernel.door import memfd, punch_hole
from pagewarden.kernel.region import Region
from pagewarden.kernel.uffd import ASIDE, YIELDING, Userfault
from pagewarden.memory.backings.protocol import Tariff, Wanted
from pagewarden.memory.backings.uffd_window import share_window
from pagewarden.memory.isolated.bare import BareParts
from pagewarden.memory.isolated.keeper import HostKeeper
from pagewarden.memory.isolated.process import HostProcess
from pagewarden.memory.isolated.replace import STEP, GuestView, Replacing
from pagewarden.memory.isolated.room import Level
from pagewarden.vocab import Event


class IsolatedWindow(HostKeeper):
    """A memfd whose open mapping is this process's alone; the host side's window is opened through its userfaultfd."""

    name = "uffd-window"
    modes = ASIDE, YIELDING
    registers = False
    """Is there more to guard by than the host side's own registration?"""
    whole_file = False
    idle_unshare = False
    sharing = Tariff({Event.HYP_PTE_SET: 1})
    unsharing = Tariff({Event.HYP_PTE_CLEAR: 1, Event.HYP_COPIES: 1, Event.ALLOCATIONS: 1}, {Event.TLBI: 1})
    punching = Tariff({}, {Event.TLBI: 1})
    window = None
    compiled = single = None

    def __init__(self, wanted: Wanted, level: Level = True) -> None:
        size = wanted.size
        self._bare: BareParts | None = None
        super().__init__(level)
        self._take(memfd("pagewarden", size), size)
        view = self.own(GuestView(size))
        self.guest: Region = view
        view.place(self.file)
        view.keep_to_this_process()
        self._locked = view.lock_when_touched()
        self._replacing = view.replacing = self.own(Replacing(self.file, view.address, size))
        self._keep_apart()

    def lend(self, waiting: Userfault, lock: AbstractContextManager[object]) -> None:
        """See Replacing."""
        self._replacing.lend(waiting, lock)

    # -- pages ---------------------------------------------------------------------------------------------------------

    def share(self, offset: int, length: int) -> None:
        self._replacing.settle()  # holes are filled through the guest's view, which must not wait for us
        host = self._host
        if host is None or host.guard is None or host.buried:
            return
        try:
            self._let(host, host.guard, offset, length)
        except OSError as error:
            if error.errno != errno.ESRCH:  # when it is dead nobody sees anything
                raise

    def _let(self, host: HostProcess, guard: Userfault, offset: int, length: int) -> None:
        """Let the pages answer in its window."""
        share_window(guard, host.address, self.guest, offset, length)

    def _open(self, host: HostProcess, runs: list[tuple[int, int]]) -> None:
        if host.guard is not None and (runs or self.registers):
            self._replacing.settle()
            self._bare = BareParts(host.guard, host.address, self.guest, self.modes)
            try:
                self._bare.open(runs)
            except OSError:
                if not host.dead:  # that it is, is said by whatever is asked of it next
                    raise

    def _shut_bare(self, offset: int, length: int) -> None:
        """Guard what is shared by and large; where the host side's address space does not let us, it dies for that."""
        if self._bare is None or self._host is None or self._host.buried:
            return
        try:
            self._bare.shut(offset, length)
        except OSError:
            self.bar()
            self._bare = None

    def unshare(self, offset: int, length: int) -> None:
        """Put the pages' bytes on fresh pages."""
        self._shut_bare(offset, length)
        for start, count in _steps(offset, length):
            self._replacing.replace(start, count)

    def forget(self, offset: int, length: int) -> None:
        """The pages are gone from the file, and their entries with them: nothing is known of those here."""

    def punch(self, offset: int, length: int) -> None:
        self._replacing.settle()
        self._shut_bare(offset, length)
        punch_hole(self.file, offset, length)

    # -- the end -------------------------------------------------------------------------------------------------------

    def forked(self) -> None:
        self._file.close()
        self._replacing.forked()

    def _forget_host(self) -> None:
        try:
            super()._forget_host()
        finally:
            if self._host is None:
                self._bare = None


def _steps(offset: int, length: int) -> list[tuple[int, int]]:
    """A run in pieces of at most STEP: where each starts, and its length."""
    return [(start, min(STEP, offset + length - start)) for start in range(offset, offset + length, STEP)]
