"""Each step of a guest program as x86-64 instructions; the functions of the interpreter say the same in Python."""

from collections.abc import Callable

from pagewarden.abi import virtio, virtio_blk
from pagewarden.guest import layout as at
from pagewarden.guest import pattern
from pagewarden.guest.assembler import Mem
from pagewarden.guest.emitter import LENGTH, SECTOR, SLOT, WORD, WRITE, Emitter
from pagewarden.guest.hypercalls import DOORBELL, HYPERCALL, Number
from pagewarden.guest.program import IOPTE_VALID, REQUEST, Act
from pagewarden.vocab import PAGE_SIZE


def _clear(to: Emitter) -> None:
    to.address("RDI", to.layout.shared)
    to.address("RCX", (to.layout.data - to.layout.shared) // 8)
    to.op("XOR_R32_RM32", "EAX", "EAX")
    to.asm.repeat("stosq")


def _expose(to: Emitter) -> None:
    to.address("RDI", to.layout.shared_pages.start)
    to.address("RSI", to.layout.shared_pages.count)
    to.op("XOR_R32_RM32", "R10D", "R10D")
    to.hypercall(Number.SHARE)


def _fill(to: Emitter) -> None:
    with to.each() as skip:
        to.unless_write(skip)
        to.buffer("RDI", to.layout.data)
        to.words()
        to.op("MOV_R64_RM64", "RAX", WORD)
        to.address("RDX", pattern.STEP)
        with to.counted("RCX"):
            to.op("MOV_RM64_R64", Mem("RDI"), "RAX")
            to.op("ADD_R64_RM64", "RAX", "RDX")
            to.op("ADD_RM64_IMM8", "RDI", 8)


def _copy_out(to: Emitter) -> None:
    with to.each() as skip:
        to.unless_write(skip)
        _copy(to, to.layout.data, to.layout.pool)


def _copy_in(to: Emitter) -> None:
    with to.each() as skip:
        to.unless_write(skip, "JNE_REL32_64")
        _copy(to, to.layout.pool, to.layout.data)


def _copy(to: Emitter, source: int, target: int) -> None:
    to.buffer("RSI", source)
    to.buffer("RDI", target)
    to.words()
    to.asm.repeat("movsq")


def _convert(to: Emitter, number: Number) -> None:
    to.address("RDI", to.layout.data // PAGE_SIZE)
    to.batch_pages("ESI")
    to.op("XOR_R32_RM32", "R10D", "R10D")
    to.hypercall(number)


def _map(to: Emitter) -> None:
    """rdi: I/O page-table entry, r8: its place, rax: its value, r10: data page, rsi: ring."""
    to.batch_pages("ECX")
    to.address("RDI", to.layout.iopt)
    to.address("RSI", to.layout.recent)
    to.address("RAX", to.layout.data | IOPTE_VALID)
    to.op("XOR_R32_RM32", "R10D", "R10D")
    with to.counted("RCX"):
        to.op("MOV_RM64_R64", Mem("RDI"), "RAX")
        to.op("MOV_R64_RM64", "R8", "R9")
        to.op("AND_RM64_IMM32", "R8", to.layout.recent_entries - 1)
        to.op("MOV_RM64_R64", Mem("RSI", at.RECENT_HEAD, "R8", 8), "R10")
        to.op("INC_RM64", "R9")
        to.op("INC_RM64", "R10")
        to.op("ADD_RM64_IMM8", "RDI", 8)
        to.op("ADD_RM64_IMM32", "RAX", PAGE_SIZE)
    to.op("MOV_RM64_R64", Mem("RSI"), "R9")


def _unmap(to: Emitter) -> None:
    to.batch_pages("ECX")
    to.address("RDI", to.layout.iopt)
    to.op("XOR_R32_RM32", "EAX", "EAX")
    to.asm.repeat("stosq")


def _post(to: Emitter) -> None:
    copies = Act.COPY_OUT in to.program.steps
    with to.each():
        _header_and_status(to)
        to.buffer("R10", to.layout.pool if copies else to.layout.data)
        _chain(to)
        to.op("MOV_R32_RM32", "EAX", "R13D")
        to.op("AND_RM32_IMM32", "EAX", to.layout.queue - 1)
        to.address("RSI", to.layout.avail + 4)
        to.op("MOV_RM16_R16", Mem("RSI", 0, "RAX", 2), "R8W")
        to.op("INC_RM32", "R13D")
    to.op("MOV_R32_RM32", "EAX", "R13D")  # flags and index in one store: the guest polls, it wants no interrupt
    to.op("SHL_RM32_IMM8", "EAX", 16)
    to.op("OR_RM32_IMM8", "EAX", virtio.VIRTQ_AVAIL_F_NO_INTERRUPT)
    to.address("RSI", to.layout.avail)
    to.op("MOV_RM32_R32", Mem("RSI"), "EAX")


def _header_and_status(to: Emitter) -> None:
    """Leaves r8: slot, rsi: header, rdi: status."""
    to.op("MOVZX_R32_RM16", "R8D", SLOT)
    to.op("MOV_R64_RM64", "RSI", "R8")
    to.op("SHL_RM64_IMM8", "RSI", 4)  # at.HEADER bytes each
    to.address("RAX", to.layout.headers)
    to.op("ADD_R64_RM64", "RSI", "RAX")
    to.op("MOVZX_R32_RM16", "EAX", WRITE)  # VIRTIO_BLK_T_OUT is 1, VIRTIO_BLK_T_IN 0
    to.op("MOV_RM64_R64", Mem("RSI"), "RAX")
    to.op("MOV_R64_RM64", "RAX", SECTOR)
    to.op("MOV_RM64_R64", Mem("RSI", 8), "RAX")
    to.address("RDI", to.layout.status)
    to.op("ADD_R64_RM64", "RDI", "R8")
    to.op("MOV_RM8_IMM8", Mem("RDI"), 0xFF)


def _chain(to: Emitter) -> None:
    """Three descriptors at rdx from rsi header, r10 buffer, rdi status; leaves r8: head."""
    to.op("LEA_R64_M", "R8", Mem("R8", 0, "R8", 2))  # at.CHAIN each
    to.op("MOV_R64_RM64", "RDX", "R8")
    to.op("SHL_RM64_IMM8", "RDX", 4)  # at.DESCRIPTOR bytes each
    to.address("RAX", to.layout.shared)
    to.op("ADD_R64_RM64", "RDX", "RAX")
    to.op("MOV_R64_RM64", "RCX", "R8")
    to.op("SHL_RM64_IMM8", "RCX", 48)  # the head, where a descriptor has its `next`
    to.op("MOV_RM64_R64", Mem("RDX"), "RSI")
    to.address("RAX", at.HEADER | virtio.VIRTQ_DESC_F_NEXT << 32 | 1 << 48)
    to.op("ADD_R64_RM64", "RAX", "RCX")
    to.op("MOV_RM64_R64", Mem("RDX", 8), "RAX")
    to.op("MOV_RM64_R64", Mem("RDX", 16), "R10")
    to.op("MOVZX_R32_RM16", "ESI", WRITE)
    to.op("XOR_RM32_IMM8", "ESI", 1)
    to.op("SHL_RM64_IMM8", "RSI", 33)  # VIRTQ_DESC_F_WRITE unless it is a write
    to.op("ADD_R64_RM64", "RCX", "RSI")
    to.address("RAX", virtio.VIRTQ_DESC_F_NEXT << 32 | 2 << 48)
    to.op("ADD_R64_RM64", "RAX", "RCX")
    to.op("MOV_R32_RM32", "ESI", LENGTH)
    to.op("ADD_R64_RM64", "RAX", "RSI")
    to.op("MOV_RM64_R64", Mem("RDX", 24), "RAX")
    to.op("MOV_RM64_R64", Mem("RDX", 32), "RDI")
    to.address("RAX", 1 | virtio.VIRTQ_DESC_F_WRITE << 32)
    to.op("MOV_RM64_R64", Mem("RDX", 40), "RAX")


def _wait(to: Emitter) -> None:
    again, done = to.asm.new_label(), to.asm.new_label()
    to.address("RSI", to.layout.used + 2)
    to.asm.label(again)
    to.op("CMP_RM16_R16", Mem("RSI"), "R13W")
    to.jump("JE_REL32_64", done)
    to.op("PAUSE")
    to.jump("JMP_REL32_64", again)
    to.asm.label(done)


def _check(to: Emitter) -> None:
    failed, first = to.asm.new_label(), to.asm.new_label()
    with to.each() as good:
        to.op("MOVZX_R32_RM16", "EAX", SLOT)
        to.address("RSI", to.layout.status)
        to.op("CMP_RM8_IMM8", Mem("RSI", 0, "RAX"), virtio_blk.VIRTIO_BLK_S_OK)
        to.jump("JNE_REL32_64", failed)
        to.unless_write(good, "JNE_REL32_64")
        _digest(to)
        to.op("CMP_R64_RM64", "RAX", WORD)
        to.jump("JE_REL32_64", good)
        to.asm.label(failed)
        to.op("TEST_RM64_R64", "R14", "R14")
        to.jump("JNE_REL32_64", first)
        to.op("MOV_R64_RM64", "R15", "R11")
        to.asm.label(first)
        to.op("INC_RM64", "R14")


def _digest(to: Emitter) -> None:
    """rax: hash of the request's private buffer."""
    to.buffer("RSI", to.layout.data)
    to.words()
    to.address("RDX", pattern.FACTOR)
    to.op("XOR_R32_RM32", "EAX", "EAX")
    with to.counted("RCX"):
        to.op("ADD_R64_RM64", "RAX", Mem("RSI"))
        to.op("IMUL_R64_RM64", "RAX", "RDX")
        to.op("ADD_RM64_IMM8", "RSI", 8)


def _finish(to: Emitter) -> None:
    to.address("RDI", len(to.program.requests))
    to.op("MOV_R64_RM64", "RSI", "R14")
    to.op("MOV_R64_RM64", "R10", "R15")
    to.address("RAX", to.layout.table)
    to.op("SUB_R64_RM64", "R10", "RAX")
    to.op("SHR_RM64_IMM8", "R10", REQUEST.itemsize.bit_length() - 1)
    to.hypercall(Number.DONE)
    to.op("UD2")  # nobody lets it run on


def give_up(to: Emitter) -> None:
    """A hypercall, number in r8, was answered with rax."""
    to.op("MOV_R64_RM64", "R10", "RDI")
    to.op("MOV_R64_RM64", "RDI", "R8")
    to.op("MOV_R64_RM64", "RSI", "RAX")
    to.out(HYPERCALL, int(Number.ABORT))
    to.op("UD2")


EMIT: dict[Act, Callable[[Emitter], None]] = {
    Act.CLEAR: _clear,
    Act.EXPOSE: _expose,
    Act.FILL: _fill,
    Act.COPY_OUT: _copy_out,
    Act.COPY_IN: _copy_in,
    Act.SHARE: lambda to: _convert(to, Number.SHARE),
    Act.UNSHARE: lambda to: _convert(to, Number.UNSHARE),
    Act.MAP: _map,
    Act.UNMAP: _unmap,
    Act.POST: _post,
    Act.KICK: lambda to: to.out(DOORBELL, to.program.queue),
    Act.WAIT: _wait,
    Act.CHECK: _check,
    Act.FINISH: _finish,
}
