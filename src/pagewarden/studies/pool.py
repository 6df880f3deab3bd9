"""How big the bounce pool must be: the mappings of a guest, or those of a workload, through the kernel's allocator."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pagewarden.sim.swiotlb import DEFAULT_SLOTS, SEGMENT, Pool, Replay, granted, replay
from pagewarden.vocab import UserMistake
from pagewarden.workload.dma_mappings import SLOT, DmaMappings

LARGEST = 1 << 23
"""Slots beyond which no smaller pool is looked for: 16 GiB."""


ENCRYPTED = "encrypted x86 guests have 6 % of their memory by default, 64 MiB to 1 GiB: --slots N"
"""arch/x86/mm/mem_encrypt.c, mem_encrypt_setup_arch: SEV and TDX guests whose command line does not say swiotlb=."""


@dataclass(frozen=True, slots=True)
class FullPool:
    """A mapping that found no room. at: which mapping of the load, from 0; seconds: since it began; bytes; used:
    slots in use, as the kernel's message says."""

    at: int
    seconds: float
    bytes: int
    used: int
    why: str


@dataclass(frozen=True, slots=True, eq=False)
class PoolFit:
    """Does a load fit a pool. taken: which slots are in use at the worst moment; smallest: slots, None if none does."""

    load: DmaMappings
    pool: Pool
    peak: int
    full: tuple[FullPool, ...]
    smallest: int | None
    taken: NDArray[np.bool_]
    worst: int  # which mapping of the load, from 0
    notes: tuple[str, ...]
    used: NDArray[np.int64]  # slots in use at each opening and closing of the load

    @property
    def fits(self) -> bool:
        """Whether every mapping found room."""
        return not self.full

    @property
    def parameter(self) -> str | None:
        """What to put on the kernel's command line."""
        return None if self.smallest is None else f"swiotlb={self.smallest},{self.pool.areas},force"


def pool_fit(
    load: DmaMappings, slots: int | None = None, areas: int | None = None, align: int = 1, base: int | None = None
) -> PoolFit:
    """Replay a load in a pool of so many slots and areas (the kernel's default, and the load's CPUs).

    align: min_align_mask + 1 of its device (4096 for NVMe). base: the address at which the pool begins, where the load
    was recorded with this pool: then even the first search begins where the kernel's did. UserMistake if no mapping is
    there, or lies in it.
    """
    if align & (align - 1) or not 1 <= align <= SLOT * SEGMENT:
        raise UserMistake(f"--align {align}: expected a power of two up to {SLOT * SEGMENT}")
    load, notes = _bouncing(load)
    cpus = int(load.cpu.max(initial=0)) + 1
    pool = replace(granted(slots or DEFAULT_SLOTS, areas or cpus), align=align)
    if base is not None:
        notes += _outside(load, pool, base)
    if slots is None:
        notes.append(ENCRYPTED)
    if areas is None:
        notes.append(f"areas by the CPUs (or jobs) seen, {cpus}; a guest has one for each CPU it may have: --areas N")
    if slots and pool.slots != slots:
        notes.append(f"swiotlb={slots},{areas or cpus} gives {pool.slots:,} slots: the kernel rounds up")
    found = replay(load, pool, base)
    peak = int(found.used.max(initial=0))
    if failed := int(load.failed.sum()):
        notes.append(f"{failed:,} mappings failed when it was recorded: what they would have held is not in the trace")
    if load.unmatched and base is None:
        notes.append(f"{load.unmatched:,} mappings were made before the trace began: peaks are too low by those")
    if unended := load.part(load.bounced).unended:
        notes.append(f"{unended:,} mappings never ended in the trace: their slots are held to its end")
    refused = found.refused
    worst = int(refused[0]) if len(refused) else int(found.used.argmax())
    taken = replay(load, pool, base, worst + (not len(refused))).taken
    return PoolFit(
        load, pool, peak, tuple(_full(load, pool, found, int(at)) for at in refused),
        _smallest(load, pool, peak), taken, int(load.opens[:worst].sum()), tuple(notes),
        found.used,
    )  # fmt: skip


def _outside(load: DmaMappings, pool: Pool, base: int) -> list[str]:
    """A note of the bounced mappings that do not lie in the pool that begins there; UserMistake if none does."""
    address = load.address[load.bounced & load.made]
    inside = int(((address >= base) & (address < base + pool.slots * SLOT)).sum())
    if not inside:
        where = f"; they lie from {int(address.min()):#x} to {int(address.max()):#x}" if len(address) else ""
        raise UserMistake(
            f"--base {base:#x}: no mapping of {load.name} lies in the {pool.slots:,} slots from there{where}: give the "
            "address of the line `software IO TLB: mapped [mem ...]` in the guest's log, or leave --base out"
        )
    outside = len(address) - inside
    return [f"{outside:,} mappings lie outside of the pool from {base:#x}"] if outside else []


def _bouncing(load: DmaMappings) -> tuple[DmaMappings, list[str]]:
    """What goes through a pool: what did when it was recorded, or all of it where nothing did."""
    notes = list(load.notes)
    if not len(load):
        raise UserMistake(f"{load.name}: no mapping in it")
    if not load.bounced.any():
        notes.append("nothing was bounced when it was recorded: the answer is for all of it bounced (swiotlb=force)")
        return replace(load, bounced=np.ones(len(load), np.bool_)), notes
    return load, notes


def _full(load: DmaMappings, pool: Pool, found: Replay, at: int) -> FullPool:
    """Why there was no room, as far as numbers tell."""
    size, used = int(load.size[at]), int(found.used[at])
    need = -(-size // SLOT)
    if need > SEGMENT:
        why = f"no mapping is larger than {SEGMENT * SLOT >> 10} KiB"
    elif need > pool.slots - used:
        why = "too few slots are free"
    elif pool.areas > 1 and need > (pool.slots - used) // pool.areas:
        why = "no area has so many free slots together"
    else:
        why = "free slots, but no run of them is long enough"
    seconds = float(load.time_ns[at] - load.time_ns[0]) / 1e9
    return FullPool(int(load.opens[:at].sum()), seconds, size, used, why)


def _smallest(load: DmaMappings, pool: Pool, peak: int) -> int | None:
    """The fewest slots that the kernel grants and in which nothing is refused."""
    asked = granted(max(peak, 1), pool.areas).slots
    while asked <= LARGEST:
        if not len(replay(load, replace(pool, slots=asked)).refused):
            return asked
        asked *= 2
    return None
