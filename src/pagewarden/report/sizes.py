"""The comparison by request size, and any comparison as CSV."""

import csv
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from pagewarden import __version__
from pagewarden.cost.names import BYTES
from pagewarden.report.compare import (
    WIDE,
    assignments,
    conditions,
    cost_text,
    design_cost,
    explained_marks,
    left_out,
    marked,
    policy_text,
    priced_by,
)  # fmt: skip
from pagewarden.report.console import in_bytes, prose, table
from pagewarden.report.documents.compare import ComparedSizes, SizeCost
from pagewarden.studies.compare.comparison import Comparison, DesignResult, remarks
from pagewarden.vocab.host import OUTPUT, naming


def print_sizes(found: Sequence[Comparison], out: Console) -> None:
    """A row a size: the cheapest, and what each design costs."""
    names = [result.name for result in found[0].results]
    setup = found[0].setup
    prose(
        out,
        f"one request a size; policy {policy_text(setup)}, "
        f"{conditions(setup.profile.name, setup.cache, setup.settings)}; us\n",
    )
    made = table("size", "cheapest", *names, left=2)
    for one in found:
        made.add_row(in_bytes(one.workload.bytes), marked(one), *(cost_text(result.ns) for result in one.results))
    out.print(made)
    prose(
        out, "\n".join(["", *explained_marks(found), *_left_out(found), *(f"note: {note}" for note in remarks(found))])
    )


def _left_out(found: Sequence[Comparison]) -> list[str]:
    """Why designs have no numbers, of all sizes once."""
    lines = [line for one in found for line in left_out(list(map(design_cost, one.results)), one.workload.requests)]
    return list(dict.fromkeys(lines))


def sizes_document(found: Sequence[Comparison]) -> ComparedSizes:
    """The same for programs."""
    setup = found[0].setup
    return ComparedSizes(
        notes=remarks(found), **priced_by(setup),
        sizes=[
            SizeCost(
                bytes=one.workload.bytes, designs=list(map(design_cost, one.results)), cheapest=one.cheapest,
                contenders=list(one.contenders), ties=list(one.ties),
            )
            for one in found
        ],
    )  # fmt: skip


COUNTED = (*WIDE, *(event.key for event in BYTES))
"""Counts of a row: all that have a price."""


def print_csv(found: Sequence[Comparison]) -> None:
    """A row a workload and design, then one a job and design: counts of a request, without what is paid once, and the
    range of what it costs. A design that is refused, or that the workload has no use for, has neither."""
    with naming(OUTPUT):
        rows = csv.writer(sys.stdout, lineterminator="\n")
        rows.writerow(
            ["workload", "job", "requests", "bytes", "version", "policy", "profile", "cache", "settings", "design",
             "refused", "not_applicable", *COUNTED, "low_ns_per_request", "high_ns_per_request",
             "cheapest", "tie", "rival"]
        )  # fmt: skip
        for whole in found:
            for one in (whole, *whole.jobs):
                load, setup = one.workload, one.setup
                head = [whole.workload.name, "" if one is whole else load.name, load.requests, load.bytes, __version__]
                head += [setup.policy.name, setup.profile.name, setup.cache, assignments(setup.settings)]
                for result in one.results:
                    rows.writerow([*head, result.name, *_cells(one, result)])


def _cells(one: Comparison, result: DesignResult) -> list[object]:
    each: dict[str, Any] = result.per_request
    reasons = [result.why or "", result.not_applicable or ""]
    if result.ns is None or result.not_applicable:
        return [*reasons, *[""] * (len(COUNTED) + 2), 0, 0, 0]
    counts = (_plain(each.get(key, 0)) for key in COUNTED)
    marks = [result.name == one.cheapest, result.name in one.ties, result.name in one.rivals]
    return [*reasons, *(counts), *map(_plain, result.ns), *map(int, marks)]


def _plain(ns: float) -> str:
    """Six digits that count, or a whole number."""
    return f"{ns:.0f}" if ns >= 1e5 else f"{ns:.6g}"
