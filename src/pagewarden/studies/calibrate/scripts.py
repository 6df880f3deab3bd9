"""What calibration times, and what each price is made from: the scripts, and the formulas over their samples."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pagewarden.studies.calibrate.primitives import NOTHING_ROW, Primitive, PrimitiveScript, call
from pagewarden.studies.calibrate.sampling import Array, Spread, StraightLine
from pagewarden.studies.calibrate.timed_host import TimedHost
from pagewarden.vocab import PAGE_SIZE

SIZES = (1, 4, 16, 64, 256)
"""Pages: 4 KiB to 1 MiB in powers of 4."""
LONGEST = SIZES[-1] * PAGE_SIZE
LEAST_NS = 0.01
"""What is reported where the clock cannot tell a difference from nothing: a price is above 0."""


@dataclass(frozen=True, slots=True)
class PriceFound:
    """A price: its spread in ns (or ns a byte), and in words what was timed."""

    spread: Spread
    what: str
    bend: float = 0  # of a price from a straight line: how far its medians lie from that, as a share


def scripts(host: TimedHost) -> dict[str, PrimitiveScript]:
    """Everything that is timed, by name; NAME/PAGES where it is timed for several sizes."""
    rows: dict[str, list[Primitive]] = {
        "clock": [NOTHING_ROW],
        "syscall": [call("getppid")],
        "fault": [host.map(1), host.touch_mapping(1), host.unmap(1)],
        "map": [host.map(1), host.unmap(1)],
        "tell": host.tell(),
        "zero": [host.zero(PAGE_SIZE)],
        "cold": [host.cold_copy(PAGE_SIZE)],
        "entry": [host.guest_copy(8)],
    }
    for pages in SIZES:
        rows[f"convert/{pages}"] = [host.share(pages), host.unshare(pages), host.unshare(pages)]
        rows[f"mapping/{pages}"] = [
            host.map(pages),
            host.write_mapping(pages),
            host.write_mapping(pages),
            host.unmap(pages),
        ]
        rows[f"file/{pages}"] = [host.read_file(pages), host.write_file(pages)]
        rows[f"copy/{pages}"] = [host.guest_copy(pages * PAGE_SIZE)]
        rows[f"splice/{pages}"] = [*host.splice_in(pages), *host.splice_out(pages)]
        rows[f"allocate/{pages}"] = [host.punch(pages), host.allocate(pages)]
    return {name: PrimitiveScript(made) for name, made in rows.items()}


class Samples:
    """The samples by script and row, without the clock's own time."""

    def __init__(self, taken: Mapping[str, Array]) -> None:
        self._taken = taken
        self._clock = float(np.median(taken["clock"][0]))

    def row(self, name: str, row: int = 0) -> Array:
        net: Array = self._taken[name][row] - self._clock
        return net

    def sizes(self, name: str, row: int = 0) -> Array:
        """float64[sizes, samples]."""
        return np.stack([self.row(f"{name}/{pages}", row) for pages in SIZES])


def found(taken: Mapping[str, Array]) -> dict[str, PriceFound]:
    """The prices of a profile that need no CPU, from the samples of `scripts`."""
    samples = Samples(taken)
    result = _single(samples)
    result |= _conversions(samples)
    result |= _mappings(samples, result["tlbi"].spread.median)
    result |= _files(samples)
    result |= _copies(samples)
    return result


def positive(spread: Spread, units: int = 1) -> Spread:
    """Not under what the clock can tell from nothing, for so many units together."""
    return spread.not_under(LEAST_NS / units)


def _price(spread: Spread, what: str, bend: float = 0) -> PriceFound:
    return PriceFound(positive(spread), what, bend)


def _single(samples: Samples) -> dict[str, PriceFound]:
    line = StraightLine.through(SIZES, samples.sizes("allocate", 1))
    telling = Spread.of(samples.row("tell", 0) + samples.row("tell", 1))
    entry = Spread.of(samples.row("entry"))
    return {
        "access_syscalls": _price(Spread.of(samples.row("syscall")), "getppid(2), the entry alone"),
        "faults": _price(Spread.of(samples.row("fault", 1)), "first load from a fresh mapping of a page of a file"),
        "scrubs": _price(Spread.of(samples.row("zero")), "memset of a page, warm"),
        "notifications": _price(telling, "an eventfd written and read by one thread; nobody is woken"),
        "allocations": _price(line.unit, "fallocate of a memory file, its rise a page", line.bend),
        "io_pte_set": _price(entry.times(2), "two stores of 8 bytes: the entry, and its place in the ring"),
        "io_pte_clear": _price(entry, "a store of 8 bytes"),
    }


def _conversions(samples: Samples) -> dict[str, PriceFound]:
    nothing = Spread.of(np.concatenate([samples.row(f"convert/{pages}", 2) for pages in SIZES]))
    opening = StraightLine.through(SIZES, samples.sizes("convert", 0))
    flushing = StraightLine.through(SIZES, samples.sizes("convert", 1) - samples.sizes("convert", 2))
    closed = "MADV_DONTNEED of open pages less that of closed ones"
    return {
        "hyp_pte_set": _price(opening.unit, "UFFDIO_CONTINUE, its rise a page", opening.bend),
        "hyp_pte_set_range": _price(opening.fixed, "UFFDIO_CONTINUE, its fixed part", opening.bend),
        "hyp_pte_clear": _price(flushing.unit, f"{closed}, its rise a page", flushing.bend),
        "hyp_pte_clear_range": _price(nothing, "MADV_DONTNEED of pages that are closed already"),
        "tlbi": _price(flushing.fixed, f"{closed}, the fixed part", flushing.bend),
    }


def _mappings(samples: Samples, tlbi: float) -> dict[str, PriceFound]:
    unused = float(np.median(samples.row("map", 1)))
    using = StraightLine.through(SIZES, samples.sizes("mapping", 1) - samples.sizes("mapping", 2))
    ending = StraightLine.through(SIZES, samples.sizes("mapping", 3) - unused - tlbi)
    mapping = StraightLine.through(SIZES, samples.sizes("mapping", 0))
    first = "the first pwrite(2) from a fresh mapping less the second"
    last = "munmap of a mapping that was used less that of an unused one and a flush"
    return {
        "host_pte_set": _price(using.unit, f"{first}, its rise a page", using.bend),
        "host_pte_set_range": _price(using.fixed, f"{first}, the fixed part: a fault and a page table", using.bend),
        "host_pte_clear": _price(ending.unit, f"{last}, its rise a page", ending.bend),
        "host_pte_clear_range": _price(ending.fixed, f"{last}, the fixed part", ending.bend),
        "syscall_mmap": _price(
            mapping.fixed,
            "mmap(2) of the memory's file, after one that was used and unmapped, its fixed part",
            mapping.bend,
        ),
        "syscall_munmap": _price(Spread.of(samples.row("map", 1)), "munmap(2) of a mapping that nobody used"),
    }


def _files(samples: Samples) -> dict[str, PriceFound]:
    reading, writing = (StraightLine.through(SIZES, samples.sizes("file", row)) for row in (0, 1))
    splicing = StraightLine.through(SIZES, samples.sizes("splice", 1))
    pipe = "splice(2) from the memory's file into a pipe"
    return {
        "syscall_pread": _price(reading.fixed, "pread(2) of the memory's file, its fixed part", reading.bend),
        "syscall_pwrite": _price(writing.fixed, "pwrite(2) to the memory's file, its fixed part", writing.bend),
        "syscall_splice": _price(splicing.fixed, f"{pipe}, its fixed part", splicing.bend),
        "pins": _price(splicing.unit, f"{pipe}, its rise a page", splicing.bend),
    }


def _copies(samples: Samples) -> dict[str, PriceFound]:
    line = StraightLine.through([pages * PAGE_SIZE for pages in SIZES], samples.sizes("copy"))
    each = _price(line.fixed, "memcpy, warm, its fixed part", line.bend)
    cold = positive(Spread.of(samples.row("cold") / PAGE_SIZE), PAGE_SIZE)
    warm, what = positive(line.unit, LONGEST), "memcpy between buffers that were just used, its rise a byte"
    return {
        "guest_copies": each,
        "host_copies": each,
        "hyp_copies": each,
        "copy_warm": PriceFound(warm, what, line.bend),
        "copy_cold": PriceFound(cold, "memcpy of 4 KiB pieces out of and into 64 MiB"),
    }
