"""KVM as its header states it (include/uapi/linux/kvm.h, arch/x86/include/uapi/asm/kvm.h): names, numbers, layouts.

Distribution headers are often older than the kernel, so the constants are carried here. Only what is used is declared.
"""

import ctypes
from ctypes import Structure, Union
from ctypes import c_uint8 as u8
from ctypes import c_uint16 as u16
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64

from pagewarden.abi import each

KVM_API_VERSION = 12
KVMIO = 0xAE

# -- structures --------------------------------------------------------------------------------------------------------


class kvm_userspace_memory_region(Structure):
    _fields_ = (("slot", u32), ("flags", u32), ("guest_phys_addr", u64), ("memory_size", u64), ("userspace_addr", u64))


class kvm_userspace_memory_region2(Structure):
    _fields_ = (
        *each(u32, "slot flags"),
        *each(u64, "guest_phys_addr memory_size userspace_addr guest_memfd_offset"),
        *each(u32, "guest_memfd pad1"),
        ("pad2", u64 * 14),
    )


class kvm_create_guest_memfd(Structure):
    _fields_ = (("size", u64), ("flags", u64), ("reserved", u64 * 6))


class kvm_cpuid_entry2(Structure):
    _fields_ = (*each(u32, "function index flags eax ebx ecx edx"), ("padding", u32 * 3))


class kvm_cpuid2(Structure):
    """The header ends it with a flexible array of kvm_cpuid_entry2: `cpuid2_of` has room for that."""

    _fields_ = (("nent", u32), ("padding", u32))


def cpuid2_of(entries: int) -> Structure:
    """A kvm_cpuid2 with room for so many entries: fields `head` and `entries`."""

    class table(Structure):
        _fields_ = (("head", kvm_cpuid2), ("entries", kvm_cpuid_entry2 * entries))

    return table(head=kvm_cpuid2(nent=entries))


class kvm_signal_mask(Structure):
    """The header ends it with a flexible array; KVM wants len = 8, the kernel's sigset_t."""

    _pack_ = 4
    _fields_ = (("len", u32), ("sigset", u64))


class kvm_regs(Structure):
    _fields_ = each(u64, "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags")


class kvm_segment(Structure):
    _fields_ = (
        ("base", u64),
        ("limit", u32),
        ("selector", u16),
        *each(u8, "type present dpl db s l g avl unusable padding"),
    )


class kvm_dtable(Structure):
    _fields_ = (("base", u64), ("limit", u16), ("padding", u16 * 3))


class kvm_sregs(Structure):
    _fields_ = (
        *each(kvm_segment, "cs ds es fs gs ss tr ldt"),
        *each(kvm_dtable, "gdt idt"),
        *each(u64, "cr0 cr2 cr3 cr4 cr8 efer apic_base"),
        ("interrupt_bitmap", u64 * 4),
    )


class kvm_run_io(Structure):
    _fields_ = (("direction", u8), ("size", u8), ("port", u16), ("count", u32), ("data_offset", u64))


class kvm_run_mmio(Structure):
    _fields_ = (("phys_addr", u64), ("data", u8 * 8), ("len", u32), ("is_write", u8))


class kvm_run_memory_fault(Structure):
    _fields_ = (("flags", u64), ("gpa", u64), ("size", u64))


class kvm_run_fail_entry(Structure):
    _fields_ = (("hardware_entry_failure_reason", u64), ("cpu", u32))


class kvm_run_internal(Structure):
    _fields_ = (("suberror", u32), ("ndata", u32), ("data", u64 * 16))


class kvm_run_exit(Union):
    _fields_ = (
        ("io", kvm_run_io),
        ("mmio", kvm_run_mmio),
        ("memory_fault", kvm_run_memory_fault),
        ("fail_entry", kvm_run_fail_entry),
        ("internal", kvm_run_internal),
        ("padding", u8 * 256),
    )


class kvm_sync_regs(Structure):
    """The first of its registers; sregs and events follow in the header."""

    _fields_ = (("regs", kvm_regs),)


class kvm_run(Structure):
    """The page shared with user space; the header's anonymous union is `exit` here, s.regs is `s`."""

    _fields_ = (
        *each(u8, "request_interrupt_window immediate_exit"),
        ("padding1", u8 * 6),
        ("exit_reason", u32),
        *each(u8, "ready_for_interrupt_injection if_flag"),
        ("flags", u16),
        *each(u64, "cr8 apic_base"),
        ("exit", kvm_run_exit),
        *each(u64, "kvm_valid_regs kvm_dirty_regs"),
        ("s", kvm_sync_regs),
    )


# -- ioctl numbers (asm-generic/ioctl.h) -------------------------------------------------------------------------------

_WRITE, _READ = 1, 2


def _number(direction: int, nr: int, size: int) -> int:
    return direction << 30 | size << 16 | KVMIO << 8 | nr


def _io(nr: int) -> int:
    return _number(0, nr, 0)


def _iow(nr: int, argument: type[Structure]) -> int:
    return _number(_WRITE, nr, ctypes.sizeof(argument))


def _ior(nr: int, argument: type[Structure]) -> int:
    return _number(_READ, nr, ctypes.sizeof(argument))


def _iowr(nr: int, argument: type[Structure]) -> int:
    return _number(_READ | _WRITE, nr, ctypes.sizeof(argument))


# on /dev/kvm
KVM_GET_API_VERSION = _io(0x00)
KVM_CREATE_VM = _io(0x01)
KVM_CHECK_EXTENSION = _io(0x03)
KVM_GET_VCPU_MMAP_SIZE = _io(0x04)
KVM_GET_SUPPORTED_CPUID = _iowr(0x05, kvm_cpuid2)
# on a VM
KVM_CREATE_VCPU = _io(0x41)
KVM_SET_USER_MEMORY_REGION = _iow(0x46, kvm_userspace_memory_region)
KVM_SET_USER_MEMORY_REGION2 = _iow(0x49, kvm_userspace_memory_region2)
KVM_CREATE_GUEST_MEMFD = _iowr(0xD4, kvm_create_guest_memfd)
# on a vCPU
KVM_RUN = _io(0x80)
KVM_GET_REGS = _ior(0x81, kvm_regs)
KVM_SET_REGS = _iow(0x82, kvm_regs)
KVM_GET_SREGS = _ior(0x83, kvm_sregs)
KVM_SET_SREGS = _iow(0x84, kvm_sregs)
KVM_SET_SIGNAL_MASK = _number(_WRITE, 0x8B, 4)  # sizeof counts the length word alone
KVM_SET_CPUID2 = _iow(0x90, kvm_cpuid2)

# -- flags -------------------------------------------------------------------------------------------------------------

KVM_MEM_LOG_DIRTY_PAGES = 1 << 0
KVM_MEM_READONLY = 1 << 1
KVM_MEM_GUEST_MEMFD = 1 << 2
GUEST_MEMFD_FLAG_MMAP = 1 << 0
GUEST_MEMFD_FLAG_INIT_SHARED = 1 << 1
KVM_EXIT_IO_OUT = 1
KVM_MEMORY_EXIT_FLAG_PRIVATE = 1 << 3
KVM_SYNC_X86_REGS = 1 << 0  # in kvm_valid_regs and kvm_dirty_regs

VM_TYPES = {0: "default", 1: "SW_PROTECTED", 2: "SEV", 3: "SEV_ES", 4: "SNP", 5: "TDX"}
"""KVM_X86_*_VM: bits of KVM_CAP_VM_TYPES, and what KVM_CREATE_VM takes, by number."""

# what `probe` asks a kernel for, one by one
KVM_CAP_NR_MEMSLOTS = 10
KVM_CAP_IOEVENTFD = 36
KVM_CAP_SYNC_REGS = 74
KVM_CAP_IMMEDIATE_EXIT = 136
KVM_CAP_USER_MEMORY2 = 231
KVM_CAP_MEMORY_FAULT_INFO = 232
KVM_CAP_MEMORY_ATTRIBUTES = 233
KVM_CAP_GUEST_MEMFD = 234
KVM_CAP_VM_TYPES = 235
KVM_CAP_GUEST_MEMFD_FLAGS = 244

KVM_MAX_CPUID_ENTRIES = 256  # arch/x86/include/asm/kvm_host.h
EHWPOISON = 133  # asm-generic/errno.h; KVM_RUN of poisoned memory

KVM_EXIT_UNKNOWN = 0
KVM_EXIT_IO = 2
KVM_EXIT_HLT = 5
KVM_EXIT_MMIO = 6
KVM_EXIT_SHUTDOWN = 8
KVM_EXIT_FAIL_ENTRY = 9
KVM_EXIT_INTR = 10
KVM_EXIT_INTERNAL_ERROR = 17
KVM_EXIT_MEMORY_FAULT = 39
