"""Descriptor chains taken apart: from the ring to a flat list of descriptors. Compiled, plain loops only.

The driver may write the ring meanwhile: each of its words is read once, and judged as read. A batch is as many chains
as BATCH and DESCRIPTORS allow; a chain always fits. x: a virtio.work.WORK; what is wrong is left in x.fault, x.chain
and x.detail, and x.chains says how many chains were taken before it.
"""

from typing import Any

from numba import types

from pagewarden.abi.virtio import VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT
from pagewarden.kernel.guarded import load16, load64
from pagewarden.virtio import faults
from pagewarden.virtio.ring import RING
from pagewarden.virtio.work import ADDR, BATCH, DESCRIPTORS, FLAGS, LEN, RECORD
from pagewarden.vocab.compiled import njit

SIZE_MIN = 4
"""Smallest queue: header, data and status are three descriptors, and a size is a power of two."""


def _bad(x: Any, chain: int, fault: int, detail: int) -> int:
    """Leave what is wrong with a chain; -1."""
    x.chains = x.chain = chain
    x.fault, x.detail = fault, detail
    return -1


bad: Any = njit(_bad)


def _misplaced(addr: int, length: int, memory: int) -> int:
    if length == 0:
        return faults.EMPTY
    if addr < 0 or addr > memory - length:  # a gpa of 2^63 and more arrives as a negative number
        return faults.OUTSIDE
    return faults.NONE


misplaced: Any = njit(_misplaced)


def _table_fault(flags: int, length: int, longest: int) -> int:
    """What is wrong with an indirect descriptor that points to so many bytes."""
    if not longest:
        return faults.INDIRECT_OFF
    if flags & VIRTQ_DESC_F_NEXT:
        return faults.INDIRECT_NEXT
    return faults.INDIRECT_SIZE if length & 15 else faults.NONE


table_fault: Any = njit(_table_fault)


def _follow(x: Any, chain: int, n: int) -> tuple[int, int]:
    """One chain into x.flat from n on: the new n, or -1, and the descriptors that it will have at last."""
    flat, i, weight = x.flat[0], x.heads[chain], 0
    while True:
        if x.seen[i] == x.turn:
            return bad(x, chain, faults.TWICE, i), 0
        x.seen[i] = x.turn
        addr, rest = load64(x.desc + 16 * i), load64(x.desc + 16 * i + 8)
        length, flags = rest & 0xFFFFFFFF, (rest >> 32) & 0xFFFF
        fault = misplaced(addr, length, x.memory)
        if fault:
            return bad(x, chain, fault, addr), 0
        weight += 1
        if flags & VIRTQ_DESC_F_INDIRECT:
            fault = table_fault(flags, length, x.longest)
            if fault:
                return bad(x, chain, fault, length if fault == faults.INDIRECT_SIZE else i), 0
            weight += (length >> 4) - 1
            if weight > x.longest:
                return bad(x, chain, faults.CHAIN_LONG, weight), 0
        if n == DESCRIPTORS:
            return n, DESCRIPTORS + 1
        flat[ADDR, n], flat[LEN, n], flat[FLAGS, n] = addr, length, flags
        n += 1
        if not flags & VIRTQ_DESC_F_NEXT:
            return n, weight
        i = (rest >> 48) & 0xFFFF
        if i >= x.size:
            return bad(x, chain, faults.NEXT_RANGE, i), 0


follow: Any = njit(_follow)


def _flatten(x: Any, waiting: int) -> int:
    """The first of the chains that wait, direct descriptors only; how many indirect tables were met, or -1."""
    n = total = met = 0
    x.turn += 1
    x.wide = x.bounds[0, 0] = 0
    x.fault, x.chains = faults.NONE, 0
    for chain in range(min(waiting, BATCH)):
        head = load16(x.avail + RING + 2 * ((x.done + chain) & (x.size - 1)))
        x.heads[chain] = head
        if head >= x.size:
            return int(bad(x, chain, faults.HEAD_RANGE, head))
        n, weight = follow(x, chain, n)
        if n < 0:
            return -1
        total += weight
        if total > DESCRIPTORS:
            break
        x.chains = chain + 1
        x.bounds[0, chain + 1] = n
        if x.flat[0, FLAGS, n - 1] & VIRTQ_DESC_F_INDIRECT:
            x.tables[0, met], x.tables[1, met] = x.flat[0, ADDR, n - 1], x.flat[0, LEN, n - 1]
            met += 1
    return met


def _expand(x: Any) -> int:
    """The same chains with each indirect table in its place; 0, or -1. The tables, one after the other as `_flatten`
    listed them, lie at x.words_at."""
    flat, starts, wide, begins = x.flat[0], x.bounds[0], x.flat[1], x.bounds[1]
    n, at = 0, x.words_at
    begins[0] = 0
    for chain in range(x.chains):
        for k in range(starts[chain], starts[chain + 1]):
            if not flat[FLAGS, k] & VIRTQ_DESC_F_INDIRECT:
                wide[ADDR, n], wide[LEN, n], wide[FLAGS, n] = flat[ADDR, k], flat[LEN, k], flat[FLAGS, k]
                n += 1
                continue
            entries, i = flat[LEN, k] >> 4, 0
            for step in range(entries + 1):
                if step == entries:
                    return int(bad(x, chain, faults.TWICE, i))
                addr, rest = load64(at + 16 * i), load64(at + 16 * i + 8)
                length, flags = rest & 0xFFFFFFFF, (rest >> 32) & 0xFFFF
                if flags & VIRTQ_DESC_F_INDIRECT:
                    return int(bad(x, chain, faults.NESTED, i))
                fault = misplaced(addr, length, x.memory)
                if fault:
                    return int(bad(x, chain, fault, addr))
                wide[ADDR, n], wide[LEN, n], wide[FLAGS, n] = addr, length, flags
                n += 1
                if not flags & VIRTQ_DESC_F_NEXT:
                    break
                i = (rest >> 48) & 0xFFFF
                if i >= entries:
                    return int(bad(x, chain, faults.NEXT_RANGE, i))
            at += 16 * entries
        begins[chain + 1] = n
    x.wide = 1
    return 0


flatten: Any = njit(_flatten)
expand: Any = njit(_expand)


def _flatten_of(work: Any, waiting: int) -> int:
    return int(flatten(work[0], waiting))


def _expand_of(work: Any) -> int:
    return int(expand(work[0]))


flatten_of: Any = njit(types.int64(RECORD, types.int64))(_flatten_of)
expand_of: Any = njit(types.int64(RECORD))(_expand_of)
