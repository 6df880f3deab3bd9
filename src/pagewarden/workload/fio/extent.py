"""Where a job's requests begin and how many there are (fio 3.33, filesetup.c, setup_files)."""

from typing import NamedTuple

import numpy as np

from pagewarden.workload.fio.given import SectionOptions
from pagewarden.workload.fio.units import whole
from pagewarden.workload.lines import Int64s

BY_REQUESTS = "(--requests)"
"""How a note ends that says that requests were counted instead of bytes."""
NOMINAL_REGION = 1 << 30
"""Bytes over which such requests are spread."""


class Extent(NamedTuple):
    """Bytes, if nothing else is said; 0 for what is not given."""

    regions: Int64s  # of each file, what lies behind the offset
    held: int  # by each file, filesize
    size: int  # to move in a pass over all of them
    io_size: int  # to move in one loop, whatever a pass has
    number: int  # requests at most in one loop


def start(options: SectionOptions) -> int:
    """Bytes in front of the region."""
    if options.of_device("offset") is None:
        return options.number("offset", 0)
    options.note("an offset in per cent or zones of a device that is not looked at: 0")
    return 0


def extent(options: SectionOptions, files: int, offset: int, unit: int, largest: int, nominal: int) -> Extent:
    """Nominal where only the file itself would tell. unit, largest: bytes of the shortest and longest request."""
    number = options.number("number_ios", 0)
    moved = 0 if options.of_device("io_size") else options.number("io_size", 0)
    share = options.of_device("size")
    size = 0 if share is not None else options.number("size", 0)
    held = _filesize(options) if "filesize" in options.given else 0
    if (size or held) and not options.set("fill_device"):
        regions = _regions(held, offset, share, unit, files) if held else _shared(size, files, unit)
        if not unit <= regions[0]:
            options.given["filesize" if held else "size"].refuse(f"size as at least one request of {unit} bytes")
        total = int(regions.sum())
        return Extent(regions, held, min(size, total) or total, moved, number)
    if not number and not moved:
        number = max(1, nominal // options.number("loops", 1, 1))
        options.note(
            f"[{options.section.name}]: the size is its device's, which is not looked at: "
            f"{nominal:,} requests are taken for its costs by request {BY_REQUESTS}"
        )
    total = max(NOMINAL_REGION, moved, number * largest)
    return Extent(_shared(total, files, unit), 0, total, moved, number)


def _regions(held: int, offset: int, share: int | None, unit: int, files: int) -> Int64s:
    """Of files that hold so much; share: per cent of it."""
    region = held - offset
    if share not in (None, 100):
        region = min(held * share // 100, region)
        region -= region % unit
    return np.full(files, region)


def _shared(size: int, files: int, unit: int) -> Int64s:
    """All files have the same, and the first ones what is left of it in whole units."""
    each, left = divmod(size, files)
    more: Int64s = unit * (np.arange(files) < left // unit)
    return each + more


def _filesize(options: SectionOptions) -> int:
    option = options.given["filesize"]
    low, dash, high = (option.value or "").partition("-")
    if not dash:
        return whole(option, low, options.kb_base, 1)
    options.note("filesize: every file has the middle of the sizes")
    return (whole(option, low, options.kb_base, 1) + whole(option, high, options.kb_base, 1)) // 2
