"""Who follows what the guest of a moving memory writes."""

from typing import TYPE_CHECKING

import numpy as np

from pagewarden.keep.kept import KeptMemory
from pagewarden.kernel.written import WrittenPages
from pagewarden.memory import PAGE_SIZE, PrivateMemory, Unavailable

if TYPE_CHECKING:
    from numpy.typing import NDArray


class FollowedWrites:
    """The kernel's log, or the memory's own. Without either all pages are written, all the time."""

    def __init__(self, memory: PrivateMemory) -> None:
        self.why = ""
        self._memory, self._pages = memory, memory.size // PAGE_SIZE
        self._log: WrittenPages | None = None
        self._kept = memory._residence if isinstance(memory, KeptMemory) else None
        try:
            if self._kept is None:
                self._log = WrittenPages(memory.guest_address, memory.size)
            else:
                with memory._lock:  # nobody is writing through the guest's view in this process
                    self._kept.follow(True)
        except Unavailable as lacking:
            self.why = str(lacking)

    @property
    def followed(self) -> bool:
        return not self.why

    def taken(self, changed: "NDArray[np.bool_]") -> "NDArray[np.bool_]":
        """The pages written, or changed, since the last call; `changed` begins anew."""
        if self.why:
            return np.ones(self._pages, np.bool_)
        taken = changed.copy()
        changed &= ~taken
        if self._log is not None:
            taken[self._log.collect()] = True
        elif self._kept is not None:
            with self._memory._lock:
                taken[self._kept.followed()] = True
        return taken

    def __enter__(self) -> "FollowedWrites":
        return self

    def __exit__(self, *failure: object) -> None:
        if self._log is not None:
            self._log.close()
        if self._kept is not None:
            self._kept.follow(False)
