"""The guest's memory as a front end describes it: files, placed by guest physical address in one region of ours."""

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagewarden.abi import vhost_user as abi
from pagewarden.kernel.files import keeps_its_size
from pagewarden.kernel.region import Region
from pagewarden.vhost.messages import FrontEndFault
from pagewarden.vocab import PAGE_SIZE

if TYPE_CHECKING:
    from pagewarden.memory.loan import DirectLoan

SPAN = 1 << 42
"""Bytes of guest physical addresses that are served: 4 TiB."""


@dataclass(frozen=True, slots=True)
class MemoryRegion:
    """Bytes [gpa, gpa + size) of the guest, at `user` in the front end, at `offset` in its file."""

    gpa: int
    size: int
    user: int
    offset: int

    def checked(self) -> "MemoryRegion":
        """This, where it can be; FrontEndFault."""
        if not self.size or (self.gpa | self.size | self.user | self.offset) % PAGE_SIZE:
            raise FrontEndFault(f"described a region at gpa {self.gpa:#x} that is empty or not of whole pages")
        if self.gpa + self.size > SPAN:
            raise FrontEndFault(f"described a region that ends at gpa {self.gpa + self.size:#x}, beyond {SPAN:#x}")
        if self.user + self.size >= 1 << 64 or self.offset + self.size >= 1 << 63:
            raise FrontEndFault(f"described a region at gpa {self.gpa:#x} whose addresses wrap")
        return self

    def meets(self, other: "MemoryRegion") -> bool:
        """Do they share a gpa, or an address of the front end's?"""
        return _meet(self.gpa, other.gpa, self.size, other.size) or _meet(self.user, other.user, self.size, other.size)


def _meet(one: int, other: int, size: int, other_size: int) -> bool:
    return one < other + other_size and other < one + size


class GuestRegions:
    """Regions and their files. `region`, SPAN bytes, holds each at its gpa; elsewhere nothing answers.

    Its owner sees to it that nobody uses the bytes of a region that goes.
    """

    def __init__(self) -> None:
        self.region = Region(SPAN)
        try:
            self.region.bar()
        except BaseException:
            self.region.close()
            raise
        self.parts: dict[MemoryRegion, int] = {}
        """The file of each region, open here."""

    def check(self, parts: dict[MemoryRegion, int]) -> None:
        """Could these be added to each other, with these files? FrontEndFault."""
        known = list(parts)
        for n, (part, fd) in enumerate(parts.items()):
            part.checked()
            if any(part.meets(other) for other in known[:n]):
                raise FrontEndFault(f"described two regions that meet at gpa {part.gpa:#x}")
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size < part.offset + part.size:
                raise FrontEndFault(f"sent a file for gpa {part.gpa:#x} that is none, or shorter than the region")
        if len(known) > abi.MEMORY_SLOTS:
            raise FrontEndFault(f"described {len(known)} regions, more than {abi.MEMORY_SLOTS}")

    def add(self, part: MemoryRegion, fd: int) -> None:
        """Place a region that was checked, whose file is ours from now on; FrontEndFault where it cannot be mapped."""
        try:
            self.region.place(fd, offset=part.offset, at=part.gpa, length=part.size)
            self.region.keep_to_this_process()
        except OSError as error:
            self.region.bar(part.size, part.gpa)
            os.close(fd)
            raise FrontEndFault(f"sent a file for gpa {part.gpa:#x} that cannot be mapped: {error.strerror}") from error
        self.parts[part] = fd

    def remove(self, part: MemoryRegion) -> None:
        """Nothing of the region is reachable afterwards."""
        self.region.bar(part.size, part.gpa)
        os.close(self.parts.pop(part))

    def found(self, gpa: int, user: int, size: int) -> MemoryRegion:
        """The region with these numbers; FrontEndFault."""
        for part in self.parts:
            if (part.gpa, part.user, part.size) == (gpa, user, size):
                return part
        raise FrontEndFault(f"named a region at gpa {gpa:#x} that it has not described")

    def gpa_of(self, user: int, length: int) -> int:
        """Where bytes of the front end's address space lie in the guest's, all in one region; FrontEndFault."""
        for part in self.parts:
            if part.user <= user and user + length <= part.user + part.size:
                return user - part.user + part.gpa
        raise FrontEndFault(f"named {length} bytes at its address {user:#x}, which lie in no region")

    def file_offset(self, user: int, length: int) -> int:
        """The same in the file of the region."""
        return self.behind(self.gpa_of(user, length))

    def behind(self, gpa: int) -> int:
        """Where a byte of the guest's lies in the file of its region; FrontEndFault where there is none."""
        for part in self.parts:
            if part.gpa <= gpa < part.gpa + part.size:
                return gpa - part.gpa + part.offset
        raise FrontEndFault(f"named gpa {gpa:#x}, which lies in no region")

    def lend(self, loan: "DirectLoan") -> bool:
        """Let rings be used where they stand (guarded_copies.Keeper), in files that nobody can make shorter: what is
        gone would end this process. A ring is stopped before its region goes."""
        if not all(self._stays(*place) for place in loan.places):
            return False
        loan.stand([start for start, _ in loan.places], {})
        return True

    def _stays(self, gpa: int, length: int) -> bool:
        """Do these bytes lie in one sealed file of small pages? (A hole of huge pages may not be filled again.)"""
        for part, fd in self.parts.items():
            if part.gpa <= gpa and gpa + length <= part.gpa + part.size:
                return keeps_its_size(fd) and os.fstat(fd).st_blksize == PAGE_SIZE
        return False

    def clear(self) -> None:
        """No region is left."""
        for part in list(self.parts):
            self.remove(part)

    def close(self) -> None:
        """Give everything back. Twice is once."""
        try:
            self.clear()
        finally:
            self.region.close()
