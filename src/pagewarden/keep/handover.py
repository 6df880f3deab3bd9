"""How a VMM hands the faults of its guest's memory over: Firecracker's way, one message with one descriptor.

A JSON array of regions and, in the same message, the userfaultfd (SCM_RIGHTS); nothing else is ever said. Source:
Firecracker, docs/snapshotting/handling-page-faults-on-snapshot-resume.md, and the regions' fields in its
GuestRegionUffdMapping; `page_size_kib` is the older name of `page_size`, and in bytes all the same.
"""

import errno
import os
import socket
from contextlib import suppress
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


def received(connection: socket.socket, size: int, patience: float = 1.0) -> tuple[Userfault, list[HandedRegion]]:
    """What a VMM hands over, for a snapshot of so many bytes. Refused(EPROTO): what comes is not that, or nothing comes
    for so many seconds; all that came with it is closed again."""
    connection.settimeout(patience)
    data, came = bytearray(), list[int]()
    try:
        while True:
            part, fds, said = receive_fds(connection, MOST_BYTES, 8)
            came += fds
            data += part
            if not part or said & (socket.MSG_CTRUNC | socket.MSG_TRUNC) or len(data) > MOST_BYTES or len(came) > 1:
                raise _no("more, or less, than one message with one descriptor came")
            with suppress(msgspec.DecodeError):
                msgspec.json.decode(data)
                break
        regions = _checked(bytes(data), size)
        if len(came) != 1 or os.readlink(f"/proc/self/fd/{came[0]}") != _USERFAULTFD:
            raise _no("the descriptor that came along is no userfaultfd")
        return Userfault.adopt(came.pop()), regions
    except RecursionError:
        raise _no("what came is nested too deeply") from None
    except OSError as error:
        raise _no(f"nothing whole came ({error.strerror or error})") from error
    finally:
        for fd in came:
            os.close(fd)


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
