"""A grid of comparisons: every workload, policy, option, profile and price with every design, a row each.

Points that share workload, policy and options share their sums: the machine runs once for them, and prices are applied
to all designs at once. What is done is kept beside the result as it comes, so that a sweep that was killed goes on.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from pagewarden.check.many import CutShort, Workers
from pagewarden.cost.price import quantities
from pagewarden.designs import Design
from pagewarden.studies.compare.comparison import CACHED, EXHAUSTED, UNCACHED, Setup, requests, simulate
from pagewarden.vocab import Advance, Refused
from pagewarden.vocab.host import naming
from pagewarden.workload import Workload

SweepRow: TypeAlias = dict[str, str | int | float | bool | None]
"""A point: every input, then what came out, by column."""
TOLD = ("hops", "access_syscalls", "guest_copies", "host_copies", "tlbi")
AT_ONCE = 8
"""Tasks a worker that are given out between two writes of what is known."""


class SweepStopped(KeyboardInterrupt):
    """Ctrl-C: `kept` points of `points` are in the journal."""

    def __init__(self, kept: int, points: int) -> None:
        super().__init__()
        self.kept, self.points = kept, points


@dataclass(frozen=True)
class SweepTask:
    """Points that share their sums. setups: the inputs of each as columns, and what they make; they differ in prices
    alone."""

    workload: Workload
    setups: Sequence[tuple[SweepRow, Setup]]
    designs: Sequence[Design]

    @property
    def points(self) -> int:
        return len(self.setups) * len(self.designs)


def sweep(
    tasks: Sequence[SweepTask], pool: Workers, journal: Path, identity: bytes, progress: Advance
) -> list[SweepRow]:
    """Every row, in the order of the tasks, whoever worked. journal: what is known, a line a task; one of another
    identity is begun anew. OSError where it cannot be written; SweepStopped."""
    mark = hashlib.sha256(identity).hexdigest()
    known = _known(journal, mark)
    if not known:
        journal.write_bytes(msgspec.json.encode(mark) + b"\n")
    todo = [number for number in range(len(tasks)) if number not in known]
    total = sum(task.points for task in tasks)
    with journal.open("ab") as file:

        def keep(some: Sequence[int], answers: Sequence[list[SweepRow] | None]) -> int:
            for number, rows in zip(some, answers, strict=True):
                if rows is not None and number not in known:
                    file.write(msgspec.json.encode([number, rows]) + b"\n")
                    known[number] = rows
            file.flush()
            return sum(map(len, known.values()))

        for place in range(0, len(todo), pool.width * AT_ONCE):
            some = todo[place : place + pool.width * AT_ONCE]
            try:
                done = keep(some, pool.map(points_of, [tasks[number] for number in some]))
                progress(done, total)
            except CutShort as cut:
                raise SweepStopped(keep(some, cut.answers), total) from None
            except KeyboardInterrupt:
                raise SweepStopped(keep([], []), total) from None
    return [row for number in range(len(tasks)) for row in known[number]]


def _known(journal: Path, mark: str) -> dict[int, list[SweepRow]]:
    """By the task's number; a line that a kill cut off is none, and is taken away."""
    found: dict[int, list[SweepRow]] = {}
    if not journal.exists():
        return found
    good = 0
    with journal.open("rb") as file:
        for place, line in enumerate(file):
            try:
                value: Any = msgspec.json.decode(line)
            except msgspec.DecodeError:
                break
            if not line.endswith(b"\n") or (place == 0 and value != mark):
                break
            good += len(line)
            if place:
                found[value[0]] = value[1]
    with journal.open("r+b") as file:
        file.truncate(good if found else 0)
    return found


def points_of(task: SweepTask) -> list[SweepRow]:
    """The rows of a task: counts once, then each setup's prices over all designs."""
    counted = [_steady(task, design) for design in task.designs]
    rows: list[SweepRow] = []
    for inputs, setup in task.setups:
        priced = [place for place, (counts, _) in enumerate(counted) if counts]
        amounts = np.array(
            [list(quantities(counted[place][0], setup.profile, setup.cache).values()) for place in priced]
        )
        names = [task.designs[place].name for place in priced]
        judged = dict(zip(priced, _judged(amounts / task.workload.requests, names, setup), strict=True))
        for place, design in enumerate(task.designs):
            counts, why = counted[place]
            each = {name: counts[name] / task.workload.requests if counts else None for name in TOLD}
            rows.append({**inputs, "design": design.name, "refused": why, **each, **judged.get(place, _NOTHING)})
    return rows


_NOTHING: SweepRow = {"low_ns": None, "high_ns": None, "pareto": False, "beaten_by": None, "decides": None}


def _steady(task: SweepTask, design: Design) -> tuple[dict[str, Any], str | None]:
    """Counts without first touches; or none, and why."""
    if task.workload.direct and design.name == CACHED:
        return {}, f"does not apply: {UNCACHED}"
    _, setup = task.setups[0]
    try:
        counts, first = simulate(setup, task.workload, design, None, requests(setup, task.workload, setup.lazy(design)))
    except Refused as refusal:
        return {}, str(refusal)
    if counts.failed:
        return {}, str(counts.refusal or EXHAUSTED)
    return (counts - first).as_dict(), None


def _judged(amounts: NDArray[np.float64], designs: Sequence[str], setup: Setup) -> Iterator[SweepRow]:
    """amounts: designs x prices, a request. Each design's cost; whether none beats it at every price (a price has one
    value for both); else which does by most; and the price on which its doubt with the cheapest hangs."""
    if not len(amounts):
        return
    low, high = (
        np.array([getattr(entry.value, end) for entry in setup.profile.prices.values()]) for end in ("low", "high")
    )
    apart = amounts[:, None] - amounts[None]
    least = np.minimum(apart * low, apart * high).sum(2)
    best = int((amounts @ (low + high)).argmin())
    names = list(setup.profile.prices)
    for place, mine in enumerate(amounts):
        worst = int(least[place].argmax())
        kept = least[place, worst] <= 0
        width = abs(apart[place, best]) * (high - low)
        doubt = kept and place != best and width.any()
        yield {
            "low_ns": math.fsum(mine * low),
            "high_ns": math.fsum(mine * high),
            "pareto": bool(kept),
            "beaten_by": None if kept else designs[worst],
            "decides": names[int(width.argmax())] if doubt else None,
        }


def columns_of(rows: Sequence[SweepRow]) -> list[str]:
    """Every column, inputs first."""
    return list(dict.fromkeys(name for row in rows for name in row))


def write_rows(rows: Sequence[SweepRow], path: Path) -> None:
    """CSV, or Parquet for FILE.parquet, which needs pyarrow; under its name when it is whole."""
    draft = path.with_name(path.name + ".new")
    try:
        with naming(str(path)), draft.open("wb") as file:
            _write(rows, file, path.suffix)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _write(rows: Sequence[SweepRow], file: IO[bytes], suffix: str) -> None:
    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)
        return
    import csv

    with TextIOWrapper(file, newline="") as text:
        writer = csv.DictWriter(text, columns_of(rows))
        writer.writeheader()
        writer.writerows(rows)
