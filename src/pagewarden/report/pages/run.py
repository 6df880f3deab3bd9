"""The pages of `run`: one run, every design live beside the model, the counts."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from pagewarden.report.console import in_bytes
from pagewarden.report.documents.run import AllDesigns, CheckedCounts, OneRun, RunTimes
from pagewarden.report.pages.frame import Panel, Sheet, axis, chart, choice, chosen, table, told

COUNTS = ("access_syscalls", "host_copies", "hyp_pte_set", "hyp_pte_clear", "tlbi")
"""What a live run and the model both count of a request; the guest copies by itself, and an exit is two hops."""


def page(found: OneRun) -> Sheet:
    """What a request cost, and what the host saw."""
    rows = [{"event": key.replace("_", " "), "count": value} for key, value in found.per_request.items() if value]
    bars = chart(
        rows, height={"step": 22}, mark=told("bar"),
        encoding={"x": axis("count", "of each request", scale={"type": "symlog"}),
                  "y": axis("event", "", "nominal", sort="-x")},
    )  # fmt: skip
    sight = found.sight
    seen = "not searched" if sight is None else "not known" if sight.leaks is None else f"{sight.leaks:,} leaks"
    facts = [
        ("requests a second", found.requests_per_s), ("data a second", f"{in_bytes(found.bytes_per_s)}"),
        ("doorbells", found.doorbells), ("failed requests", found.failures), ("bytes that differ", found.differs),
        ("host side started anew", found.restarts), ("what the host saw of private memory", seen),
    ]  # fmt: skip
    recorded = [] if found.times is None else _times(found.times)
    return Sheet(
        f"pagewarden run: {found.design}",
        f"{'Good' if found.good else 'NOT good'}: {found.requests:,} requests, {in_bytes(found.bytes)}, "
        f"in {found.seconds:.2f} s",
        f"CPU {found.cpu} ({found.level}), backing {found.backing}{', isolated' if found.isolated else ''}",
        [Panel("What a request cost", "Without what the guest's start and end cost once.", bars), *recorded,
         Panel("The run", html=table(("", "measured"), facts))],
    )  # fmt: skip


def _times(found: RunTimes) -> list[Panel]:
    """How long requests and exits took, and how many pages were open when."""
    named = [(f"exit: {took.kind}" if took.exit else took.kind, took) for took in found.durations]
    rows = [
        {"kind": kind, "us": us, "share": done / took.count}
        for kind, took in named
        for us, done in ((took.bins[0].low_us, 0),
                         *zip((each.high_us for each in took.bins), accumulate(each.count for each in took.bins),
                              strict=True))
    ]  # fmt: skip
    spread = chart(
        rows, height=230, params=[{"name": "one", "select": {"type": "point", "fields": ["kind"]}, "bind": "legend"}],
        transform=[{"filter": {"param": "one"}}], mark=told("line"),
        encoding={"x": axis("us", "us", scale={"type": "log"}),
                  "y": axis("share", "took at most so long", axis={"format": "%"}),
                  "color": axis("kind", "click one to see it alone", "nominal", sort=[kind for kind, _ in named])},
    )  # fmt: skip
    levels = [
        {"ms": at, "pages": value, "what": name} for name, moments in found.levels.items() for at, value in moments
    ]
    over = chart(
        levels, height=200, mark=told("line", interpolate="step-after"),
        encoding={"x": axis("ms", "ms since the start"), "y": axis("pages", "pages"),
                  "color": axis("what", "", "nominal")},
    )  # fmt: skip
    heads = ("what", "how often", "median us", "90 %", "99 %", "longest")
    about = (
        "A request: from the exit that shares its pages to the end of the one that takes them back. To record slows "
        "it; what an isolated device does is not seen."
    )
    numbers = ((kind, took.count, *took.us_percentiles) for kind, took in named)
    return [Panel("How long it took", about, spread, table(heads, numbers)),
            Panel("Open pages over time", "The most from then on.", over)]  # fmt: skip


def designs_page(found: AllDesigns) -> Sheet:
    """Counts of each design, live and of the model, side by side."""
    rows = [
        {"design": one.name, "line": f"{one.name}: {key.replace('_', ' ')}", "whose": whose, "count": counts[key]}
        for one in found.designs if one.live is not None and one.model is not None
        for key in COUNTS if key in one.live.per_request and key in one.model.per_request
        for whose, counts in (("live", one.live.per_request), ("model", one.model.per_request))
    ]  # fmt: skip
    speeds = [
        (one.name, one.live.requests_per_s if one.live else None, one.live.good if one.live else None, one.why or "")
        for one in found.designs
    ]
    return Sheet(
        "pagewarden run --all-designs",
        "Every design that ran is good." if found.good else "Some design is NOT good: see below.",
        f"the model at the prices of {found.profile}",
        [Panel("Counts of a request", "What both count: a guest copies by itself, and an exit is two hops.",
                 _pairs(rows, "design")),
         Panel("Live", html=table(("design", "requests a second", "good", "why not"), speeds))],
    )  # fmt: skip


def counts_page(found: CheckedCounts) -> Sheet:
    """Predicted and measured counts; what differs first."""
    rows = [
        {"design": f"{one.design}, {one.cpu}", "line": f"{one.design}, {one.cpu}: {count.key}", "whose": whose,
         "count": number}
        for one in found.results for count in one.counts
        for whose, number in (("predicted", count.predicted), ("measured", count.measured))
    ]  # fmt: skip
    wrong = [
        (one.design, one.cpu, count.key, count.predicted, count.measured, count.source)
        for one in found.results for count in one.counts if count.predicted != count.measured
    ]  # fmt: skip
    heads = ("design", "CPU", "count", "predicted", "measured", "by")
    return Sheet(
        "pagewarden run --check-counts",
        "Every count is the predicted one." if found.good else f"NOT good: {len(wrong):,} counts differ.",
        "; ".join([*found.missing.values(), *([found.no_kernel] if found.no_kernel else [])]),
        [Panel("Predicted against measured", "Of all requests together.", _pairs(rows, "design")),
         Panel("What differs", html=table(heads, wrong, left=3) if wrong else "<p>Nothing.</p>")],
    )  # fmt: skip


def _pairs(rows: Sequence[dict[str, Any]], by: str) -> dict[str, Any]:
    """Two bars a count; the reader picks whose."""
    return chart(
        rows, params=[choice("picked", by, (row[by] for row in rows))], transform=[chosen("picked", by)],
        height={"step": 8}, mark=told("bar"),
        encoding={"x": axis("count", "count", scale={"type": "symlog"}), "y": axis("line", "", "nominal", sort=None),
                  "yOffset": {"field": "whose"}, "color": axis("whose", "", "nominal"),
                  "detail": {"field": by}},
    )  # fmt: skip
