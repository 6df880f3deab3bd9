"""The door: results, errno as exceptions, and addresses that are released once."""

import ctypes
import errno
import os

import pytest

from leftovers import descriptors
from pagewarden.abi import memory as uapi
from pagewarden.kernel import door
from pagewarden.kernel.region import Region
from pagewarden.vocab import HUGE_PAGE, PAGE_SIZE


def maps_count() -> int:
    with open("/proc/self/maps") as lines:
        return sum(1 for _ in lines)


def test_a_syscall_by_name_returns_its_result() -> None:
    assert door.syscall("getpid") == os.getpid()


def test_errno_becomes_an_exception_that_names_the_call() -> None:
    with pytest.raises(OSError, match="munmap") as caught:
        door.syscall("munmap", 1, 1)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="ioctl 0xaa00") as caught:
        door.ioctl(-1, 0xAA00)
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize("size", [0, -PAGE_SIZE, 1, PAGE_SIZE - 1, PAGE_SIZE + 1])
def test_sizes_that_are_no_whole_pages_are_turned_down(size: int) -> None:
    with pytest.raises(ValueError, match="multiple"):
        door.pages_of(size)


def test_a_region_shows_the_file_and_bars_it_afterwards() -> None:
    file = door.memfd("test", 2 * PAGE_SIZE)
    fd = file.fd
    region = Region(2 * PAGE_SIZE)
    region.place(fd)
    os.pwrite(fd, b"seen", PAGE_SIZE)
    assert bytes(region.memory[PAGE_SIZE : PAGE_SIZE + 4]) == b"seen"
    region.memory[:4] = b"back"
    assert os.pread(fd, 4, 0) == b"back"
    region.close()
    region.close()
    file.close()


@pytest.mark.parametrize("size", [PAGE_SIZE, HUGE_PAGE, 3 * HUGE_PAGE])
def test_a_region_never_starts_on_a_huge_page(size: int) -> None:
    region = Region(size)
    assert region.address % HUGE_PAGE and not region.address % PAGE_SIZE
    region.close()


def test_a_closed_region_keeps_its_addresses_while_an_array_refers_to_it() -> None:
    region = Region(PAGE_SIZE)
    part = region.memory[:16]
    region.close()
    with pytest.raises(OSError) as caught:  # the kernel finds nothing readable there, and nobody else got the range
        os.write(os.memfd_create("sink"), part)
    assert caught.value.errno == errno.EFAULT
    before = maps_count()
    part.release()
    del part, region
    assert maps_count() < before


def test_map_anywhere_and_unmap_are_a_pair() -> None:
    file = door.memfd("test", PAGE_SIZE)
    fd = file.fd
    before = maps_count()
    address = door.map_anywhere(PAGE_SIZE, fd, 0)
    ctypes.memset(address, 7, 1)
    assert os.pread(fd, 1, 0) == b"\x07"
    door.unmap(address, PAGE_SIZE)
    assert maps_count() == before
    file.close()


def test_memfd_closes_its_fd_when_it_cannot_be_sized() -> None:
    before = descriptors(sweep=True)
    with pytest.raises(OSError):
        door.memfd("test", -1)
    assert descriptors() == before


def test_protect_takes_access_away_and_gives_it_back() -> None:
    region = Region(2 * PAGE_SIZE)
    sink = os.memfd_create("sink")
    region.protect(uapi.PROT_NONE, PAGE_SIZE, PAGE_SIZE)
    assert os.pwrite(sink, region.memory, 0) == PAGE_SIZE
    region.protect(uapi.PROT_READ | uapi.PROT_WRITE, PAGE_SIZE, PAGE_SIZE)
    assert os.pwrite(sink, region.memory, 0) == 2 * PAGE_SIZE
    os.close(sink)
    region.close()
