"""What a front end has said of one ring so far, and its eventfds."""

import os
from contextlib import suppress

from pagewarden.abi.virtio import VIRTQ_AVAIL_ALIGN, VIRTQ_DESC_ALIGN, VIRTQ_USED_ALIGN
from pagewarden.vhost.messages import FrontEndFault

_EVENTFD = "anon_inode:[eventfd]"


class Vring:
    """One ring: entries; descriptor table, avail ring and used ring as the front end has them; where it began."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.size = self.base = 0
        self.places: tuple[int, int, int] | None = None
        self.kick = self.call = self.error = -1
        self.enabled = self.started = False

    @property
    def ready(self) -> bool:
        """Is everything said that a ring needs to run?"""
        return bool(self.size) and self.places is not None and self.kick >= 0 and self.enabled

    def set_size(self, size: int, most: int) -> None:
        """Entries; FrontEndFault unless a power of two up to `most`."""
        if not 0 < size <= most or size & (size - 1):
            raise FrontEndFault(f"wants a ring of {size} entries, which is no power of two from 1 to {most}")
        self.size = size

    def set_places(self, desc: int, avail: int, used: int) -> None:
        """FrontEndFault where one is not aligned."""
        if desc % VIRTQ_DESC_ALIGN or avail % VIRTQ_AVAIL_ALIGN or used % VIRTQ_USED_ALIGN:
            raise FrontEndFault(f"placed ring {self.index} where it is not aligned")
        self.places = desc, avail, used

    def set_event(self, which: str, fd: int | None) -> None:
        """Take an eventfd over as `kick`, `call` or `error`, or none. FrontEndFault where it is another thing: it is
        closed then, and the one before stays."""
        if fd is not None:
            try:
                if os.readlink(f"/proc/self/fd/{fd}") != _EVENTFD:
                    raise FrontEndFault(f"sent something else than an eventfd for ring {self.index}")
                os.set_blocking(fd, False)
            except BaseException:
                os.close(fd)
                raise
        before = getattr(self, which)
        setattr(self, which, -1 if fd is None else fd)
        if before >= 0:
            os.close(before)

    def drain(self) -> None:
        """The kick was heard."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.kick)

    def close(self) -> None:
        """Forget everything."""
        for which in ("kick", "call", "error"):
            self.set_event(which, None)
        self.__init__(self.index)  # type: ignore[misc]


def tell(fd: int) -> None:
    """Write to an eventfd, if there is one; a counter that is full is told enough."""
    if fd >= 0:
        with suppress(BlockingIOError):
            os.eventfd_write(fd, 1)
