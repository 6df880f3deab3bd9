"""The program of a protected guest, as arm64 machine code: it does what the VMM tells it, one command at a time.

It asks for a command by loads from a page without a memslot and answers by a store to it: KVM makes each an exit to the
VMM (KVM_EXIT_MMIO), and a protected guest shows the VMM nothing else of itself. No stage-1 translation: an address is a
gpa. An exception at EL1, an abort that the hypervisor injects say, is told, and the next command asked for.
"""

import errno

from pagewarden.kernel.kvm_arm64 import ProtectedGuest

MAILBOX = 0x0A00_0000
"""gpa of the page."""
WHAT, WHERE, WITH, ANSWER, TRAPPED = range(MAILBOX, MAILBOX + 40, 8)
"""Three words that the guest reads and two that it writes, the last with its ESR_EL1."""
FILL, LOAD, CALL = range(3)
"""Commands: WITH into each word of the page at WHERE, the word at WHERE, HVC WITH of the gpa WHERE."""
SHARE, UNSHARE, FEATURES, GRANULE = 0xC600_0003, 0xC600_0004, 0x8600_0000, 0xC600_0002
"""Hypercalls (include/linux/arm-smccc.h: ARM_SMCCC_VENDOR_HYP_KVM_MEM_SHARE, _MEM_UNSHARE, _FEATURES, _HYP_MEMINFO)."""

WORD = 10
"""The register that WITH is loaded into."""

SOURCE = """
        adr     x0, vectors
        msr     vbar_el1, x0
        isb
        movz    x28, #0x0a00, lsl #16
next:   ldr     x9, [x28]
        ldr     x1, [x28, #8]
        ldr     x10, [x28, #16]
        cbz     x9, fill
        sub     x9, x9, #1
        cbz     x9, load
        mov     x0, x10
        mov     x2, #0
        mov     x3, #0
        hvc     #0
answer: str     x0, [x28, #24]
        b       next
fill:   str     x10, [x1], #8
        tst     x1, #4095
        b.ne    fill
        b       answer
load:   ldr     x0, [x1]
        b       answer
        .balign 2048
vectors:
        .skip   512
        mrs     x0, esr_el1
        str     x0, [x28, #32]
        b       next
"""
"""What CODE is, for an assembler."""
TRAP = 2048 + 512
"""Where an exception at EL1 leads (Arm ARM, D1.4.1: current exception level with SPx, synchronous)."""
CODE = bytes.fromhex(
    "0040001000c018d5df3f03d51c40a1d2890340f9810740f98a0b40f9290100b4290500d1690100b4e0030aaa020080d2"
    "030080d2020000d4800f00f9f5ffff172a8400f83f2c40f2c1ffff54fbffff17200040f9f9ffff17"
).ljust(TRAP, b"\0") + bytes.fromhex("005238d5801300f982fdff17")
"""It starts at its first byte, and runs at any gpa that is a multiple of 2 KiB."""


def tell(guest: ProtectedGuest, what: int, where: int, value: int = 0) -> int:
    """Have a guest that runs CODE carry out a command, and its answer. OSError: KVM_RUN's; EREMOTEIO for an exception
    that the guest met, with its ESR_EL1 in words; EPROTO for an exit that no command leads to."""
    asked = {WHAT: what, WHERE: where, WITH: value}
    while True:
        mmio = guest.run()
        if not mmio.is_write and mmio.phys_addr in asked:
            mmio.data[:] = asked[mmio.phys_addr].to_bytes(8, "little")
            continue
        said = int.from_bytes(bytes(mmio.data), "little")
        if not mmio.is_write or mmio.phys_addr not in (ANSWER, TRAPPED):
            raise OSError(errno.EPROTO, f"an exit to {mmio.phys_addr:#x}")
        if mmio.phys_addr == TRAPPED:
            raise OSError(errno.EREMOTEIO, f"ESR_EL1 {said:#x}")
        return said
