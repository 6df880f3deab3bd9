"""The x86-64 that a guest in long mode at CPL 3 needs to start in: control registers, segments, page tables, TSS.

Numbers from Intel SDM volume 3: 2.3 (RFLAGS), 2.5 (control registers), 3.4.5 (segments), 4.5 (4-level paging), 8.7
(64-bit TSS), and volume 1, 18.5.2 (I/O permission bitmap). Everything is mapped at its own address: gva = gpa.
"""

import struct

from pagewarden.abi.kvm import kvm_dtable, kvm_segment, kvm_sregs
from pagewarden.vocab import HUGE_PAGE, PAGE_SIZE

CR0_PE, CR0_MP, CR0_ET, CR0_NE, CR0_WP, CR0_PG = 1 << 0, 1 << 1, 1 << 4, 1 << 5, 1 << 16, 1 << 31
CR4_PAE, CR4_OSFXSR, CR4_OSXMMEXCPT = 1 << 5, 1 << 9, 1 << 10
EFER_LME, EFER_LMA = 1 << 8, 1 << 10
PTE_P, PTE_W, PTE_U, PTE_PS = 1 << 0, 1 << 1, 1 << 2, 1 << 7
RFLAGS_FIXED, RFLAGS_IOPL_3 = 1 << 1, 3 << 12
USER_RFLAGS = RFLAGS_FIXED | RFLAGS_IOPL_3
"""IOPL 3: by the SDM no I/O permission bitmap is asked then. A software KVM may ask it all the same (seen: kvm_pvm on
Linux 6.18), and QEMU's emulated SVM finds none that we write (seen: 7.2): so both are given, and each port exits."""

_CODE, _DATA, _BUSY_TSS = 11, 3, 11
_TSS_BYTES, _PORTS = 104, 1 << 16
_TSS_HEAD = bytes(102) + struct.pack("<H", _TSS_BYTES)  # its last field: where the I/O bitmap begins
_GIB = 1 << 30


def _segment(selector: int, kind: int, **fields: int) -> kvm_segment:
    usual = {"base": 0, "limit": 0xFFFF_FFFF, "present": 1, "dpl": 3, "s": 1, "g": 1}
    return kvm_segment(**{**usual, "selector": selector, "type": kind, **fields})


def user_mode(sregs: kvm_sregs, tables: int, tss: int, tss_limit: int) -> None:
    """Set long mode at CPL 3 with page tables and TSS at these gpas. No IDT: an exception is a triple fault."""
    sregs.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG
    sregs.cr3 = tables
    sregs.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT
    sregs.efer = EFER_LME | EFER_LMA
    sregs.cs = _segment(0x33, _CODE, l=1)
    for name in ("ds", "es", "fs", "gs", "ss"):
        setattr(sregs, name, _segment(0x2B, _DATA, db=1))
    sregs.tr = _segment(0x40, _BUSY_TSS, base=tss, limit=tss_limit, dpl=0, s=0, g=0)
    sregs.idt = kvm_dtable()


def system_pages(size: int, at: int) -> tuple[bytes, int, int]:
    """Page tables and TSS to be placed at gpa `at`, 2 MiB aligned: (bytes, gpa of the TSS, its limit).

    User pages map [0, size), rounded up to 2 MiB; the system pages themselves are the supervisor's. The first page is
    the PML4. ValueError when `at` is not aligned, inside the memory, or past 256 GiB.
    """
    if at % HUGE_PAGE or at < size or at + HUGE_PAGE > 256 * _GIB:
        raise ValueError(f"system pages at {at:#x} do not follow a memory of {size:#x} bytes within 256 GiB")
    directories = at // _GIB + 1
    entries = [_user(page, size, at) for page in range(0, directories * _GIB, HUGE_PAGE)]
    first = at + 2 * PAGE_SIZE
    pointers = [(first + n * PAGE_SIZE) | PTE_P | PTE_W | PTE_U for n in range(directories)]
    tables = _table([(at + PAGE_SIZE) | PTE_P | PTE_W | PTE_U]) + _table(pointers) + _table(entries)
    tss = _TSS_HEAD + bytes(_PORTS // 8) + b"\xff"  # one byte of ones must follow the bitmap
    return tables + tss.ljust(-(-len(tss) // PAGE_SIZE) * PAGE_SIZE, b"\0"), at + len(tables), len(tss) - 1


def _user(page: int, size: int, at: int) -> int:
    if page < size:
        return page | PTE_P | PTE_W | PTE_U | PTE_PS
    return at | PTE_P | PTE_PS if page == at else 0


def _table(entries: list[int]) -> bytes:
    used = struct.pack(f"<{len(entries)}Q", *entries)
    return used.ljust(-(-len(used) // PAGE_SIZE) * PAGE_SIZE, b"\0")
