"""What to measure, for people and for programs."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from pagewarden.report.compare import facts, mostly_left_out, priced_by, verdict
from pagewarden.report.console import prose, table
from pagewarden.report.documents.compare import Decided, JobDecided, Measure
from pagewarden.studies.compare.comparison import Comparison
from pagewarden.studies.compare.decide import decide

HOW = (
    "These prices settle it, if each turns out near the middle of its range; far from it another design wins, or more \
must be known."
)
COLUMNS = ("price", "known", "measure to within")


def decided(found: Comparison) -> Decided:
    """For programs."""
    return Decided(
        workload=found.workload.name, **priced_by(found.setup), notes=_notes(found),
        independent=found.workload.independent,
        jobs=[JobDecided(name=job.workload.name, **_decision(job)) for job in found.jobs], **_decision(found),
    )  # fmt: skip


def _notes(found: Comparison) -> list[str]:
    much = mostly_left_out(found.workload.requests, found.workload.skipped)
    return [*([much] if much else []), *found.notes]


def _decision(found: Comparison) -> dict[str, Any]:
    said = decide(found)
    measure = None if said.measure is None else [Measure(m.setting, *m.known, m.within) for m in said.measure]
    return {"cheapest": said.cheapest, "ties": list(found.ties), "rivals": list(said.rivals), "measure": measure}


def headline(found: Decided) -> str:
    """Whether it is settled, in each job where there are several."""
    if not found.jobs:
        return _settled(found)
    open_ones = [job for job in found.jobs if job.rivals]
    if open_ones:
        return f"Open in {len(open_ones)} of {len(found.jobs)} jobs."
    same = {_settled(job) for job in found.jobs}
    return f"{same.pop()[:-1]}, in each job." if len(same) == 1 else "Settled in each job, by design:"


def by_job(found: Decided) -> list[tuple[str, str]]:
    """A line a job; and of all together, where they run at once."""
    each = [(job.name, _settled(job)) for job in found.jobs]
    return each if found.independent or not each else [*each, ("all together", _settled(found))]


def _settled(one: Decided | JobDecided) -> str:
    said = verdict(one.cheapest, one.ties, one.rivals)
    if one.measure is None:
        return f"{said[0].upper()}{said[1:]}: they are too near for any measurement."
    if one.cheapest is None or one.rivals:
        return f"{said[0].upper()}{said[1:]}."
    return f"Settled: {said}."


def to_measure(found: Decided) -> Sequence[tuple[str, str, str]]:
    """Rows of `COLUMNS`: what settles every question that is open, as exactly as the one that asks most."""
    asked: list[Decided | JobDecided] = [*found.jobs]
    asked += [] if found.jobs and found.independent else [found]
    wanted: dict[str, Measure] = {}
    for each in (each for one in asked for each in one.measure or ()):
        known = wanted.setdefault(each.setting, each)
        wanted[each.setting] = min(known, each, key=lambda one: one.within)
    return [(one.setting, f"{one.low:,.4g}..{one.high:,.4g}", f"+-{one.within:,.3g}") for one in wanted.values()]


def print_decided(found: Decided, out: Console) -> None:
    """For people: the answer, a line a job, then a line a price."""
    out.print(headline(found))
    for name, said in by_job(found):
        out.print(f"  {name}: {said}")
    if rows := to_measure(found):
        out.print(f"\n{HOW}\n")
        made = table(*COLUMNS, left=1)
        for row in rows:
            made.add_row(*row)
        out.print(made)
    prose(out, f"\n{facts(found)}")
    for note in found.notes:
        out.print(f"note: {note}")
