"""The page of `sweep`: who wins on which workload, and what decides it."""

from collections.abc import Mapping

from pagewarden.report.documents.sweep import Swept
from pagewarden.report.pages.frame import Chart, Panel, Sheet, axis, chart, table, told


def page(found: Swept) -> Sheet:
    """A bar a workload, once by the designs that nothing beats, once by the prices that decide."""
    named = [each.workload for each in found.workloads]
    wins = {each.workload: each.wins for each in found.workloads}
    decides = {each.workload: each.decides for each in found.workloads}
    sums = [(each.workload, each.points, each.refused) for each in found.workloads]
    return Sheet(
        f"pagewarden sweep: {found.out}",
        f"{found.points:,} points on {len(named):,} workload(s); the rows are in {found.out}.",
        "A point is a design under one policy, with one profile, one set of options and prices",
        [Panel("Not beaten", "At so many points no other design is cheaper at every price.", _bars("design", wins)),
         Panel("What decides", "At so many of those points the doubt hangs on this price most.",
               _bars("price", decides)),
         Panel("Points", html=table(("workload", "points", "refused"), sums))],
    )  # fmt: skip


def _bars(what: str, counts: Mapping[str, Mapping[str, int]]) -> Chart:
    rows = [{"workload": name, what: key, "points": n} for name, some in counts.items() for key, n in some.items()]
    return chart(
        rows, height={"step": 30}, mark=told("bar"),
        encoding={"y": axis("workload", "", "nominal", sort=list(counts)), "color": axis(what, what, "nominal"),
                  "x": axis("points", "points", axis={"tickMinStep": 1})},
    )  # fmt: skip
