"""One guest run, whole: it does its I/O, every byte is checked, what it cost is counted, what the host saw is said."""

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.guest.hypercalls import GuestReport, Number
from pagewarden.guest.program import Program
from pagewarden.keep import KeptMemory
from pagewarden.kernel.causes import CallFailed
from pagewarden.studies.run.canary import Sight
from pagewarden.studies.run.disk import Bytes, DiskFile
from pagewarden.studies.run.host_error import HostError, remedy
from pagewarden.studies.run.machine import Meter, RunMachine, chosen_cpu, machine_for
from pagewarden.studies.run.plan import RunPlan, describe, replayed
from pagewarden.studies.run.warm import warm
from pagewarden.vocab import Event, GuestStopped, Unavailable
from pagewarden.workload import Workload

COUNTED = (
    Event.HYPERCALLS,
    Event.ACCESS_SYSCALLS,
    Event.HOST_COPIES,
    Event.HOST_COPY_BYTES,
    Event.HYP_PTE_SET,
    Event.HYP_PTE_CLEAR,
    Event.TLBI,
)
"""Events that a run counts, beside the guest's exits. What only a model can know (guest copies, hops inside the
hypervisor) is not among them."""


@dataclass(frozen=True)
class Labels:
    """What every number of a run has to be read with."""

    cpu: str
    level: str
    cpu_why: str
    backing: str
    why: str
    policy: str
    disk: str
    kept: dict[str, int] | None = None
    """Where pages may be away: faults, and pages that went and came."""


@dataclass(frozen=True)
class Run:
    """counts: of the requests alone. overhead: of the guest's start and end, which each run has once: rings, headers
    and pool are shared, and it says that it is done. differs: sectors of the disk that are not as the requests must
    have left them, and buffers of the last batch; None if that was not verified."""

    plan: RunPlan
    labels: Labels
    requests: int
    bytes: int
    batches: int
    outcome: GuestReport
    seconds: float
    counts: dict[str, int]
    overhead: dict[str, int]
    sight: Sight | None
    restarts: int = 0
    differs: int | None = None
    host_error: HostError | None = None

    @property
    def status(self) -> int:
        """0: the I/O was right and nothing leaked. 1: a byte was wrong, or leaked. 2: the host failed, or would not be
        searched whole, so that there is no answer."""
        if self.sight and self.sight.leaks:
            return 1
        if self.outcome.failures or self.differs:
            return 2 if self.host_error else 1
        return 2 if self.sight and not self.sight.whole else 0

    @property
    def good(self) -> bool:
        return self.status == 0

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def run(plan: RunPlan, workload: Workload, disk: DiskFile, look: bool = True, meter: Meter | None = None) -> Run:
    """Make a machine, run the workload's guest on it, look at what it left.

    look: search for the guest's secret in the host afterwards. Raises GuestStopped, Unavailable (the host failed, too),
    UserMistake.
    """
    warm()
    content = disk.read()
    described = describe(plan, workload, disk, content)
    with machine_for(plan, described, disk, meter) as machine:
        return run_on(machine, plan, described, disk, content, look)


def run_on(
    machine: RunMachine, plan: RunPlan, described: Program, disk: DiskFile, content: Bytes, look: bool = True,
    go: Callable[[], GuestReport] | None = None, gone: Callable[[], bool] = lambda: False,
) -> Run:  # fmt: skip
    """The same on a machine that is there. content: what the disk held before. go: what runs it, else the machine's own
    way; gone: whether the guest is somewhere else afterwards."""
    before = machine.memory.statistics()
    start = time.perf_counter()
    outcome = _run(machine, go or machine.run)
    seconds = time.perf_counter() - start
    counts, overhead = _counts(described, machine, before)
    sight = machine.look(gone()) if look else None
    requests = described.requests[machine.part.start * described.batch : machine.part.stop * described.batch]
    verify = plan.verify and not gone()
    differs = _differs(described, machine, disk, replayed(described, disk, content)) if verify else None
    return Run(
        plan,
        _labels(plan, machine, disk),
        len(requests),
        int(requests["length"].sum()),
        machine.part.stop - machine.part.start,
        outcome,
        seconds,
        counts,
        overhead,
        sight,
        machine.device.restarts,
        differs,
        machine.device.tally.errors.first,
    )


def _run(machine: RunMachine, go: Callable[[], GuestReport]) -> GuestReport:
    """Its end; Unavailable for one that the host is to blame for."""
    try:
        return go()
    except GuestStopped as stopped:
        error = machine.device.tally.errors.first or _of_conversion(machine.warden.host_error)
        if error is None:
            raise
        raise Unavailable(f"the host failed: {error.what}: {error.reason} (then {stopped})", error.remedy) from stopped
    except OSError as error:
        code = error.errno or errno.EIO
        raise Unavailable(f"the host failed: {error.strerror or error}", remedy(code)) from error


def _of_conversion(error: OSError | None) -> HostError | None:
    if error is None:
        return None
    why = f" ({error.cause})" if isinstance(error, CallFailed) and error.cause else ""
    return HostError(error.errno or errno.EIO, f"a conversion{why}", advice=getattr(error, "advice", ""))


def _labels(plan: RunPlan, machine: RunMachine, disk: DiskFile) -> Labels:
    kept = None
    if isinstance(machine.memory, KeptMemory):
        kept = machine.memory.traffic()
    return Labels(
        machine.backend, machine.level, chosen_cpu(plan.cpu)[1], machine.backing, machine.why, machine.policy, disk.why,
        kept,
    )  # fmt: skip


def _counts(described: Program, machine: RunMachine, before: dict[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """What the requests cost, and what start and end did."""
    total = {event.key: machine.memory.statistics().get(event.key, 0) - before.get(event.key, 0) for event in COUNTED}
    for event, count in machine.device.tally.events.items():
        total[event.key] += count
    calls = machine.warden.calls
    total[Event.HYPERCALLS.key] = calls[Number.SHARE] + calls[Number.UNSHARE] + calls[Number.DONE]
    total = {"exits": machine.outs, "doorbells": machine.warden.doorbells, **total}
    first, last = machine.part.start == 0, machine.part.stop == described.batches
    overhead = dict.fromkeys(total, 0) | dict.fromkeys(("exits", "hypercalls"), first + last)
    if machine.policy != "memfd" and first:
        overhead[Event.HYP_PTE_SET.key] = described.layout.shared_pages.count
    return {key: total[key] - overhead[key] for key in total}, overhead


def _differs(described: Program, machine: RunMachine, disk: DiskFile, wanted: Bytes) -> int:
    """Sectors that differ on the disk, and of the private buffers of the last batch."""
    found = disk.read()
    wrong = int((found.reshape(-1, 512) != wanted.reshape(-1, 512)).any(1).sum())
    last = described.requests[(described.batches - 1) * described.batch :]
    for request in last:
        length, page = int(request["length"]), int(request["page"])
        private = machine.memory.private_read(described.layout.data + page * 4096, length)
        at = int(disk.extents.packed(np.array([int(request["sector"]) * 512]))[0])
        # A later write of the same batch may have changed the disk since: the guest's own check covers those.
        wrong += private != wanted[at : at + length].tobytes() and not _overwritten(last, request)
    return wrong


def _overwritten(batch: NDArray[Any], request: Any) -> bool:
    later = batch[(batch["slot"] > request["slot"]) & (batch["write"] == 1)]
    first, end = int(request["sector"]), int(request["sector"]) + int(request["length"]) // 512
    return bool(((later["sector"] < end) & (later["sector"] + later["length"] // 512 > first)).any())
