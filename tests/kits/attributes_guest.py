"""What a KVM with memory attributes answers: a page of a guest_memfd beside other memory, one act after the other.

Run inside, it prints {kernel, rows, wrong, flags}: of each row its acts, a letter each, and what each came to; what
attributes that are refused came to, and files made with flags. Its argument: of how many rows one is asked.
"""

import ctypes
import errno
import itertools
import json
import mmap
import os
import re
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

from pagewarden.kernel import door
from pagewarden.kernel.kvm import Kvm, Vm
from pagewarden.law.calls import KEEP_SIZE, PRIVATE, PUNCH_HOLE
from pagewarden.memory.backings.guest_memfd import create
from pagewarden.probe import raw
from pagewarden.probe.paths.machine import MEMORY, Copier
from pagewarden.vocab import PAGE_SIZE

SW_PROTECTED = 1
SET_ATTRIBUTES = 1 << 30 | 32 << 16 | 0xAE << 8 | 0xD2
"""KVM_SET_MEMORY_ATTRIBUTES: address, size, attributes, flags, each of 64 bits (include/uapi/linux/kvm.h)."""
WORDS = {b"\0": "zero", b"p": "public", b"s": "secret"}
STATES = ("", "H", "PG", "HPG", "PGSG", "PGSHP", "aP", "PGc")
"""Acts before: untouched, shared, private, over bytes of the host's, shared again, and private again, allocated, and of
a file that is closed."""


class Asked:
    """A VM, with one page on trial in a memslot of its own."""

    def __init__(self, device: Kvm) -> None:
        self.vm = Vm(device.create_vm_fd(SW_PROTECTED), device.get_vcpu_mmap_size(), device.get_supported_cpuid())
        self.file = create(self.vm.fd, PAGE_SIZE, 0)
        self.window, self.private, self.slot = raw.own_memory(PAGE_SIZE), False, 1
        self.guest = Copier(self.vm, PAGE_SIZE, self.window, self.file.fd)

    def close(self) -> None:
        for each in (self.guest._machine.cpus[0], self.vm, self.file):
            each.close()

    def convert(self, private: bool) -> None:
        self.private = private
        self.attributes(MEMORY, PAGE_SIZE, PRIVATE if private else 0)

    def attributes(self, gpa: int, size: int, wanted: int, flags: int = 0) -> None:
        door.ioctl(self.vm.fd, SET_ATTRIBUTES, struct.pack("QQQQ", gpa, size, wanted, flags))

    def guest_writes(self) -> None:
        self.guest.write(0, b"s" if self.private else b"p")

    def delete(self) -> None:
        self.vm.set_user_memory_region(self.slot, MEMORY, 0, 0)

    def add(self) -> None:
        """One of another number, as one that is there cannot be changed."""
        self.vm.set_user_memory_region2(self.slot + 2, MEMORY, PAGE_SIZE, self.window, self.file.fd, 0)
        self.slot += 2

    def made(self, flags: int) -> None:
        create(self.vm.fd, PAGE_SIZE, flags).close()

    def by_reference(self) -> bytes:
        into = ctypes.create_string_buffer(1)
        to, of = raw.vector((ctypes.addressof(into), 1)), raw.vector((self.window, 1))
        door.syscall("process_vm_readv", os.getpid(), ctypes.addressof(to), 1, ctypes.addressof(of), 1, 0)
        return into.raw

    def fallocate(self, mode: int) -> None:
        door.syscall("fallocate", self.file.fd, mode, 0, PAGE_SIZE)


ACTS: dict[str, Callable[[Asked], object]] = {
    "P": lambda on: on.convert(True),
    "S": lambda on: on.convert(False),
    "g": lambda on: on.guest.read(0, 1),
    "G": Asked.guest_writes,
    "h": lambda on: ctypes.string_at(on.window, 1),
    "H": lambda on: ctypes.memset(on.window, ord("p"), 1),
    "u": lambda on: raw.look(on.window, 1),
    "U": lambda on: raw.poke(on.window, b"p"),
    "x": lambda on: on.fallocate(PUNCH_HOLE | KEEP_SIZE),
    "a": lambda on: on.fallocate(KEEP_SIZE),
    "d": Asked.delete,
    "D": Asked.add,
    "c": lambda on: on.file.close(),
    "m": lambda on: mmap.mmap(on.file.fd, PAGE_SIZE),
    "r": lambda on: os.read(on.file.fd, 1),
    "w": lambda on: os.write(on.file.fd, b"p"),
    "k": Asked.by_reference,
}
"""Private, shared; the guest reads, writes; the host loads, stores, and the kernel for it; punch, allocate; the memslot
goes, comes; the file is closed, mapped, read, written; the kernel reads through a reference to the host's page."""
WRONG = [(1, 4096, 8, 0), (0, 1, 8, 0), (0, 0, 8, 0), (0, 4096, 8, 1), (2**64 - 4096, 8192, 8, 0)] + [
    (0, 4096, 1 << bit, 0) for bit in (0, 1, 2, 4, 63)
]
"""Attributes that are refused: gpa, size, attributes, flags."""


def rows() -> Iterator[str]:
    """In each state any two acts, and then what host and guest find, on either side. A file that was closed is gone."""
    for state, acts in itertools.product(STATES, map("".join, itertools.product(ACTS, repeat=2))):
        if not set("xacmrw").intersection((state + acts).partition("c")[2]):
            yield f"{state}{acts}hgPhgShg"


def answer(act: Callable[[], object]) -> str:
    """A word: what was read, "done", or why not."""
    try:
        found = act()
    except OSError as error:
        left = re.search(r"KVM_EXIT_(\w+)(?:, (private|shared))?", str(error))
        return "-".join(filter(None, left.groups())) if left else errno.errorcode[error.errno or 0]
    return WORDS.get(found, repr(found)) if isinstance(found, bytes) and found else "done"


def main() -> None:
    """Ask everything."""
    found = []
    with Kvm() as device:
        for row in itertools.islice(rows(), 0, None, int(sys.argv[1])):
            with closing(Asked(device)) as on:
                found.append({"acts": row, "answers": " ".join(answer(partial(ACTS[act], on)) for act in row)})
        with closing(Asked(device)) as on:
            wrong = [answer(partial(on.attributes, *each)) for each in WRONG]
            flags = [answer(partial(on.made, flags)) for flags in range(4)]
    print(json.dumps({"kernel": os.uname().release, "rows": found, "wrong": wrong, "flags": flags}))


if __name__ == "__main__":
    main()
