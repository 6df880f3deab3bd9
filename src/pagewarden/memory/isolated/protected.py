"""The untrusted host where Linux 7.3's protection is to be had: a page that is taken back stays where it is.

Protection ends new touches, and no pin. So it is for host sides that have nothing which could pin a page
(`descriptors.may_pin`); from the first one on that is handed such a thing, pages are replaced: what it pinned may
outlive it.
"""

import errno

from pagewarden.abi.uffd import UFFD_FEATURE_RWP
from pagewarden.kernel.uffd import RWP_ASIDE, RWP_GUARD, Userfault, need
from pagewarden.memory.backings.protocol import Wanted
from pagewarden.memory.backings.uffd_rwp import ProtectedWindow, UffdRwp
from pagewarden.memory.isolated.descriptors import may_pin
from pagewarden.memory.isolated.process import HostProcess
from pagewarden.memory.isolated.room import Level
from pagewarden.memory.isolated.window import IsolatedWindow


class IsolatedRwp(IsolatedWindow):
    """As IsolatedWindow; pages are shut and opened by one call each, from here. replaces: is each put on a fresh page
    when it is taken back, as by IsolatedWindow?"""

    name = "uffd-rwp"
    modes = RWP_ASIDE, RWP_GUARD
    registers = True
    sharing, unsharing = UffdRwp.sharing, UffdRwp.unsharing

    def __init__(self, wanted: Wanted, level: Level = True) -> None:
        need(UFFD_FEATURE_RWP)
        self.replaces = False
        self._protected: ProtectedWindow | None = None
        super().__init__(wanted, level)

    def _hand_over(self, fds: tuple[int, ...], given: tuple[int, ...]) -> None:
        if any(may_pin(fd, fd != theirs) for fd, theirs in zip(fds, given, strict=True)):
            self.replaces, self.unsharing = True, IsolatedWindow.unsharing

    def _open(self, host: HostProcess, runs: list[tuple[int, int]]) -> None:
        assert host.guard is not None
        self._protected = ProtectedWindow(host.guard, host.address, self.guest, lambda *_: self._locked)
        super()._open(host, runs)

    def _let(self, host: HostProcess, guard: Userfault, offset: int, length: int) -> None:
        assert self._protected is not None
        self._protected.open(offset, length)

    def unshare(self, offset: int, length: int) -> None:
        """Shut the pages where they are; put their bytes on fresh ones where that is not enough. A host side that has
        something else in the place of its window dies for it."""
        if self.replaces:
            super().unshare(offset, length)
            self.forget(offset, length)
            return
        self._shut_bare(offset, length)
        if self._protected is None or self._host is None or self._host.buried:
            return
        try:
            self._protected.shut(offset, length)
        except OSError as error:
            if error.errno != errno.ESRCH:
                self.bar()

    def punch(self, offset: int, length: int) -> None:
        super().punch(offset, length)
        self.forget(offset, length)

    def forget(self, offset: int, length: int) -> None:
        """See ProtectedWindow."""
        if self._protected is not None:
            self._protected.forget(offset, length)

    def _forget_host(self) -> None:
        try:
            super()._forget_host()
        finally:
            if self._host is None:
                self._protected = None
