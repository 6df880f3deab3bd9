"""Whole requests of a guest on a CPU, with the rings, the device and the host half of `run`: of a design, or such in
which one part alone is a design's and the rest is what all of them share. What a part takes longer than a request with
none is its price as a request pays it: with the cold lines and translations that it leaves to the rest.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import partial
from resource import RUSAGE_THREAD, getrusage

import numpy as np

from pagewarden.abi.virtio_blk import SECTOR
from pagewarden.guest.layout import Layout
from pagewarden.guest.program import Act, Program, program
from pagewarden.kernel.door import memfd
from pagewarden.studies.calibrate.sampling import Array, StraightLine
from pagewarden.studies.calibrate.scripts import LONGEST, SIZES, PriceFound, positive
from pagewarden.studies.run.disk import DiskFile, Extents
from pagewarden.studies.run.host import RequestPath
from pagewarden.studies.run.host_half import Done, HostHalf, Request
from pagewarden.studies.run.machine import Meter, machine_for
from pagewarden.studies.run.plan import RunPlan
from pagewarden.vocab import PAGE_SIZE, PageRange, Unavailable

SKIPPED = 4
"""Requests at the start of a run that are not counted: first touches of pages, the emulator's translations."""
ENOUGH = 2
"""Undisturbed requests of a run that count alone."""


class Open(Layout):
    """A guest whose buffers are shared from the start, with its rings."""

    @property
    def shared_pages(self) -> PageRange:
        return PageRange(self.shared // PAGE_SIZE, self.end // PAGE_SIZE)


@dataclass(frozen=True, slots=True, eq=False)
class Writes(Program):
    """A guest that leaves out some of what its design does."""

    acts: tuple[Act, ...] = ()

    @property
    def steps(self) -> tuple[Act, ...]:
        return self.acts


def writes(design: str, length: int, count: int, fills: bool = True) -> Writes:
    """A guest that writes `count` times so many bytes to the start of the disk, one request a doorbell. design: "" for
    one that only rings, and neither copies nor shares as it goes: what all designs have in common. fills: each time
    with new data; an emulated CPU takes longer for that than for all the rest, and what a design adds drowns in its
    scatter."""
    disk = np.zeros(length // SECTOR, np.uint64)
    lengths = np.full(count, length)
    made = program(design or "window", np.ones(count, bool), np.zeros(count, np.int64), lengths, disk)
    left = () if design else (Act.SHARE, Act.UNSHARE)
    acts = tuple(act for act in made.steps if act not in left and (fills or act is not Act.FILL))
    layout = made.layout if design else Open(*astuple(made.layout))
    return Writes(made.design, made.requests, made.batch, layout, made.queue, acts)


@contextmanager
def disk_for(length: int) -> Iterator[DiskFile]:
    """A memory file."""
    with memfd("pagewarden-disk", 0) as file:
        os.pwrite(file.fd, bytes(length), 0)
        yield DiskFile(file.fd, Extents.of(np.zeros(1, np.int64), np.full(1, length)), False, "a memory file")


class Stamps(Meter):
    """run.machine.Meter: notes when each request comes to the host, and changes nothing else.

    own: bytes that the host writes to the disk instead of the guest's; none leaves it its own way.
    """

    def __init__(self, own: int = 0) -> None:
        self._own = own
        self.times: list[tuple[int, int]] = []  # ns, and how often the kernel had taken the CPU from this thread

    def device(self, notify: Callable[[int], None]) -> Callable[[int], None]:
        return notify

    def path(self, path: RequestPath) -> RequestPath:
        if self._own:
            half = getattr(path, "__self__", None)
            assert isinstance(half, HostHalf), "the path of a live machine belongs to its host half"
            path = own_bytes(half, self._own)

        def stamped(request: Request) -> Done:
            self.times.append((time.thread_time_ns(), getrusage(RUSAGE_THREAD).ru_nivcsw))
            return path(request)

        return stamped


def own_bytes(half: HostHalf, length: int) -> RequestPath:
    """A host that holds the request's pages and does the I/O, but with bytes of its own: one page again and again, from
    the nearest cache. (A buffer of zeroes that nobody has written is one frame by many addresses, which is slower than
    a copy out of a buffer just written; and any whole buffer needs the caches that a design's copy needs.)"""
    pages = [b"\1" * PAGE_SIZE] * (length // PAGE_SIZE)

    def path(request: Request) -> Done:
        with half.claim(request):
            return Done(os.pwritev(half.disk, pages, request.position))

    return path


def periods(kind: str, guest: str, host: str, pages: int, count: int) -> list[float]:
    """ns from each request to the next, by this thread's own clock, without those in which somebody else had the CPU,
    or before which: the caches are that one's. If enough are left. kind: of CPU. guest, host: whose design; "" for a
    guest that neither copies nor shares, and a host that writes bytes of its own."""
    length = pages * PAGE_SIZE
    described, stamps = writes(guest, length, count, fills=kind == "kvm"), Stamps(0 if host else length)
    plan = RunPlan(host or guest or "window", "uffd-window", kind)
    with disk_for(length) as disk, machine_for(plan, described, disk, stamps) as machine:
        failures = machine.run().failures
    if failures:
        error = machine.device.tally.errors.first
        raise Unavailable(f"{failures} requests of a timed run failed", str(error or "try again"))
    return list(map(float, _undisturbed(*np.diff(np.array(stamps.times), axis=0).T)))


def _undisturbed(times: Array, taken_away: Array) -> Array:
    """Of a run's requests: ns, and how often somebody else had the CPU meanwhile."""
    left = (taken_away[1:] + taken_away[:-1] == 0)[SKIPPED - 1 :]
    counted = times[SKIPPED:]
    return counted[left] if left.sum() >= ENOUGH else counted


GUESTS = {"bare": ("", ""), "guest-copy": ("bounce", "")}
"""Parts that any caller pays: the design of the guest, and of the host."""
PARTS = GUESTS | {
    "host-copy": ("", "window"),
    "remap": ("", "remap"),
    "pread": ("", "pread"),
    "splice": ("", "splice"),
    "convert": ("window", ""),
    "entries": ("iommu", ""),
}
"""With what this library does in its own way."""


def turns(kind: str, library: bool) -> dict[str, Callable[[], float]]:
    """For sampling.sample, by name, turn/PART/PAGES: the median of a short run, ns a request. kind: of CPU."""
    parts = PARTS if library else GUESTS
    return {f"turn/{part}/{n}": partial(_turn, kind, *parts[part], n) for part in parts for n in SIZES}


def _turn(kind: str, guest: str, host: str, pages: int) -> float:
    return float(np.median(periods(kind, guest, host, pages, SKIPPED + 6)))


_BY_PAGE = ("hyp_pte_set", "hyp_pte_clear", "host_pte_clear", "pins")
"""Of the prices that a part holds beside its own, those that are paid for each page."""
_CALL = ("hop_guest_hyp", "hop_hyp_guest")
_CONVERSION = ("hyp_pte_set_range", "hyp_pte_set", "hyp_pte_clear_range", "tlbi")


def turn_prices(prices: Mapping[str, PriceFound], taken: Mapping[str, Array], label: str) -> dict[str, PriceFound]:
    """The prices with those of what was timed of `turns`: lines through what a request takes longer with the part,
    less what is priced apart."""
    made = dict(prices)

    def rows(part: str) -> Array:
        return np.stack([taken[f"turn/{part}/{pages}"][0] for pages in SIZES])

    def put(what: str, part: str, fixed: str, rise: str, *apart: str, beside: str = "bare", shares: int = 1) -> None:
        """shares: equal parts of the fixed part, each with that price."""
        if f"turn/{part}/1" not in taken:
            return
        known = [
            sum(made[name].spread.median for name in apart if (name in _BY_PAGE) is paged) for paged in (False, True)
        ]
        unit = PAGE_SIZE if rise.endswith("copy_warm") else 1
        times = rows(part) - rows(beside) - known[0] - known[1] * np.array(SIZES)[:, None]
        line = StraightLine.through([pages * unit for pages in SIZES], times)
        what = f"what a request on {label} takes longer {what}"
        made[fixed] = PriceFound(positive(line.fixed.times(1 / shares)), f"{what}: its fixed part", line.bend)
        if rise:
            made[rise] = PriceFound(positive(line.unit, LONGEST), f"{what}: its rise", line.bend)

    put("with a copy by the guest", "guest-copy", "guest_copies", "guest_copy_warm")
    put("with a copy by the host", "host-copy", "host_copies", "copy_warm")
    put("with two splice(2) for its pwrite(2)", "splice", "syscall_splice", "pins")
    put("with a pread(2) for its copy", "pread", "syscall_pread", "", "pins", beside="host-copy")
    put(
        "from a mapping, beside its end", "remap", "syscall_mmap", "host_pte_set",
        "host_pte_set_range", "syscall_munmap", "host_pte_clear_range", "host_pte_clear", "tlbi",
    )  # fmt: skip
    put(
        "with a share and an unshare, beside exits and entries", "convert", "hypercalls", "hyp_pte_clear",
        *_CALL, *_CALL, *_CONVERSION, shares=2,
    )  # fmt: skip
    put(
        "with a listed I/O page table instead of a call to share", "entries", "io_pte_set_range", "io_pte_set",
        *_CALL, "hypercalls", *_CONVERSION, "hyp_pte_clear",
    )  # fmt: skip
    return made
