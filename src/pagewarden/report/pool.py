"""The size of a bounce pool for people and for programs."""

import numpy as np
from rich.console import Console

from pagewarden.report.console import in_bytes
from pagewarden.report.documents.pool import PoolSize
from pagewarden.studies.pool import PoolFit
from pagewarden.workload.dma_mappings import SLOT

SHADES = ".░▒▓█"
WIDTH, ROWS = 64, 8
SHOWN = 100
"""Refusals in the document."""
MOMENTS = 1000


def print_pool(found: PoolFit, out: Console) -> None:
    """The answer, what decides it, and the pool at its worst moment."""
    pool, load = found.pool, found.load
    size = f"{pool.slots:,} slots ({in_bytes(pool.slots * SLOT)})"
    if found.fits:
        out.print(f"Answer: {size} suffice: at most {found.peak:,} were in use ({in_bytes(found.peak * SLOT)}).")
    else:
        out.print(f'Answer: {size} are too few: "swiotlb buffer is full" {len(found.full):,} times.')
    if found.parameter is None:
        out.print("No pool fits: a mapping is larger than any can be.")
    else:
        out.print(f"Smallest that fits: {found.parameter}  ({in_bytes((found.smallest or 0) * SLOT)})")
    out.print(
        f"\n{load.name} ({load.format}): {int(load.made.sum()):,} mappings of {len(load.devices)} "
        f"device{'s' * (len(load.devices) != 1)}, {pool.areas} area{'s' * (pool.areas != 1)}"
    )
    for full in found.full[:3]:
        out.print(f"full: mapping {full.at:,}, {full.bytes:,} bytes, {full.used:,} slots used: {full.why}")
    for note in found.notes:
        out.print(f"note: {note}")
    per = _per(pool.slots)
    when = "peak" if found.fits else "first refusal"
    out.print(f"\nThe pool at its {when}, mapping {found.worst:,}; a character is {per} slot{'s' * (per != 1)}:")
    for row in _picture(found.taken, per):
        out.print(row)


def _picture(taken: "np.typing.NDArray[np.bool_]", per: int) -> list[str]:
    """Rows of characters, darker where more is in use."""
    cells = "".join(SHADES[int(np.ceil(part * (len(SHADES) - 1)))] for part in _filled(taken, per))
    return [cells[at : at + WIDTH] for at in range(0, len(cells), WIDTH)]


def _per(slots: int) -> int:
    """Slots that a character of the picture stands for."""
    return max(slots // (WIDTH * ROWS), 1)


def _filled(taken: "np.typing.NDArray[np.bool_]", per: int) -> list[float]:
    """The share of each `per` slots that is in use."""
    shares: list[float] = taken.reshape(-1, per).mean(axis=1).tolist()
    return shares


def _over_time(found: PoolFit) -> list[tuple[int, int]]:
    """At most `MOMENTS` stretches of the load, and the most slots in use in each."""
    load = found.load
    if not len(found.used):
        return []
    starts = np.arange(0, len(found.used), -(-len(found.used) // MOMENTS))
    before: np.typing.NDArray[np.int64] = np.cumsum(load.opens)[starts] - load.opens[starts]
    return list(zip(before.tolist(), np.maximum.reduceat(found.used, starts).tolist(), strict=True))


def pool_document(found: PoolFit) -> PoolSize:
    """The same for programs."""
    return PoolSize(
        load=found.load.name, format=found.load.format, mappings=int(found.load.made.sum()), slots=found.pool.slots,
        areas=found.pool.areas, peak_slots=found.peak, fits=found.fits, refused=len(found.full),
        full=list(found.full[:SHOWN]),
        smallest_slots=found.smallest, swiotlb=found.parameter, lost_events=found.load.lost, notes=list(found.notes),
        over_time=_over_time(found), worst_moment=_filled(found.taken, _per(found.pool.slots)),
    )  # fmt: skip
