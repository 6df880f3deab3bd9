"""The mappings of a process, and how many this one may still have: what splits them stops before none is left for a
thread's stack."""

import errno
from contextlib import suppress
from typing import NamedTuple

from pagewarden.kernel.causes import CallFailed

RESERVE = 1024
"""Mappings that are left to the rest of the process, at least: threads, allocators, the way back."""


class Mappings:
    """An upper bound of the mappings in use, measured again (/proc/self/maps) whenever it meets the limit."""

    def __init__(self) -> None:
        self.limit = 65530  # mm/mmap.c, DEFAULT_MAX_MAP_COUNT
        with suppress(OSError), open("/proc/sys/vm/max_map_count") as value:
            self.limit = int(value.read())
        self._bound = self.limit

    def take(self, count: int, call: str) -> None:
        """The call will add at most so many; CallFailed(ENOMEM) when too few would be left."""
        self._bound += count
        if self._bound > self.limit - RESERVE:
            self._bound = used() + count
            if self._bound > self.limit - RESERVE:
                self._bound -= count
                raise CallFailed(call, errno.ENOMEM)


class Mapping(NamedTuple):
    """A line of /proc/PID/maps (proc_pid_maps(5)). file: device and inode; name: "" where it has none."""

    start: int
    stop: int
    rights: str
    offset: int
    file: tuple[str, int]
    name: str


def mappings(pid: int | str) -> list[Mapping]:
    """Those of a process; OSError."""
    rows = []
    with open(f"/proc/{pid}/maps") as lines:
        for line in lines:
            span, rights, offset, device, inode, *name = line.split(maxsplit=5)
            start, stop = (int(edge, 16) for edge in span.split("-"))
            rows.append(Mapping(start, stop, rights, int(offset, 16), (device, int(inode)), "".join(name).strip()))
    return rows


def used() -> int:
    """Mappings of this process now; 0 where /proc does not say."""
    with suppress(OSError), open("/proc/self/maps", "rb") as lines:
        return sum(1 for _ in lines)
    return 0


MAPPINGS = Mappings()
