"""Descriptor chains taken apart: from a copy of the ring to a flat list of descriptors. Compiled, plain loops only.

Everything here reads a copy that the device made once, so the driver cannot change what was checked. A batch is as many
chains as BATCH and DESCRIPTORS allow; a chain always fits. Every function returns a Verdict as a plain tuple.
"""

from typing import Any, NamedTuple

from pagewarden.abi.virtio import VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT
from pagewarden.virtio import faults
from pagewarden.vocab.compiled import njit

BATCH = 256
"""Most requests of a batch."""
DESCRIPTORS = 4096
"""Most descriptors of a batch, those of indirect tables included."""
SIZE_MAX = 1024
"""Largest queue of this device, entries: a chain may be as long as the queue, and one readv call takes 1024 parts."""
SIZE_MIN = 4
"""Smallest queue: header, data and status are three descriptors, and a size is a power of two."""
ADDR, LEN, FLAGS = range(3)
"""Rows of a flat list of descriptors, int64 of shape (3, DESCRIPTORS)."""


class Verdict(NamedTuple):
    """How a check went. chains: taken into the batch, from the first on, unless there is a fault."""

    chains: int
    fault: int  # faults.NONE, or what is wrong ...
    chain: int  # ... with which chain of the batch
    detail: int  # index, gpa or size, as the fault has it
    items: int  # of the list that was made


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


def _follow(
    words: Any, head: int, memory: int, longest: int, seen: Any, turn: int, flat: Any, n: int
) -> tuple[int, int, int, int]:
    """One chain into `flat` from n on: fault, its detail, the new n, and the descriptors that it will have at last."""
    size, i, weight = len(seen), head, 0
    while True:
        if seen[i] == turn:
            return faults.TWICE, i, n, weight
        seen[i] = turn
        addr, rest = words[2 * i], words[2 * i + 1]
        length, flags = rest & 0xFFFFFFFF, (rest >> 32) & 0xFFFF
        fault = misplaced(addr, length, memory)
        if fault:
            return fault, addr, n, weight
        weight += 1
        if flags & VIRTQ_DESC_F_INDIRECT:
            fault = table_fault(flags, length, longest)
            if fault:
                return fault, length if fault == faults.INDIRECT_SIZE else i, n, weight
            weight += (length >> 4) - 1
            if weight > longest:
                return faults.CHAIN_LONG, weight, n, weight
        if n == DESCRIPTORS:
            return faults.NONE, 0, n, DESCRIPTORS + 1
        flat[ADDR, n], flat[LEN, n], flat[FLAGS, n] = addr, length, flags
        n += 1
        if not flags & VIRTQ_DESC_F_NEXT:
            return faults.NONE, 0, n, weight
        i = (rest >> 48) & 0xFFFF
        if i >= size:
            return faults.NEXT_RANGE, i, n, weight


follow: Any = njit(_follow)


def _flatten(
    words: Any,
    ring: Any,
    first: int,
    count: int,
    memory: int,
    longest: int,
    seen: Any,
    turn: int,
    flat: Any,
    starts: Any,
    heads: Any,
    tables: Any,
) -> tuple[int, int, int, int, int]:
    """Chains first .. first + count - 1 of the avail ring, direct descriptors only; items: indirect tables met.

    words: int64 (2 * size), the descriptor table; ring: uint16 (size); seen: int64 (size), where `turn` marks the
    descriptors of this batch; starts: int64 (BATCH + 1), where each chain begins in `flat`; heads: int64 (BATCH);
    tables: int64 (2, DESCRIPTORS), gpa and bytes of each indirect table, still an entry of `flat` itself.
    longest: descriptors that a chain with an indirect table may have, 0 where there are none.
    """
    size = len(ring)
    n = total = met = 0
    starts[0] = 0
    for chain in range(min(count, BATCH)):
        head = heads[chain] = int(ring[(first + chain) & (size - 1)])
        if head >= size:
            return chain, faults.HEAD_RANGE, chain, head, met
        fault, detail, n, weight = follow(words, head, memory, longest, seen, turn, flat, n)
        if fault:
            return chain, fault, chain, detail, met
        total += weight
        if total > DESCRIPTORS:
            return chain, faults.NONE, 0, 0, met
        starts[chain + 1] = n
        if flat[FLAGS, n - 1] & VIRTQ_DESC_F_INDIRECT:
            tables[0, met], tables[1, met] = flat[ADDR, n - 1], flat[LEN, n - 1]
            met += 1
    return min(count, BATCH), faults.NONE, 0, 0, met


def _expand(
    flat: Any, starts: Any, chains: int, words: Any, memory: int, wide: Any, begins: Any
) -> tuple[int, int, int, int, int]:
    """The same chains with each indirect table in its place, from flat, starts into wide, begins; items: descriptors.

    words: int64, the tables one after the other as `_flatten` listed them.
    """
    n = at = 0
    begins[0] = 0
    for chain in range(chains):
        for k in range(starts[chain], starts[chain + 1]):
            if not flat[FLAGS, k] & VIRTQ_DESC_F_INDIRECT:
                wide[ADDR, n], wide[LEN, n], wide[FLAGS, n] = flat[ADDR, k], flat[LEN, k], flat[FLAGS, k]
                n += 1
                continue
            entries, i = flat[LEN, k] >> 4, 0
            for step in range(entries + 1):
                if step == entries:
                    return chain, faults.TWICE, chain, i, n
                addr, rest = words[at + 2 * i], words[at + 2 * i + 1]
                length, flags = rest & 0xFFFFFFFF, (rest >> 32) & 0xFFFF
                if flags & VIRTQ_DESC_F_INDIRECT:
                    return chain, faults.NESTED, chain, i, n
                fault = misplaced(addr, length, memory)
                if fault:
                    return chain, fault, chain, addr, n
                wide[ADDR, n], wide[LEN, n], wide[FLAGS, n] = addr, length, flags
                n += 1
                if not flags & VIRTQ_DESC_F_NEXT:
                    break
                i = (rest >> 48) & 0xFFFF
                if i >= entries:
                    return chain, faults.NEXT_RANGE, chain, i, n
            at += 2 * entries
        begins[chain + 1] = n
    return chains, faults.NONE, 0, 0, n


LIST, PLACES = "i8[::1]", "i8[:,::1]"
VERDICT = "UniTuple(i8,5)"
"""Types of compiled functions are given, so that they are ready when the module is imported: a device may have lost its
right to open files by the time that it needs them."""
flatten: Any = njit(f"{VERDICT}({LIST},u2[::1],i8,i8,i8,i8,{LIST},i8,{PLACES},{LIST},{LIST},{PLACES})")(_flatten)
expand: Any = njit(f"{VERDICT}({PLACES},{LIST},i8,{LIST},i8,{PLACES},{LIST})")(_expand)
