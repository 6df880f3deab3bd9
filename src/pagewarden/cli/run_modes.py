"""What `pagewarden run` can be asked for: one run, all designs, the counts. Each gives what to print and a verdict."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from pagewarden.cli.progress import ProgressBars
from pagewarden.report import run as report
from pagewarden.report.documents.base import Document
from pagewarden.studies.run import measure
from pagewarden.studies.run.all_designs import run_all
from pagewarden.studies.run.disk import DiskFile
from pagewarden.studies.run.one import run
from pagewarden.studies.run.plan import CPUS, DEEPEST, REQUESTS, RunPlan, default_mix, first
from pagewarden.studies.run.traced import Recorder
from pagewarden.vocab import Unavailable, UserMistake
from pagewarden.workload import Workload, load

_LOAD = ("workload", "requests", "disk", "overwrite", "cpu", "backing", "json", "html")
EFFECTIVE = {
    "one": ("here", (*_LOAD, "design", "isolated", "verify", "limit", "swap", "snapshot", "restore", "key", "trace")),
    "all": ("with --all-designs", (*_LOAD, "isolated", "verify", "all_designs")),
    "check": ("with --check-counts", (*_LOAD, "check_counts", "isolated")),
    "predict": ("with --predict", ("cpu", "backing", "json", "html", "predict", "isolated")),
}
"""What is asked for, in words, and the parameters that matter there."""


@dataclass(frozen=True)
class ModeReport:
    """What a mode of `run` found: the exit status, the report for people, the document for programs."""

    status: int
    show: Callable[[Console], None]
    document: Callable[[], Document]


def requests(path: Path | None, count: int | None, check: bool, progress: ProgressBars) -> Workload:
    """The file's requests, or drawn ones; the first `count` of them."""
    if path is not None:
        return first(load(path, progress.of(f"reading {path}")), count)
    return first(measure.workload(), count) if check else default_mix(count or REQUESTS)


def one(
    plan: RunPlan, workload: Workload, disk: DiskFile, _: ProgressBars, recorder: Recorder | None = None
) -> ModeReport:
    """As many requests a doorbell as the workload has in flight."""
    found = run(replace(plan, batch=min(workload.depth, DEEPEST)), workload, disk, meter=recorder)
    timeline = None if recorder is None else recorder.timeline
    return ModeReport(found.status, lambda out: report.print_run(found, out), lambda: report.one_run(found, timeline))


def all_designs(plan: RunPlan, workload: Workload, disk: DiskFile, progress: ProgressBars) -> ModeReport:
    """The same requests through each design, live and on the model."""
    rows = run_all(plan, workload, disk, progress)
    status = min(filter(None, (row.status for row in rows)), default=0)  # a leak or a wrong byte, 1, before all else
    return ModeReport(status, lambda out: report.print_all(rows, out), lambda: report.all_designs(rows))


def check_counts(plan: RunPlan, workload: Workload, disk: DiskFile, progress: ProgressBars) -> ModeReport:
    """On every CPU of this host, or the one that was named."""
    if plan.isolated:
        raise UserMistake(
            "--check-counts is for a device in this process: the kernel counts one thread's work; leave --isolated out"
        )
    cpus = CPUS[1:] if plan.cpu == "auto" else (plan.cpu,)
    found = measure.check_counts(cpus, plan.backing, disk, workload, progress=progress)
    if not found.results:
        raise Unavailable("; ".join(found.missing.values()), "nothing could be counted")
    title = f"{workload.name}: {workload.requests:,} requests"
    return ModeReport(
        int(not found.good), lambda out: report.print_check(found, title, out), lambda: report.checked_counts(found)
    )


def predict(plan: RunPlan, workload: Workload, disk: DiskFile, progress: ProgressBars) -> ModeReport:
    """Every design at its own sizes, whatever the workload: what this host's prices say of a request, and the clock."""
    from pagewarden.report.prediction import predicted, print_prediction
    from pagewarden.studies.calibrate.prediction_runs import predict_runs

    if plan.isolated or plan.backing not in ("auto", "uffd-window"):
        raise UserMistake(
            "--predict is for a device in this process on uffd-window memory, which is priced; leave the rest out"
        )
    found = predict_runs(plan.cpu, progress=progress.of("requests and primitives by turns"))
    return ModeReport(0, lambda out: print_prediction(found, out), lambda: predicted(found))
