"""The page of `serve`: what a device did between its start and its end."""

from pagewarden.report.console import in_bytes
from pagewarden.report.documents.serve import ServedBlocks
from pagewarden.report.pages.frame import Panel, Sheet, axis, chart, table
from pagewarden.vocab import PAGE_SIZE


def page(found: ServedBlocks) -> Sheet:
    """The summary, and its events as bars."""
    rows = [
        {"event": event, "count": count} for event, count in (
            ("requests", found.requests), ("pages opened", found.pages_opened), ("most open at a time", found.max_open),
            ("refused", found.refused), ("violations", found.violations), ("closed pages tried", found.probed),
            ("device restarts", found.device_restarts))
    ]  # fmt: skip
    bars = chart(
        rows, height={"step": 24}, mark={"type": "bar", "tooltip": {"content": "data"}},
        encoding={"x": axis("count", "count", scale={"type": "symlog"}), "y": axis("event", "", "nominal", sort=None)},
    )  # fmt: skip
    guard = "no guard: the device saw all of the guest's memory" if found.mode == "open" else (
        f"{found.violations:,} violations; at most {in_bytes(found.max_open * PAGE_SIZE)} open at a time, a page for "
        f"{found.longest_open_ms / 1000:.3g} s at most")  # fmt: skip
    return Sheet(
        f"pagewarden serve blk --mode {found.mode}",
        f"Served {found.requests:,} requests, {in_bytes(found.bytes)} of data: {guard}.",
        "between its start and its end",
        [Panel("Events", chart=bars), Panel("Numbers", html=table(
            ("event", "count"), ((row["event"], row["count"]) for row in rows)))],
    )  # fmt: skip
