"""Sizes, offsets and request numbers as the uapi headers give them on x86-64."""

import ctypes
from ctypes import Structure

import pytest

from pagewarden.abi import memory, pagemap, uffd
from pagewarden.abi.memory_syscalls import LAST, SYSCALLS


@pytest.mark.parametrize(
    ("struct", "size", "offsets"),
    [
        (uffd.uffdio_api, 24, {"features": 8, "ioctls": 16}),
        (uffd.uffdio_range, 16, {"len": 8}),
        (uffd.uffdio_register, 32, {"mode": 16, "ioctls": 24}),
        (uffd.uffdio_copy, 40, {"src": 8, "len": 16, "mode": 24, "copy": 32}),
        (uffd.uffdio_writeprotect, 24, {"mode": 16}),
        (uffd.uffdio_continue, 32, {"mode": 16, "mapped": 24}),
        (uffd.uffdio_rwprotect, 24, {"mode": 16}),
        (uffd.uffdio_zeropage, 32, {"mode": 16, "zeropage": 24}),
        (uffd.uffdio_poison, 32, {"mode": 16, "updated": 24}),
        (pagemap.pm_scan_arg, 96, {"vec": 40, "max_pages": 56, "return_mask": 88}),
        (memory.iovec, 16, {"iov_len": 8}),
        (memory.statx, 256, {"stx_dev_major": 136, "stx_dio_mem_align": 152, "stx_dio_offset_align": 156}),
    ],
)
def test_layout(struct: type[Structure], size: int, offsets: dict[str, int]) -> None:
    assert ctypes.sizeof(struct) == size
    assert {name: getattr(struct, name).offset for name in offsets} == offsets


@pytest.mark.parametrize(
    ("request_number", "direction", "number", "struct"),
    [
        (uffd.UFFDIO_API, 3, 0x3F, uffd.uffdio_api),
        (uffd.UFFDIO_REGISTER, 3, 0, uffd.uffdio_register),
        (uffd.UFFDIO_UNREGISTER, 2, 1, uffd.uffdio_range),
        (uffd.UFFDIO_COPY, 3, 3, uffd.uffdio_copy),
        (uffd.UFFDIO_WAKE, 2, 2, uffd.uffdio_range),
        (uffd.UFFDIO_ZEROPAGE, 3, 4, uffd.uffdio_zeropage),
        (uffd.UFFDIO_POISON, 3, 8, uffd.uffdio_poison),
        (uffd.UFFDIO_WRITEPROTECT, 3, 6, uffd.uffdio_writeprotect),
        (uffd.UFFDIO_CONTINUE, 3, 7, uffd.uffdio_continue),
        (uffd.UFFDIO_RWPROTECT, 3, 9, uffd.uffdio_rwprotect),
    ],
)
def test_request_numbers_hold_direction_size_and_type(
    request_number: int, direction: int, number: int, struct: type[Structure]
) -> None:
    assert request_number == direction << 30 | ctypes.sizeof(struct) << 16 | 0xAA << 8 | number


def test_the_scan_of_a_pagemap_is_number_16_of_the_letter_f() -> None:
    assert 3 << 30 | ctypes.sizeof(pagemap.pm_scan_arg) << 16 | ord("f") << 8 | 16 == pagemap.PAGEMAP_SCAN


def test_feature_bits_are_single_and_in_order() -> None:
    assert list(uffd.FEATURES.values()) == [1 << i for i in range(len(uffd.FEATURES))]


def test_syscall_table_at_its_landmarks() -> None:
    table = SYSCALLS["x86_64"]
    landmarks = {
        "read": 0,
        "mmap": 9,
        "mremap": 25,
        "madvise": 28,
        "ptrace": 101,
        "remap_file_pages": 216,
        "splice": 275,
        "perf_event_open": 298,
        "process_vm_readv": 310,
        "userfaultfd": 323,
        "pidfd_open": 434,
        "io_uring_setup": 425,
        "process_madvise": 440,
        "memfd_secret": 447,
        "mseal": 462,
    }
    assert {name: table[name] for name in landmarks} == landmarks
    assert len(set(table.values())) == len(table) and LAST["x86_64"] == 462
