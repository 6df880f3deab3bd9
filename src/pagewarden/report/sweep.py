"""A sweep in short: who wins where, and what decides it; the rows are in its file."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pagewarden.report.compare import few, mostly_left_out, prices_of
from pagewarden.report.console import table
from pagewarden.report.documents.base import Pair
from pagewarden.report.documents.sweep import Swept, SweptWorkload
from pagewarden.studies.compare.comparison import Setup
from pagewarden.studies.sweep import SweepRow, SweepTask


def swept(rows: Sequence[SweepRow], out: Path, tasks: Sequence[SweepTask]) -> Swept:
    """For programs."""
    setups: list[Setup] = [setup for task in tasks for _, setup in task.setups]
    loads = {str(inputs["workload"]): task.workload for task in tasks for inputs, _ in task.setups[:1]}
    much = {name: mostly_left_out(load.requests, load.skipped) for name, load in loads.items()}
    settings: dict[str, list[str]] = {}
    prices: dict[str, dict[str, Pair]] = {}
    for setup in setups:
        for key, value in setup.settings.items():
            if value not in settings.setdefault(key, []):
                settings[key].append(value)
        if setup.profile.name not in prices:
            known = prices_of(setup.profile)
            prices[setup.profile.name] = {key: known[key] for key in known if key not in setup.settings}
    groups: dict[str, list[SweepRow]] = {}
    for row in rows:
        groups.setdefault(str(row["workload"]), []).append(row)
    return Swept(
        out=str(out), policies=list(dict.fromkeys(setup.policy.name for setup in setups)), settings=settings,
        prices=prices, points=len(rows), workloads=[_one(name, some) for name, some in groups.items()],
        notes=[f"{name}: {said}" for name, said in much.items() if said],
    )  # fmt: skip


def _one(name: str, rows: Sequence[SweepRow]) -> SweptWorkload:
    wins = Counter(str(row["design"]) for row in rows if row["pareto"])
    decides = Counter(str(row["decides"]) for row in rows if row["decides"] is not None)
    refused = sum(row["refused"] is not None for row in rows)
    setups = len(rows) // len({row["design"] for row in rows})
    return SweptWorkload(name, len(rows), setups, refused, dict(wins.most_common()), dict(decides.most_common()))


def print_sweep(found: Swept, out: Console) -> None:
    """For people: a line a workload."""
    most = max(each.setups for each in found.workloads)
    made = table(
        "workload", "points", "refused", f"not beaten, of {most:,} settings", "what decides most often", left=1
    )
    for each in found.workloads:
        made.add_row(
            each.workload,
            f"{each.points:,}",
            f"{each.refused:,}",
            ", ".join(_counts(each.wins)),
            few(_counts(each.decides)),
        )
    out.print(made)
    for note in found.notes:
        out.print(f"note: {note}")
    out.print(f"\n{found.points:,} points in {found.out}, a row each, with every input in it")


def _counts(counts: dict[str, int]) -> list[str]:
    return [f"{name} {count:,}" for name, count in counts.items()] or ["-"]
