"""The ways of memslots: deleted, moved, beside and over each other, of other VMs, over memory of other kinds."""

import ctypes
import os
from collections.abc import Callable
from ctypes import byref

from pagewarden.abi import kvm as uapi_kvm
from pagewarden.abi import kvm_arm64 as arm
from pagewarden.kernel import door
from pagewarden.kernel.kvm_arm64 import ProtectedGuest
from pagewarden.probe import raw
from pagewarden.probe.pkvm import guest
from pagewarden.probe.pkvm.own import NOWHERE, READ, WRITE
from pagewarden.probe.pkvm.stage import BASE, VmStage
from pagewarden.probe.pkvm.ways import way
from pagewarden.vocab import PAGE_SIZE

NEW = 0x7000_0000
"""gpa of a page of further memslots, one for each page on trial."""


@way("slot-delete", WRITE)
def slot_delete(stage: VmStage, page: int) -> bytes:
    """The memslot deleted."""
    stage.guest.set_user_memory_region(0, BASE, 0, stage.address)
    return b""


@way("slot-move", WRITE)
def slot_move(stage: VmStage, page: int) -> bytes:
    """The memslot moved to another gpa."""
    stage.guest.set_user_memory_region(0, NEW, stage.size, stage.address)
    return b""


def _add_slot(stage: VmStage, page: int, address: int, flags: int = 0) -> int:
    """A memslot of one page beside the first; its gpa."""
    stage.guest.set_user_memory_region(page, NEW + page * PAGE_SIZE, PAGE_SIZE, address, flags)
    return NEW + page * PAGE_SIZE


def _another_slot(name: str, flags: int) -> None:
    @way(name, READ)
    def another_slot(stage: VmStage, page: int) -> bytes:
        _add_slot(stage, page, raw.own_memory(PAGE_SIZE), flags)
        return b""


for _name, _flags in {
    "slot-add": 0, "slot-readonly": uapi_kvm.KVM_MEM_READONLY, "slot-dirty-log": uapi_kvm.KVM_MEM_LOG_DIRTY_PAGES,
}.items():  # fmt: skip
    _another_slot(_name, _flags)


@way("slot-second", READ)
def slot_second(stage: VmStage, page: int) -> bytes:
    """A second memslot over the same memory: the guest loads through it."""
    return stage.tell(guest.LOAD, _add_slot(stage, page, stage.hva(page))).to_bytes(8, "little")


@way("vm-second", READ)
def vm_second(stage: VmStage, page: int) -> bytes:
    """A second protected VM over the same memory: its guest loads from it."""
    return _by_another(stage, page, arm.KVM_VM_TYPE_ARM_PROTECTED)


@way("vm-plain", READ)
def vm_plain(stage: VmStage, page: int) -> bytes:
    """A VM that is not protected over the same memory: its guest loads from it."""
    return _by_another(stage, page, 0)


def _by_another(stage: VmStage, page: int, kind: int) -> bytes:
    with ProtectedGuest(stage.device, NOWHERE, kind) as other:
        program = raw.own_memory(PAGE_SIZE)
        ctypes.memmove(program, guest.CODE, len(guest.CODE))
        other.set_user_memory_region(0, NOWHERE, PAGE_SIZE, program)
        other.set_user_memory_region(1, stage.gpa(page), PAGE_SIZE, stage.hva(page))
        return guest.tell(other, guest.LOAD, stage.gpa(page)).to_bytes(8, "little")


@way("pre-fault", READ)
def pre_fault(stage: VmStage, page: int) -> bytes:
    """KVM_PRE_FAULT_MEMORY of the page."""
    asked = arm.kvm_pre_fault_memory(stage.gpa(page), PAGE_SIZE)
    door.ioctl(stage.guest.vcpu.fd, arm.KVM_PRE_FAULT_MEMORY, byref(asked))
    return b""


def _over(name: str, make: Callable[[], door.Descriptor]) -> None:
    @way(f"slot-over-{name}", WRITE)
    def over(stage: VmStage, page: int) -> bytes:
        gpa = _add_slot(stage, page, door.map_anywhere(PAGE_SIZE, make().fd, 0))
        stage.tell(guest.FILL, gpa, 1)
        return b""


def _in_memory() -> door.Descriptor:
    file = door.opened_path("/tmp", os.O_TMPFILE | os.O_RDWR)
    os.ftruncate(file.fd, PAGE_SIZE)
    return file


for _name, _make in {
    "memfd_secret": lambda: door.memfd_secret(PAGE_SIZE),
    "block-device": lambda: door.opened_path("/dev/vda", os.O_RDWR), "tmpfs": _in_memory,
}.items():  # fmt: skip
    _over(_name, _make)


def _guest_memfd(name: str, flags: int) -> None:
    @way(f"slot-guest_memfd-{name}", WRITE)
    def over(stage: VmStage, page: int) -> bytes:
        asked = uapi_kvm.kvm_create_guest_memfd(PAGE_SIZE, flags)
        fd = door.ioctl(stage.guest.fd, uapi_kvm.KVM_CREATE_GUEST_MEMFD, byref(asked))
        mapped = flags & uapi_kvm.GUEST_MEMFD_FLAG_MMAP
        address = door.map_anywhere(PAGE_SIZE, fd, 0) if mapped else raw.own_memory(PAGE_SIZE)
        stage.guest.set_user_memory_region2(page, NEW + page * PAGE_SIZE, PAGE_SIZE, address, fd, 0)
        stage.tell(guest.FILL, NEW + page * PAGE_SIZE, 1)
        return b""


_guest_memfd("private", 0)
_guest_memfd("shared", uapi_kvm.GUEST_MEMFD_FLAG_MMAP | uapi_kvm.GUEST_MEMFD_FLAG_INIT_SHARED)
