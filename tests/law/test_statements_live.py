"""The kernel here, asked what the calls of `pagewarden.law.calls` answer: the same errno, call by call."""

import ctypes
import mmap
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import pytest

from live import require
from pagewarden.abi import kvm
from pagewarden.kernel import door
from pagewarden.kernel.kvm import Kvm, Vm
from pagewarden.law import calls, sources
from pagewarden.law.calls import INIT_SHARED, KEEP_SIZE, MMAP, PUNCH_HOLE, FileKind
from pagewarden.law.step import Outcome
from pagewarden.memory.backings.guest_memfd import create, flags_offered
from pagewarden.vocab import PAGE_SIZE, Unavailable

FILE = 4 * PAGE_SIZE
P = PAGE_SIZE


@dataclass
class Host:
    """A VM with two files of four pages, private and shared, and another VM's."""

    vm: Vm
    private: int
    shared: int
    foreign: int
    area: int
    secret: int
    offered: int


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with ExitStack() as opened:
        try:
            device = opened.enter_context(Kvm())
            vm, other = opened.enter_context(device.create_vm()), opened.enter_context(device.create_vm())
            offered = flags_offered(vm.fd)
            secret = opened.enter_context(door.memfd_secret(FILE)).fd
        except (Unavailable, OSError) as missing:
            require(False, str(missing))
            raise
        require(offered & INIT_SHARED != 0, "guest_memfd with INIT_SHARED: Linux 6.18")
        made = ((vm.fd, FILE, 0), (vm.fd, FILE, MMAP | INIT_SHARED), (other.fd, FILE, 0))
        files = [opened.enter_context(create(*each)).fd for each in made]
        area = door.map_anywhere(FILE, files[1], 0)
        opened.callback(door.unmap, area, FILE)
        private, shared, foreign = files
        yield Host(vm, private, shared, foreign, area, secret, offered)


def answer(call: Callable[[], object]) -> int:
    """The errno of a call, 0 where it is done; what it made is closed."""
    try:
        made = call()
    except OSError as error:
        return error.errno or 0
    if close := getattr(made, "close", None):
        close()
    return 0


Asked = Callable[[Host], object]
ROWS: list[tuple[int, Asked, Outcome | None]] = []
"""Number of the statement, what is asked of the kernel, what the law says; None: that it fails, with whatever errno."""


def _create(size: int, flags: int, host: Host) -> object:
    return create(host.vm.fd, size, flags)


def _resize(size: int, host: Host) -> None:
    os.ftruncate(host.private, size)


def _fallocate(mode: int, offset: int, length: int, host: Host) -> int:
    return door.syscall("fallocate", host.private, mode, offset, length)


def row(number: int, law: Outcome | None, asked: Asked) -> None:
    ROWS.append((number, asked, law))


for size in (1, P - 1):
    row(1, calls.gmem_create(size), partial(_create, size, 0))
row(2, calls.gmem_create(0), lambda host: create(host.vm.fd, 0, 0))
for bit in (0, 1, 2, 7, 63):
    row(3, calls.gmem_create(P, 1 << bit), partial(_create, P, 1 << bit))
row(7, None, lambda host: os.read(host.shared, P))
row(9, None, lambda host: os.pread(host.shared, P, 0))
row(8, None, lambda host: os.write(host.shared, b"x"))
row(10, None, lambda host: os.pwrite(host.shared, b"x", 0))
for size in (0, P, FILE, 2 * FILE):
    row(11, calls.gmem_resize(), partial(_resize, size))
row(15, calls.gmem_mmap(0), lambda host: mmap.mmap(host.private, FILE))
row(16, calls.gmem_mmap(MMAP, shared=False), lambda host: mmap.mmap(host.shared, FILE, flags=mmap.MAP_PRIVATE))
row(19, calls.gmem_mmap(MMAP), lambda host: mmap.mmap(host.shared, FILE))

HOLES = [(0, 1), (0, P - 1), (0, P + 1), (1, 1), (1, P - 1), (1, P), (1, P + 1), (P, 1), (P, P - 1), (P, P + 1)]
CALLS = [
    (27, KEEP_SIZE, 0, FILE), (29, 0, 0, FILE), (29, KEEP_SIZE | 0x8, 0, FILE), (29, KEEP_SIZE | 0x10, 0, FILE),
    (30, KEEP_SIZE, FILE, P), (31, KEEP_SIZE, FILE + P, P), (32, KEEP_SIZE | PUNCH_HOLE, FILE, P),
    (33, KEEP_SIZE | PUNCH_HOLE, FILE + P, P), (34, KEEP_SIZE | PUNCH_HOLE, P - 1, P),
    (35, KEEP_SIZE | PUNCH_HOLE, P, P - 1), (36, KEEP_SIZE | PUNCH_HOLE, P, P), (37, KEEP_SIZE, P, P),
    *((number, KEEP_SIZE | PUNCH_HOLE, *hole) for number, hole in enumerate(HOLES, 38)),
]  # fmt: skip
for number, mode, offset, length in CALLS:
    row(number, calls.gmem_fallocate(FILE, mode, offset, length), partial(_fallocate, mode, offset, length))


class Slots(ExitStack):
    """Memslots that go with it."""

    def put(
        self, host: Host, number: int, gpa: int, fd: int, offset: int = 0, flags: int = kvm.KVM_MEM_GUEST_MEMFD
    ) -> None:
        region = kvm.kvm_userspace_memory_region2(number, flags, gpa, 2 * P, host.area, offset, fd)
        door.ioctl(host.vm.fd, kvm.KVM_SET_USER_MEMORY_REGION2, ctypes.byref(region))
        self.callback(host.vm.set_user_memory_region, number, gpa, 0, host.area)


def _slot(host: Host, fd: int, offset: int = 0, flags: int = kvm.KVM_MEM_GUEST_MEMFD) -> None:
    with Slots() as slots:
        slots.put(host, 1, 0, fd, offset, flags)


def _after(host: Host, gpa: int, offset: int, number: int = 2) -> None:
    """A second slot, beside one over the first two pages at gpa 0."""
    with Slots() as slots:
        slots.put(host, 1, 0, host.private)
        slots.put(host, number, gpa, host.private, offset)


def _bind(offset: int, host: Host) -> None:
    _slot(host, host.private, offset)


def _again(offset: int, host: Host) -> None:
    _after(host, 1 << 20, offset)


def _other(host: Host, opened: Callable[[], door.Descriptor]) -> None:
    with opened() as fd:
        _slot(host, fd.fd)


G = kvm.KVM_MEM_GUEST_MEMFD
row(58, calls.memslot_flags(G, version=1), lambda host: host.vm.set_user_memory_region(1, 0, P, host.area, G))
row(59, calls.memslot_flags(1 << 3), lambda host: _slot(host, host.private, flags=1 << 3))
row(60, calls.memslot_flags(G | 1), lambda host: _slot(host, host.private, flags=G | 1))
row(61, calls.memslot_flags(G | 2), lambda host: _slot(host, host.private, flags=G | 2))
OTHER = calls.memslot_bind(FileKind.OTHER, FILE, 0, 2 * P)
row(62, OTHER, lambda host: _other(host, lambda: door.opened_path("/dev/kvm", os.O_RDWR)))
row(63, OTHER, lambda host: _slot(host, host.vm.fd))
row(64, OTHER, lambda host: _other(host, lambda: door.memfd("other", FILE)))
row(65, calls.memslot_bind(FileKind.FOREIGN, FILE, 0, 2 * P), lambda host: _slot(host, host.foreign))
row(66, calls.memslot_bind(FileKind.NONE, FILE, 0, 2 * P), lambda host: _slot(host, 1 << 20))
for offset in (1, P - 1, 3 * P):
    bound = calls.memslot_bind(FileKind.OWN, FILE, offset, 2 * P)
    row(67, bound, partial(_bind, offset))
NEW = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (7, 2)
for number, offset in ((69, 0), (70, P)):
    twice = calls.memslot_bind(FileKind.OWN, FILE, offset, 2 * P, eexist=NEW, bound=True)
    row(number, twice, partial(_again, offset))
row(71, calls.memslot_change(overlaps=True), lambda host: _after(host, 0, 2 * P))
row(72, calls.memslot_change(overlaps=True), lambda host: _after(host, P, 2 * P))
row(73, calls.memslot_bind(FileKind.OWN, FILE, 2 * P, 2 * P), lambda host: _after(host, 1 << 20, 2 * P))
row(75, calls.memslot_change(changes=True), lambda host: _after(host, 1 << 20, 2 * P, number=1))
MOST = 32764
row(76, calls.memslot_number(MOST, MOST), lambda host: _after(host, 1 << 20, 2 * P, number=_most(host)))


def _most(host: Host) -> int:
    return door.ioctl(host.vm.fd, kvm.KVM_CHECK_EXTENSION, kvm.KVM_CAP_NR_MEMSLOTS)


row(124, calls.secret_create(1), lambda host: door.opened("memfd_secret", 1))
row(126, None, lambda host: os.read(host.secret, 1))
row(129, calls.secret_mmap(False, P, 0, P), lambda host: mmap.mmap(host.secret, P, flags=mmap.MAP_PRIVATE))
row(132, calls.secret_resize(FILE), lambda host: os.ftruncate(host.secret, 2 * FILE))


@pytest.mark.parametrize(("number", "asked", "law"), ROWS, ids=[str(number) for number, *_ in ROWS])
def test_the_kernel_answers_as_the_law_says(host: Host, number: int, asked: Asked, law: Outcome | None) -> None:
    said = answer(lambda: asked(host))
    assert said != 0 if law is None else said == (law.errno or 0)


def test_the_flags_that_are_offered_are_those_of_the_law(host: Host) -> None:
    assert host.offered == MMAP | INIT_SHARED


def test_what_is_said_to_be_asked_here_is_asked() -> None:
    """6.18 is a kernel that only these rows and the probe ask."""
    probed = {17, 23, 130, 131}
    here = {number for number, (*_, kernels) in sources.statements().items() if "6.18" in kernels}
    assert here - probed == {4, *(number for number, *_ in ROWS)}
