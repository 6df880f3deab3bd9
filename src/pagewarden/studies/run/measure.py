"""Prediction against measurement, in counts: what the model says of a workload and what a run makes this kernel do.

Counted by the kernel where it lets us (perf events on tracepoints), else by the library's own ledger, and each number
says by whom. What the kernel adds to the model's listing is told apart by name and never taken for a match.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field

import numpy as np

from pagewarden.cost import load_profile
from pagewarden.designs import DESIGNS
from pagewarden.guest.hypercalls import GuestReport
from pagewarden.kernel.counters import Counters
from pagewarden.kernel.door import memfd
from pagewarden.kernel.region import Region
from pagewarden.kernel.still import still
from pagewarden.law import policy_named
from pagewarden.port import Memory
from pagewarden.sim import Counts
from pagewarden.studies.compare.comparison import Setup, simulate
from pagewarden.studies.run.disk import DiskFile
from pagewarden.studies.run.host import RequestPath
from pagewarden.studies.run.host_half import Done, Request
from pagewarden.studies.run.machine import Meter
from pagewarden.studies.run.one import COUNTED, Run, run
from pagewarden.studies.run.plan import RunPlan
from pagewarden.studies.run.watched import Convert, WatchedMemory
from pagewarden.vocab import PAGE_SIZE, Event, PageRange, Progress, Refused, Unavailable
from pagewarden.workload import Workload

KEYS = ("exits", *(event.key for event in COUNTED))
KERNEL_FAULT = "exceptions:page_fault_kernel"
OWN = "syscalls:futex|rt_sigreturn|clock_gettime|sched_yield|brk"
"""Calls that reach no byte of a guest or a file: of the interpreter's locks, signals, clock and heap, and a matter of
what else this machine does. Counted, told, and no part of a design's access."""
WATCHED = ("syscalls", "tlb_flush", "page_faults", KERNEL_FAULT, OWN)
ANY_PROFILE = "vmx-skylake"
"""Counts do not depend on prices."""


@dataclass(frozen=True)
class CountCheck:
    """One count of one run, without start and end. source: kernel, ledger or law."""

    key: str
    predicted: int
    measured: int
    source: str

    @property
    def equal(self) -> bool:
        return self.predicted == self.measured


@dataclass(frozen=True)
class DesignCounts:
    """One design on one CPU. added: what the kernel does beside the listing, by name. refused: by the model and by
    the run, where the design is none for this backing; its counts are not compared."""

    design: str
    cpu: str
    level: str
    backing: str
    requests: int
    lines: list[CountCheck]
    added: dict[str, int]
    refused: tuple[bool, bool]

    @property
    def good(self) -> bool:
        return self.refused[0] == self.refused[1] and all(line.equal for line in self.lines)


@dataclass
class Check:
    """All of them; why the ledger had to do, if it had to; what could not be tried, and why."""

    results: list[DesignCounts] = field(default_factory=list)
    no_kernel: str = ""
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return bool(self.results) and all(result.good for result in self.results)


class KernelMeter(Meter):
    """Counts by perf events: what conversions, the host's half and the guest's exits make the kernel do.

    rings: count the device's own work on rings and headers instead of the host's half, which lies inside it.
    """

    def __init__(self, rings: bool = False) -> None:
        self.found: Counter[tuple[str, str]] = Counter()
        self.exits: int | None = None
        self._counted: Counters
        self._flushes: dict[str, list[int]] = {}
        self._rings, self._converted = rings, 0

    def memory(self, memory: Memory) -> Memory:
        return memory if self._rings else WatchedMemory(memory, self._convert)

    def path(self, path: RequestPath) -> RequestPath:
        def watched(request: Request) -> Done:
            with self.counting("path"):
                return path(request)

        return path if self._rings else watched

    def device(self, notify: Callable[[int], None]) -> Callable[[int], None]:
        def watched(queue: int) -> None:
            with self.counting("device"):
                notify(queue)

        return watched if self._rings else notify

    def run(self, go: Callable[[], GuestReport]) -> GuestReport:
        """Without what the interpreter's memory does to the kernel's counts (kernel/still.py)."""
        with _counters("kvm_exits") as self._counted:
            outcome = still(go)
        with suppress(Unavailable):  # without KVM it has no exits, and nothing shows that they would be counted
            self.exits = self._counted["kvm_exits"]
        return outcome

    @contextmanager
    def counting(self, what: str) -> Iterator[None]:
        """Only differences are read: opening and closing counters takes the kernel milliseconds."""
        before = self._counted.at_once(*WATCHED)
        yield
        after = self._counted.at_once(*WATCHED)
        after["syscalls"] -= 1  # this look
        self.found.update({(what, name): after[name] - count for name, count in before.items()})
        self._flushes.setdefault(what, []).append(after["tlb_flush"] - before["tlb_flush"])

    @property
    def flushes(self) -> int:
        """TLB flushes that belong to conversions and host halves: those that every call of a kind does."""
        return sum(len(counts) * min(counts) for what, counts in self._flushes.items() if what != "start")

    @property
    def odd_flushes(self) -> int:
        """Those that only some calls of a kind do: the kernel's own (seen: once in some 3000 munmaps of 16 pages)."""
        return sum(sum(counts) - len(counts) * min(counts) for counts in self._flushes.values())

    def _convert(self, verb: str, pages: PageRange, convert: Convert) -> None:
        """The first conversion is the guest's start, which shares its rings."""
        self._converted += 1
        with self.counting("start" if self._converted == 1 else verb):
            convert(pages)


def _counters(*more: str) -> Counters:
    return Counters(*WATCHED, *more, stimuli={KERNEL_FAULT: _fault_in_the_kernel})


def _fault_in_the_kernel() -> None:
    region, file = Region(PAGE_SIZE), memfd("pagewarden-stimulus", PAGE_SIZE)
    os.preadv(file.fd, [region.memory], 0)
    file.close()
    region.close()


def workload() -> Workload:
    """Writes and reads of one page and of sixteen, in turns, on a disk of 1 MiB."""
    lengths = np.array([4096, 4096, 65536, 65536] * 5, np.uint32)
    return Workload(
        name="one page and sixteen, in turns",
        format="drawn",
        length=lengths,
        write=np.array([True, False] * 10),
        offset=(np.arange(20) % 10 * 65536).astype(np.uint64),
    )


def predict(found_policy: str, design: str, requests: Workload) -> Counts | None:
    """The model's counts; None where the policy refuses the design."""
    try:
        counts, _ = simulate(Setup(policy_named(found_policy), load_profile(ANY_PROFILE)), requests, DESIGNS[design])
    except Refused:
        return None
    return None if counts.failed else counts


def check_counts(
    cpus: tuple[str, ...],
    backing: str,
    disk: DiskFile,
    requests: Workload,
    designs: tuple[str, ...] = tuple(DESIGNS),
    progress: Progress | None = None,
) -> Check:
    """Run each design on each CPU, a request a doorbell, and compare. What this host lacks is in `missing`."""
    check = Check(no_kernel=_no_kernel())
    with nullcontext() if check.no_kernel else _counters("kvm_exits"):  # see Counters: closing the last one is slow
        for number, cpu in enumerate(cpus):
            for place, design in enumerate(designs):
                if progress:
                    progress("designs and CPUs", number * len(designs) + place, len(cpus) * len(designs))
                try:
                    check.results.append(_checked(RunPlan(design, backing, cpu), disk, requests, not check.no_kernel))
                except Unavailable as missing:
                    check.missing[cpu] = str(missing)
                    break
    return check


def _no_kernel() -> str:
    try:
        with _counters() as counted:
            pass
        counted.as_dict()
        return ""
    except Unavailable as missing:
        return str(missing)


def _checked(plan: RunPlan, disk: DiskFile, requests: Workload, kernel: bool) -> DesignCounts:
    live = plan.cpu != "interpreted"
    meter, rings = KernelMeter(), KernelMeter(rings=True)
    found = run(plan, requests, disk, False, meter if kernel and live else None)
    if kernel and live:
        run(plan, requests, disk, False, rings)
    predicted = predict(found.labels.policy, plan.design, requests)
    refused = predicted is None, found.outcome.failures == found.requests
    if found.host_error and refused != (True, True):
        raise Refused(found.host_error.errno, f"the host failed: {found.host_error}")
    lines = [] if any(refused) or predicted is None else _lines(found, predicted, meter if kernel and live else None)
    added = _added(meter, rings) if kernel and live and not any(refused) else {}
    return DesignCounts(
        plan.design, found.labels.cpu, found.labels.level, found.labels.backing, found.requests, lines, added, refused
    )


def _lines(found: Run, predicted: Counts, meter: KernelMeter | None) -> list[CountCheck]:
    model = {"exits": predicted.hops["guest>hyp"], **{event.key: predicted[event] for event in COUNTED}}
    measured = dict(found.counts)
    source = dict.fromkeys(KEYS, "ledger" if found.labels.cpu != "interpreted" else "law")
    if meter is not None:
        io = found.requests  # one system call each that does the I/O: see host_half.Done
        access = meter.found["path", "syscalls"] - meter.found["path", OWN] - io
        kernel = {Event.ACCESS_SYSCALLS.key: access, Event.TLBI.key: meter.flushes}
        if meter.exits is not None:
            kernel["exits"] = meter.exits - found.overhead["exits"]
        measured |= kernel
        source |= dict.fromkeys(kernel, "kernel")
    return [CountCheck(key, model[key], measured[key], source[key]) for key in KEYS]


def _added(meter: KernelMeter, rings: KernelMeter) -> dict[str, int]:
    """What the kernel does beside the listing, all requests together."""
    access = meter.found["path", "syscalls"]
    added = {
        "system calls for rings and headers": rings.found["device", "syscalls"] - access,
        "system calls that convert": meter.found["share", "syscalls"] + meter.found["unshare", "syscalls"],
        "system calls of the interpreter's locks, signals, clock and heap": meter.found["path", OWN],
        "faults of the kernel on first touch": meter.found["path", KERNEL_FAULT],
        "faults of the host on first touch": meter.found["path", "page_faults"],
        "TLB flushes in some calls only": meter.odd_flushes,
        "TLB flushes at the start": meter.found["start", "tlb_flush"],
    }  # fmt: skip
    return {what: count for what, count in added.items() if count}
