"""Prediction against whole requests: a guest on a CPU, the virtio device, the host half of the design.

All requests share what has nothing to do with the design: the guest fills its buffer and posts a descriptor, the device
reads rings, takes the pages of the request and does the I/O. That part is timed by itself, with a guest that neither
copies nor shares and a host that writes its own bytes to the disk, and is added to what the prices say.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from resource import RUSAGE_THREAD, getrusage

import numpy as np

from pagewarden.abi.virtio_blk import SECTOR
from pagewarden.cost import Interval, Profile, price
from pagewarden.designs import DESIGNS
from pagewarden.guest.layout import Layout
from pagewarden.guest.program import Act, Program, program
from pagewarden.kernel.door import memfd
from pagewarden.studies.calibrate.calibration import NAME, Timings, profile_of
from pagewarden.studies.calibrate.prediction import BY_TURNS, Forecast, Prediction, counted
from pagewarden.studies.calibrate.sampling import Array, Spread, sample
from pagewarden.studies.calibrate.scripts import SIZES
from pagewarden.studies.run.disk import DiskFile, Extents
from pagewarden.studies.run.host import RequestPath
from pagewarden.studies.run.host_half import Done, HostHalf, Request
from pagewarden.studies.run.machine import Meter, chosen_cpu, machine_for
from pagewarden.studies.run.plan import RunPlan
from pagewarden.studies.run.warm import warm
from pagewarden.vocab import PAGE_SIZE, Advance, PageRange, Unavailable, UserMistake

ROUNDS = 6
"""Times that primitives and runs take turns."""
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
    """run_machine.Meter: notes when each request comes to the host, and changes nothing else.

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
    """A host that holds the request's pages and does the I/O, but with bytes of its own."""
    buffer = bytes(length)

    def path(request: Request) -> Done:
        with half.claim(request):
            return Done(os.pwrite(half.disk, buffer, request.position))

    return path


def periods(plan: RunPlan, described: Program, length: int) -> list[float]:
    """ns from each request to the next, without those in which somebody else had the CPU, if enough are left."""
    stamps = Stamps(length if isinstance(described.layout, Open) else 0)
    with disk_for(length) as disk, machine_for(plan, described, disk, stamps) as machine:
        failures = machine.run().failures
    if failures:
        error = machine.device.tally.errors.first
        raise Unavailable(f"{failures} requests of a timed run failed", str(error or "try again without --predict"))
    times, taken_away = np.diff(np.array(stamps.times), axis=0)[SKIPPED:].T
    undisturbed = times[taken_away == 0]
    return [float(ns) for ns in (undisturbed if len(undisturbed) >= ENOUGH else times)]


def predict_runs(
    cpu: str = "auto",
    profile: Profile | None = None,
    seconds: float = 15.0,
    designs: Sequence[str] = tuple(DESIGNS),
    progress: Advance = lambda done, total: None,
) -> Prediction:
    """Whole requests of each design, 4 KiB to 1 MiB, on this CPU, and what the profile says of them; without one, the
    primitives are timed by turns with the runs. Takes some two times as long as `seconds`."""
    kind, _ = chosen_cpu(cpu)
    if kind == "interpreted":
        raise UserMistake("the interpreted CPU has no times to predict; choose unicorn or kvm")
    warm()
    taken: list[dict[str, Array]] = []
    whole: dict[tuple[str, int], list[float]] = {}
    with Timings("library", kind) as timings:
        for turn in range(ROUNDS):
            taken.append(sample(timings.timed, seconds / ROUNDS))
            for at, pages in enumerate(SIZES):
                progress(turn * len(SIZES) + at, ROUNDS * len(SIZES))
                for design in _order(designs, turn + at):
                    whole.setdefault((design, pages), []).extend(_run(design, kind, pages))
        together = {name: np.concatenate([part[name] for part in taken], axis=1) for name in timings.timed}
        chosen = profile or profile_of(NAME, timings.prices(together), timings.label, "library", BY_TURNS)
    return Prediction(
        chosen,
        f"whole requests on {timings.label}, uffd-window, one at a time",
        [_row(design, pages, whole, together, chosen) for pages in SIZES for design in designs],
    )


def _order(designs: Sequence[str], turn: int) -> list[str]:
    """The designs, and the bare guest ("") twice, in other places every turn: who comes first meets cold caches."""
    half = len(designs) // 2
    names = ["", *designs[:half], "", *designs[half:]]
    return names[turn % len(names) :] + names[: turn % len(names)]


def _run(design: str, kind: str, pages: int) -> list[float]:
    length, count = pages * PAGE_SIZE, int(8 + 24 / pages**0.5)
    described = writes(design, length, count, fills=kind == "kvm")
    return periods(RunPlan(design or "window", "uffd-window", kind), described, length)


def _row(
    design: str, pages: int, whole: Mapping[tuple[str, int], list[float]], taken: Mapping[str, Array], profile: Profile
) -> Forecast:
    common = float(np.median(whole["", pages])) + _io_beside(design, pages, taken)
    counts = counted(profile, design, pages)
    counts["hops_by_edge"] = {edge: n - 1 for edge, n in counts["hops_by_edge"].items()}  # the doorbell is in common
    cost = price({key: value for key, value in counts.items() if key != "hops"}, profile)
    return Forecast(
        design,
        pages * PAGE_SIZE,
        cost.plus(Interval(common, common)),
        Spread.of(np.array(whole[design, pages])),
        common,
    )


def _io_beside(design: str, pages: int, taken: Mapping[str, Array]) -> float:
    """How much longer than a pwrite(2) of the host's own bytes the I/O of this design takes, ns."""
    row = {"splice": 2, "remap": 4}.get(design, 3)
    beside, own = (float(np.median(taken[f"library/file/{pages}"][n])) for n in (row, 3))
    return beside - own
