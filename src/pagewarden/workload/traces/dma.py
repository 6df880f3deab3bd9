"""DMA mappings of a real guest: the kernel's `dma:*` and `swiotlb:*` trace events.

As ftrace's `trace` and `trace_pipe` and `perf script` print them (include/trace/events/dma.h, since Linux 6.12, and
swiotlb.h). A mapping is bounced where `swiotlb_bounced` says so; in a trace without that event, where it lies elsewhere
than its buffer, as it does unless an IOMMU translates.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pagewarden.vocab import Advance, UserMistake
from pagewarden.workload.dma_mappings import DmaMappings

FORMAT = "DMA mappings (ftrace, perf script)"
_SNIFF = re.compile(rb"\d: +(?:dma:|swiotlb:)?(?:dma_(?:un)?map_(?:page|phys|sg|resource)|swiotlb_bounced): ")
_NUMBERS = rb"\{((?:0x[0-9a-f]{1,16}(?:,0x[0-9a-f]{1,16})*)?),?\}"
_SG = re.compile(
    rb"^.*?\[(\d{1,9})\].*?[ \t](\d{1,10})\.(\d+): +(?:dma:)?dma_(un)?map_sg: (\S+) dir=(\S+) (?:nents=\S+ ents=\S+( "
    rb"\[TRUNCATED\])? )?(?:dma_addrs=" + _NUMBERS + rb" sizes=" + _NUMBERS + rb" )?phys_addrs=" + _NUMBERS,
    re.MULTILINE,
)
_ANY_SG = re.compile(rb"^.*[: ]dma_(?:un)?map_sg: ", re.MULTILINE)
EXPECTED = (
    "[CPU] SECONDS: dma_map_page: DEVICE dir=DIRECTION dma_addr=ADDRESS size=BYTES phys_addr=ADDRESS attrs=, or "
    "another of these events, whole"
)
_LETTERS = {b"B": 0, b"T": 1, b"F": 2}
NO_ADDRESS = np.uint64(2**64 - 1)
"""What a mapping that failed is traced with (include/linux/dma-mapping.h, DMA_MAPPING_ERROR)."""


def sniff(head: bytes) -> bool:
    """Does one of the events stand in it?"""
    return _SNIFF.search(head) is not None


@dataclass
class _Found:
    """Rows of dma_lines.COLUMNS, chunk by chunk, and the names of devices by their key."""

    parts: list[NDArray[np.uint64]] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    lost: int = 0
    truncated: int = 0


def read(path: Path, progress: Advance | None = None) -> DmaMappings:
    """The mappings of all devices; UserMistake where the trace holds none."""
    from pagewarden.workload.traces.dma_lines import MAP
    from pagewarden.workload.traces.event_lines import scanned

    found = _Found()
    for data, rows, lost in scanned(path, lambda data: _scan(data, found), EXPECTED, progress):
        keys, where = np.unique(rows[:, 3], return_index=True)
        for key, row in zip(keys.tolist(), rows[where].tolist(), strict=True):
            found.names.setdefault(key, data[row[9] : row[10]].decode(errors="replace"))
        found.lost += lost
        found.parts.append(rows)
    events = np.concatenate(found.parts) if found.parts else np.zeros((0, 11), np.uint64)
    if not (events[:, 0] == MAP).any():
        raise UserMistake(
            f"{path}: no DMA mapping in it; record dma:dma_map_page (dma_map_phys), dma_map_sg, their dma_unmap_* and "
            "swiotlb:swiotlb_bounced (Linux 6.12 and later have them)"
        )
    return _paired(path.name, events, found)


def _scan(data: bytes, found: _Found) -> tuple[NDArray[np.uint64], int]:
    """The events in whole lines in their order, and where the first line begins that is not of its form (-1: none)."""
    from pagewarden.workload.traces.dma_lines import scan

    rows, wrong = scan(data)
    if b"map_sg: " in data:
        lists, cut = _lists(data, found)
        rows, wrong = np.concatenate((rows, lists)), min((at for at in (wrong, cut) if at >= 0), default=-1)
        rows = rows[np.argsort(rows[:, 8], kind="stable")]
    return rows, wrong


def _lists(data: bytes, found: _Found) -> tuple[NDArray[np.uint64], int]:
    """A row for each element of a scatter list, and where the first line begins that has none (-1)."""
    from pagewarden.workload.traces.dma_lines import MAP, UNMAP, name_key

    rows: list[tuple[int, ...]] = []
    lines: set[int] = set()
    for match in _SG.finditer(data):
        lines.add(match.start())
        cpu, seconds, fraction, undone, device, direction, truncated, addresses, sizes, origins = match.groups()
        found.truncated += truncated is not None
        places = _numbers(origins)
        given = (_numbers(addresses) or [0] * len(places), _numbers(sizes) or [0] * len(places), places)
        time = int(seconds) * 10**9 + int(fraction.ljust(9, b"0")[:9])
        head = (UNMAP if undone else MAP, int(cpu), time, int(name_key(np.frombuffer(device, np.uint8))))
        tail = (match.start(), match.start(5), match.end(5))
        rows += [(*head, _LETTERS.get(direction[:1], 3), *one, *tail) for one in zip(*given, strict=False)]
    cut = next((match.start() for match in _ANY_SG.finditer(data) if match.start() not in lines), -1)
    return np.array(rows, np.uint64).reshape(-1, 11), cut


def _numbers(words: bytes | None) -> list[int]:
    return [int(word, 0) for word in words.split(b",")] if words else []


def _paired(name: str, rows: NDArray[np.uint64], found: _Found) -> DmaMappings:
    """Events as mappings: which end belongs to which, and which were bounced."""
    from pagewarden.workload.traces.dma_lines import BOUNCED, MAP, pair

    keys, device = np.unique(rows[:, 3], return_inverse=True)
    maker, bounced = pair(rows[:, 0], rows[:, 1], device, rows[:, 5], rows[:, 7])
    kept = rows[:, 0] != BOUNCED
    place = np.cumsum(kept) - 1
    maker, said, rows, device = maker[kept], bool((~kept).any()), rows[kept], device[kept]
    maker = np.where(maker >= 0, place[np.maximum(maker, 0)], -1)
    opens, owner = rows[:, 0] == MAP, np.where(maker >= 0, maker, np.arange(len(rows)))
    size, origin, address = (np.ascontiguousarray(rows[owner, at]) for at in (6, 7, 5))
    bounced = bounced[kept][owner] if said else (address != origin)
    notes = []
    if said:
        bounced |= ~opens & (maker < 0) & np.isin(device, device[bounced])
    else:
        notes.append("no swiotlb_bounced in the trace: what lies elsewhere than its buffer is taken to be bounced")
    if found.truncated:
        notes.append(f"{found.truncated:,} scatter lists are cut short in the trace: there were more mappings")
    if found.lost:
        notes.append(f"{found.lost:,} events were lost when it was recorded: peaks are too low")
    made = DmaMappings(
        name, FORMAT, opens, maker, size.astype(np.int64), rows[owner, 4].astype(np.uint8), device.astype(np.int16),
        rows[:, 1].astype(np.int16), rows[:, 2].astype(np.int64), bounced, opens & (rows[:, 5] == NO_ADDRESS),
        address, origin, tuple(found.names[key] for key in keys.tolist()), found.lost, tuple(notes),
    )  # fmt: skip
    return made
