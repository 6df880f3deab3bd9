"""Kept memories, a guest that touches them without Python's lock, and a host that changes their files."""

import ctypes
import os
from pathlib import Path
from typing import Any

from pagewarden.keep import KeptMemory
from pagewarden.keep.seal import SLOT, SWAP
from pagewarden.kernel.door import copy
from pagewarden.memory import PAGE_SIZE, PrivateMemory

PAGES = 96


def kept(path: Path, pages: int = PAGES, **options: Any) -> KeptMemory:
    return KeptMemory(pages * PAGE_SIZE, swap=path, **options)


def content(page: int) -> bytes:
    return (page * 0x0101_0101_0101 + 7).to_bytes(8, "little") * (PAGE_SIZE // 8)


def filled(mem: KeptMemory, pages: int = PAGES) -> None:
    mem.populate(0, b"".join(map(content, range(pages))))


def guest_reads(mem: PrivateMemory, page: int) -> bytes:
    """As a vCPU would: it waits in the kernel, and the interpreter goes on."""
    buffer = ctypes.create_string_buffer(PAGE_SIZE)
    copy(ctypes.addressof(buffer), mem.guest_address + page * PAGE_SIZE, PAGE_SIZE)
    return buffer.raw


def guest_writes(mem: PrivateMemory, page: int, data: bytes) -> None:
    buffer = ctypes.create_string_buffer(data, len(data))
    copy(mem.guest_address + page * PAGE_SIZE, ctypes.addressof(buffer), len(data))


def change(path: Path, attack: str, page: int, older: bytes = b"") -> None:
    """What the host makes of one page's copy."""
    with path.open("r+b", buffering=0) as file:
        at = len(SWAP) + page * SLOT
        own = os.pread(file.fileno(), SLOT, at)
        if attack == "flipped":
            os.pwrite(file.fileno(), bytes([own[100] ^ 1]), at + 100)
        elif attack == "tag":
            os.pwrite(file.fileno(), bytes([own[-1] ^ 0x80]), at + SLOT - 1)
        elif attack == "exchanged":
            os.pwrite(file.fileno(), os.pread(file.fileno(), SLOT, at - SLOT), at)
        elif attack == "old":
            os.pwrite(file.fileno(), older, at)
        elif attack == "zeroes":
            os.pwrite(file.fileno(), bytes(SLOT), at)
        elif attack == "truncated":
            file.truncate(at + 17)
