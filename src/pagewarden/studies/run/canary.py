"""A secret of the guest, and the search for it in all that the host could see.

The host is given two halves of it, random both; only the guest puts them together (exclusive or), in pages that it
never shares. Wherever the whole turns up in the host, private memory has leaked. The search itself never holds it.
"""

import errno
import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.guest.assembler import Assembler, Mem
from pagewarden.guest.hypercalls import HYPERCALL, Number
from pagewarden.guest.listing import Code
from pagewarden.guest.pattern import Words
from pagewarden.kernel.mappings import Mapping, mappings
from pagewarden.vocab import PAGE_SIZE
from pagewarden.vocab.compiled import njit

WORDS = 4
"""Words of 8 bytes that the canary has. The pages are full of it."""
PAGES = 4
"""Private pages that hold it; the guest's code that writes it takes another one before them."""
SIZE = (1 + PAGES) * PAGE_SIZE
"""Bytes of guest memory that it needs, code and all."""
CHUNK = 4 << 20
"""Bytes searched at once."""
ANONYMOUS = "anonymous"
"""What a mapping without a name is called here."""
_HOLDERS = ("R8", "R9", "R10", "R11")


@dataclass
class Sight:
    """What was searched. hits: canaries found, by the mapping they were in. cut: why the search ended early, if it did.
    core: bytes of the core dump, None where none was to be had (`core_why`); core_hits: canaries in it; core_cut: why
    it is not whole, if it is not."""

    whose: str
    mappings: int = 0
    bytes: int = 0
    unreadable: int = 0  # bytes that the kernel would not read for anybody
    hits: dict[str, int] = field(default_factory=dict)
    core: int | None = None
    core_hits: int = 0
    core_why: str = ""
    cut: str = ""
    core_cut: str = ""

    @property
    def leaks(self) -> int:
        return sum(self.hits.values()) + self.core_hits

    @property
    def whole(self) -> bool:
        """What was there to be searched was searched to its end: only then no canary found is none there."""
        return not self.cut and not self.core_cut


@dataclass(frozen=True)
class Canary:
    """The two halves."""

    one: Words
    other: Words

    @classmethod
    def random(cls) -> "Canary":
        one, other = (np.frombuffer(os.urandom(8 * WORDS), np.uint64) for _ in range(2))
        return cls(one, other)

    def whole(self) -> bytes:
        """For a searcher who may have it."""
        return (self.one ^ self.other).tobytes()

    def code(self, base: int) -> Code:
        """Machine code, for gpa `base`, that fills the pages behind it and says that it is done."""
        asm = Assembler()
        for register, one, other in zip(_HOLDERS, self.one.tolist(), self.other.tolist(), strict=True):
            asm.op("MOV_R64_IMM64", register, one)
            asm.op("MOV_R64_IMM64", "RAX", other)
            asm.op("XOR_R64_RM64", register, "RAX")
        asm.op("MOV_R64_IMM64", "RDI", base + PAGE_SIZE)
        asm.op("MOV_R64_IMM64", "RCX", PAGES * PAGE_SIZE // (8 * WORDS))
        asm.label("again")
        for word, register in enumerate(_HOLDERS):
            asm.op("MOV_RM64_R64", Mem("RDI", 8 * word), register)
        asm.op("ADD_RM64_IMM8", "RDI", 8 * WORDS)
        asm.op("DEC_RM64", "RCX")
        asm.jump("JNE_REL32_64", "again")
        for register in (*_HOLDERS, "RAX", "RDI", "RSI"):  # the host may look at registers
            asm.op("XOR_R64_RM64", register, register)
        asm.op("MOV_R32_IMM32", "EAX", int(Number.DONE))
        asm.op("MOV_R32_IMM32", "EDX", HYPERCALL)
        asm.op("OUT_DX_EAX", "DX", "EAX")
        asm.op("UD2")
        content, _ = asm.encode(base)
        return Code(base, content, {"canary": base})

    def count(self, data: NDArray[np.uint8]) -> int:
        """How many times it is in these bytes, at any alignment."""
        return int(_search(data, self.one.view(np.uint8), self.other.view(np.uint8)))


def _count(data: Any, one: Any, other: Any) -> int:
    """data ^ one == other, byte by byte from each start."""
    found, length, last = 0, len(one), len(data) - len(one)
    at = 0
    while at <= last:
        k = 0
        while k < length and data[at + k] ^ one[k] == other[k]:
            k += 1
        if k == length:
            found += 1
            at += length
        else:
            at += 1
    return found


_search: Any = njit(nogil=True)(_count)


def search_process(canary: Canary, pid: int | str, whose: str, spare: tuple[tuple[int, int], ...] = ()) -> Sight:
    """Read every readable mapping of a process, except the `spare` ranges of addresses; how far that came."""
    sight = Sight(whose)
    try:
        _search_mappings(canary, pid, spare, sight)
    except OSError as error:
        sight.cut = _CUT.get(error.errno or 0, error.strerror or str(error))
    return sight


_GONE = "the process has ended, or /proc is not to be had"
_FORBIDDEN = "only root, or who has CAP_SYS_PTRACE and CAP_DAC_OVERRIDE, may read the memory of that process"
_CUT = {errno.ESRCH: _GONE, errno.ENOENT: _GONE, errno.EACCES: _FORBIDDEN, errno.EPERM: _FORBIDDEN}


def _search_mappings(canary: Canary, pid: int | str, spare: tuple[tuple[int, int], ...], sight: Sight) -> None:
    """OSError where it cannot go on."""
    buffer = np.empty(CHUNK, np.uint8)
    mine = (buffer.ctypes.data, buffer.ctypes.data + CHUNK)
    with ExitStack() as opened:
        memory = _opened(f"/proc/{pid}/mem", opened)
        pagemap = -1
        with suppress(OSError):  # it only saves the reading of pages that do not exist
            pagemap = _opened(f"/proc/{pid}/pagemap", opened)
        listed = [each for each in mappings(pid) if each.rights[0] == "r" and each.name != "[vsyscall]"]
        if not listed:
            raise ProcessLookupError(errno.ESRCH, "it has no memory any more")
        for mapping in listed:
            sight.mappings, name = sight.mappings + 1, mapping.name or ANONYMOUS
            for part in _without(mapping, (*spare, mine) if pid == "self" else spare):
                for start, stop in _touched(pagemap, *part) if name == ANONYMOUS else [part]:
                    found = _search_range(canary, memory, start, stop, buffer, sight)
                    if found:
                        sight.hits[name] = sight.hits.get(name, 0) + found


def _opened(path: str, opened: ExitStack) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    opened.callback(os.close, fd)
    return fd


def _touched(pagemap: int, start: int, stop: int) -> list[tuple[int, int]]:
    """The runs of pages that exist at all, in memory or in swap: nobody else's bytes are behind the others
    (Documentation/admin-guide/mm/pagemap.rst, bits 63 and 62). All of them where the kernel does not say."""
    first, wanted, data = start // PAGE_SIZE, (stop // PAGE_SIZE - start // PAGE_SIZE) * 8, b""
    with suppress(OSError):
        data = os.pread(pagemap, wanted, first * 8)
    if len(data) < wanted:
        return [(start, stop)]
    entries = np.frombuffer(data, np.uint64)
    there = np.concatenate(([0], (entries >> np.uint64(62)) != 0, [0])).astype(np.int8)
    edges = np.flatnonzero(np.diff(there)).reshape(-1, 2)
    return [(max(start, (first + a) * PAGE_SIZE), (first + b) * PAGE_SIZE) for a, b in edges.tolist()]


def _without(mapping: Mapping, spare: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    """The parts of a mapping outside the ranges."""
    parts, start = [], mapping.start
    for low, high in sorted(spare):
        if high > start and low < mapping.stop:
            parts.append((start, low))
            start = high
    parts.append((start, mapping.stop))
    return [(low, min(high, mapping.stop)) for low, high in parts if low < min(high, mapping.stop)]


def _search_range(canary: Canary, memory: int, start: int, stop: int, buffer: NDArray[np.uint8], sight: Sight) -> int:
    """Chunks overlap by less than a canary. A page that nobody can read is stepped over (EIO: fs/proc/base.c, mem_rw);
    OSError for all else, ESRCH where the process has no memory any more."""
    found, keep = 0, 0
    while start < stop:
        try:
            got = os.preadv(memory, [buffer[keep : keep + min(stop - start, CHUNK - keep)].data], start)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            step = min(PAGE_SIZE - start % PAGE_SIZE, stop - start)
            sight.unreadable, start, keep = sight.unreadable + step, start + step, 0
            continue
        if not got:
            raise ProcessLookupError(errno.ESRCH, "it has no memory any more")
        sight.bytes, start = sight.bytes + got, start + got
        end = keep + got
        found += canary.count(buffer[:end])
        keep = min(8 * WORDS - 1, end)
        buffer[:keep] = buffer[end - keep : end].copy()
    return found
