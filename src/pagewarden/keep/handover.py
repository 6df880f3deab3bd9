"""How a VMM hands the faults of its guest's memory over: Firecracker's way, one message with one descriptor.

A JSON array of regions and, in the same message, the userfaultfd (SCM_RIGHTS); nothing else is ever said. Source:
Firecracker, docs/snapshotting/handling-page-faults-on-snapshot-resume.md, and the regions' fields in its
GuestRegionUffdMapping; `page_size_kib` is the older name of `page_size`, and in bytes all the same.
"""

import errno
import os
import socket
from typing import Literal

import msgspec

from pagewarden.kernel.files import receive_fds
from pagewarden.kernel.uffd import Userfault
from pagewarden.vocab import HUGE_PAGE, PAGE_SIZE, Refused

MOST_BYTES, MOST_REGIONS = 1 << 16, 64
_USERFAULTFD = "anon_inode:[userfaultfd]"
_LIMIT = 1 << 47
"""Addresses of a process on the hosts that there are end there at the latest."""


class HandedRegion(msgspec.Struct, frozen=True, kw_only=True):
    """Guest memory of a VMM: `size` bytes at an address of its own, from this offset of the snapshot on."""

    base_host_virt_addr: int
    size: int
    offset: int
    page_size: Literal[4096, 2097152] | None = None
    page_size_kib: Literal[4096, 2097152] | None = None

    @property
    def unit(self) -> int:
        """Bytes that come at once, and are where a region may start and end."""
        return self.page_size or self.page_size_kib or PAGE_SIZE


class HandOver:
    """What one connection says, read as it comes. It is closed with this."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._data, self._came = bytearray(), list[int]()

    def read(self, size: int) -> tuple[Userfault, list[HandedRegion]] | None:
        """What a VMM hands over, for a snapshot of so many bytes; None: more must come. Refused(EPROTO): it is not
        that."""
        try:
            part, fds, said = receive_fds(self.connection, MOST_BYTES, 8, socket.MSG_DONTWAIT)
            self._came += fds
            self._data += part
            cut = not part or said & (socket.MSG_CTRUNC | socket.MSG_TRUNC)
            if cut or len(self._data) > MOST_BYTES or len(self._came) > 1:
                raise _no("more, or less, than one message with one descriptor came")
            try:
                msgspec.json.decode(self._data)
            except msgspec.DecodeError:
                return None
            regions = _checked(bytes(self._data), size)
            if len(self._came) != 1 or os.readlink(f"/proc/self/fd/{self._came[0]}") != _USERFAULTFD:
                raise _no("the descriptor that came along is no userfaultfd")
            return Userfault.adopt(self._came.pop()), regions
        except BlockingIOError:
            return None
        except RecursionError:
            raise _no("what came is nested too deeply") from None
        except OSError as error:
            raise _no(f"nothing whole came ({error.strerror or error})") from error

    def close(self) -> None:
        """Hang up; all that came and was not taken is closed again. Twice is once."""
        self.connection.close()
        while self._came:
            os.close(self._came.pop())


def _no(why: str) -> Refused:
    return Refused(errno.EPROTO, f"{why}: this is not Firecracker's hand-over of a userfaultfd")


def _checked(data: bytes, size: int) -> list[HandedRegion]:
    try:
        regions = msgspec.json.decode(data, type=list[HandedRegion])
    except msgspec.ValidationError as error:
        raise _no(f"the regions are not what they should be ({error})") from error
    if not 0 < len(regions) <= MOST_REGIONS:
        raise _no(f"{len(regions)} regions came, not 1 to {MOST_REGIONS}")
    end = 0
    for region in sorted(regions, key=lambda each: each.base_host_virt_addr):
        numbers = region.base_host_virt_addr, region.size, region.offset
        if min(numbers) < 0 or not region.size or any(number % region.unit for number in numbers):
            raise _no(f"a region is not of whole pages of {region.unit} bytes: {numbers}")
        if region.base_host_virt_addr < end or region.base_host_virt_addr + region.size > _LIMIT:
            raise _no(f"a region overlaps another, or lies nowhere: {region.base_host_virt_addr:#x}")
        if region.offset + region.size > size:
            raise _no(f"a region ends at {region.offset + region.size} of a snapshot of {size} bytes")
        end = region.base_host_virt_addr + region.size
    if len({region.unit for region in regions}) > 1 or HUGE_PAGE % regions[0].unit:
        raise _no("the regions have pages of several sizes")
    return regions
