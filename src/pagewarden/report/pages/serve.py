"""The pages of `serve` and `keep`: what was done between start and end."""

from collections.abc import Mapping, Sequence

from pagewarden.report.console import in_bytes
from pagewarden.report.documents.keep import KeptPages
from pagewarden.report.documents.serve import ServedBlocks
from pagewarden.report.live import Point
from pagewarden.report.pages.frame import Panel, Sheet, axis, chart, table, told
from pagewarden.vocab import PAGE_SIZE


def page(found: ServedBlocks) -> Sheet:
    """The summary, and its events as bars."""
    events = {
        "requests": found.requests, "pages opened": found.pages_opened, "most open at a time": found.max_open,
        "refused": found.refused, "violations": found.violations, "closed pages tried": found.probed,
        "device restarts": found.device_restarts,
    }  # fmt: skip
    guard = "no guard: the device saw all of the guest's memory" if found.mode == "open" else (
        f"{found.violations:,} violations; at most {in_bytes(found.max_open * PAGE_SIZE)} open at a time, a page for "
        f"{found.longest_open_ms / 1000:.3g} s at most")  # fmt: skip
    return Sheet(
        f"pagewarden serve blk --mode {found.mode}",
        f"Served {found.requests:,} requests, {in_bytes(found.bytes)} of data: {guard}.",
        "between its start and its end",
        [*_events(events), *_over_time(found.over_time, "requests", "pages open")],
    )  # fmt: skip


def kept_page(found: KeptPages) -> Sheet:
    """The same of the pagers of restored VMs."""
    events = {
        "faults": found.faults, "pages put in place": found.pages, "of them ahead of use": found.pages_ahead,
        "pages removed by VMs": found.pages_removed, "pages refused": found.pages_refused,
        "faults retried": found.retried,
        "pagers replaced": found.restarts, "VMs ended": found.ended, "hand-overs refused": found.hand_overs_refused,
    }  # fmt: skip
    return Sheet(
        "pagewarden keep",
        f"Kept {found.vms:,} VMs: {found.faults:,} faults, {in_bytes(found.pages * PAGE_SIZE)} put in place.",
        "between its start and its end",
        [*_events(events), *_over_time(found.over_time, "pages there", "faults")],
    )  # fmt: skip


def _over_time(points: Sequence[Point], *named: str) -> list[Panel]:
    """A chart for each of the two numbers."""
    return [
        Panel(f"{name.capitalize()} over time", chart=chart(
            [{"s": point[0], name: point[number]} for point in points], height=160,
            mark=told("area", interpolate="step-after", opacity=0.5, line=True),
            encoding={"x": axis("s", "s"), "y": axis(name, name)}))
        for number, name in enumerate(named, 1)
    ]  # fmt: skip


def _events(events: Mapping[str, int]) -> list[Panel]:
    rows = [{"event": event, "count": count} for event, count in events.items()]
    bars = chart(
        rows, height={"step": 24}, mark=told("bar"),
        encoding={"x": axis("count", "count", scale={"type": "symlog"}), "y": axis("event", "", "nominal", sort=None)},
    )  # fmt: skip
    return [Panel("Events", chart=bars), Panel("Numbers", html=table(("event", "count"), events.items()))]
