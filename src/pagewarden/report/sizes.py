"""The comparison by request size, and any comparison as CSV."""

import csv
import sys
from collections.abc import Sequence

from rich.console import Console

from pagewarden.report.compare import WIDE, cost_text, design_cost, policy_text
from pagewarden.report.console import in_bytes, table
from pagewarden.report.documents.compare import ComparedSizes, SizeCost
from pagewarden.studies.compare.comparison import Comparison, idle
from pagewarden.vocab.host import OUTPUT, naming


def print_sizes(found: Sequence[Comparison], out: Console) -> None:
    """A row a size: the cheapest, and what each design costs."""
    names = [result.name for result in found[0].results]
    setup = found[0].setup
    out.print(
        f"one request a size; policy {policy_text(setup)}, profile {setup.profile.name}, {setup.cache} caches; us\n"
    )
    made = table("size", "cheapest", *names, left=2)
    for one in found:
        open_ones = [n for n in one.contenders if n != one.cheapest and one.doubts(n)]
        best = f"{one.cheapest or 'none'}{'~' * bool(open_ones)}"
        made.add_row(in_bytes(one.workload.bytes), best, *(cost_text(result.ns) for result in one.results))
    out.print(made)
    out.print("\n~ another is cheaper at some prices of the profile")
    for note in idle(found):
        out.print(f"note: {note}")


def sizes_document(found: Sequence[Comparison]) -> ComparedSizes:
    """The same for programs."""
    setup = found[0].setup
    return ComparedSizes(
        policy=setup.policy.name, profile=setup.profile.name, notes=idle(found),
        sizes=[
            SizeCost(
                bytes=one.workload.bytes, designs=list(map(design_cost, one.results)), cheapest=one.cheapest,
                contenders=list(one.contenders),
            )
            for one in found
        ],
    )  # fmt: skip


def print_csv(found: Sequence[Comparison]) -> None:
    """A row a workload and design: counts of all requests, and the range of what each costs."""
    with naming(OUTPUT):
        rows = csv.writer(sys.stdout, lineterminator="\n")
        rows.writerow(
            ["workload", "requests", "bytes", "policy", "profile", "design", "refused",
             *WIDE, "low_ns_per_request", "high_ns_per_request", "cheapest"]
        )  # fmt: skip
        for one in found:
            load, setup = one.workload, one.setup
            head = [load.name, load.requests, load.bytes, setup.policy.name, setup.profile.name]
            for result in one.results:
                counts = [result.total.get(key, 0) if result.ns else "" for key in WIDE]
                ends = [result.ns.low, result.ns.high] if result.ns else ["", ""]
                why = "" if result.ns else str(result.refusal or "fails")
                rows.writerow([*head, result.name, why, *counts, *ends, int(result.name == one.cheapest)])
