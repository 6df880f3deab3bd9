"""Sizes, offsets and numbers as a C compiler gives them for linux/kvm.h on x86-64; TSS and page tables by hand."""

import ctypes

import pytest

from pagewarden.abi import kvm, kvm_x86
from pagewarden.vocab import HUGE_PAGE, PAGE_SIZE

SIZES = {
    "kvm_userspace_memory_region": 32,
    "kvm_userspace_memory_region2": 160,
    "kvm_create_guest_memfd": 64,
    "kvm_signal_mask": 12,
    "kvm_cpuid2": 8,
    "kvm_cpuid_entry2": 40,
    "kvm_regs": 144,
    "kvm_segment": 24,
    "kvm_dtable": 16,
    "kvm_sregs": 312,
}
OFFSETS = {
    "kvm_regs": {"rax": 0, "rsi": 32, "rdi": 40, "r8": 64, "rip": 128, "rflags": 136},
    "kvm_sregs": {"tr": 144, "gdt": 192, "cr0": 224, "efer": 264, "apic_base": 272, "interrupt_bitmap": 280},
    "kvm_run": {"immediate_exit": 1, "exit_reason": 8, "cr8": 16, "exit": 32, "kvm_valid_regs": 288, "s": 304},
    "kvm_run_io": {"port": 2, "data_offset": 8},
    "kvm_run_mmio": {"data": 8, "len": 16, "is_write": 20},
    "kvm_run_memory_fault": {"flags": 0, "gpa": 8, "size": 16},
    "kvm_run_internal": {"suberror": 0, "ndata": 4, "data": 8},
    "kvm_userspace_memory_region2": {"guest_memfd_offset": 32, "guest_memfd": 40, "pad2": 48},
    "kvm_signal_mask": {"sigset": 4},
    "kvm_cpuid2": {"nent": 0},
    "kvm_cpuid_entry2": {"function": 0, "index": 4, "flags": 8, "eax": 12, "ebx": 16, "ecx": 20, "edx": 24},
}
NUMBERS = {
    "KVM_GET_API_VERSION": 0xAE00,
    "KVM_CREATE_VM": 0xAE01,
    "KVM_CHECK_EXTENSION": 0xAE03,
    "KVM_GET_VCPU_MMAP_SIZE": 0xAE04,
    "KVM_GET_SUPPORTED_CPUID": 0xC008AE05,
    "KVM_SET_CPUID2": 0x4008AE90,
    "KVM_CREATE_VCPU": 0xAE41,
    "KVM_SET_USER_MEMORY_REGION": 0x4020AE46,
    "KVM_SET_USER_MEMORY_REGION2": 0x40A0AE49,
    "KVM_CREATE_GUEST_MEMFD": 0xC040AED4,
    "KVM_RUN": 0xAE80,
    "KVM_GET_REGS": 0x8090AE81,
    "KVM_SET_REGS": 0x4090AE82,
    "KVM_GET_SREGS": 0x8138AE83,
    "KVM_SET_SREGS": 0x4138AE84,
    "KVM_SET_SIGNAL_MASK": 0x4004AE8B,
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name: str) -> None:
    assert ctypes.sizeof(getattr(kvm, name)) == SIZES[name]


@pytest.mark.parametrize("name", OFFSETS)
def test_offsets(name: str) -> None:
    structure = getattr(kvm, name)
    assert {field: getattr(structure, field).offset for field in OFFSETS[name]} == OFFSETS[name]


def test_ioctl_numbers() -> None:
    assert {name: getattr(kvm, name) for name in NUMBERS} == NUMBERS


def test_a_cpuid_table_is_its_head_and_its_entries() -> None:
    table = kvm.cpuid2_of(3)
    assert table.head.nent == 3 and type(table).entries.offset == 8
    assert ctypes.sizeof(table) == 8 + 3 * 40


def allowed(tss: bytes, port: int) -> bool:
    """The CPU's rule (SDM volume 1, 18.5.2): the bit is clear, and the two bytes that hold it lie inside the TSS."""
    base = int.from_bytes(tss[102:104], "little") + (port >> 3)
    return base + 2 <= len(tss) and not tss[base] >> (port & 7) & 1


def test_every_port_is_the_guests_to_write_and_exits() -> None:
    pages, tss, limit = kvm_x86.system_pages(PAGE_SIZE, HUGE_PAGE)
    assert all(allowed(pages[tss - HUGE_PAGE :][: limit + 1], port) for port in range(0x10000))
    assert kvm_x86.USER_RFLAGS == 0x3002  # SDM volume 3, 2.3: bit 1 is always set, IOPL is bits 12 and 13


def entry(table: bytes, gpa: int, at: int, index: int) -> int:
    return int.from_bytes(table[gpa - at + 8 * index :][:8], "little")


def walk(tables: bytes, at: int, gva: int) -> tuple[int, int] | None:
    """gpa and the user bit, by 4-level paging with 2 MiB pages (SDM volume 3, 4.5.4)."""
    gpa, user = at, 4
    for shift in (39, 30, 21):
        found = entry(tables, gpa, at, gva >> shift & 511)
        if not found & 1:
            return None
        gpa, user = found & 0x000F_FFFF_FFFF_F000, user & found
    return gpa | gva % HUGE_PAGE, user


@pytest.mark.parametrize("size", [PAGE_SIZE, HUGE_PAGE, 5 * HUGE_PAGE + PAGE_SIZE, 3 << 30])
def test_page_tables_map_the_memory_for_the_user_and_themselves_for_the_supervisor(size: int) -> None:
    at = -(-size // HUGE_PAGE) * HUGE_PAGE
    pages, tss, limit = kvm_x86.system_pages(size, at)
    assert len(pages) % PAGE_SIZE == 0 and at <= tss < tss + limit < at + len(pages)
    for gva in (0, size // 2, size - 1):
        assert walk(pages, at, gva) == (gva, 4)
    assert walk(pages, at, tss) == (tss, 0)
    assert walk(pages, at, at + HUGE_PAGE) is None


@pytest.mark.parametrize(("size", "at"), [(HUGE_PAGE, PAGE_SIZE), (2 * HUGE_PAGE, HUGE_PAGE), (PAGE_SIZE, 1 << 38)])
def test_system_pages_refuse_a_place_inside_the_memory_or_out_of_reach(size: int, at: int) -> None:
    with pytest.raises(ValueError, match="system pages"):
        kvm_x86.system_pages(size, at)
