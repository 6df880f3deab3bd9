"""What a served device did, for people and for programs."""

from collections.abc import Sequence

from rich.console import Console

from pagewarden.report.console import in_bytes
from pagewarden.report.documents.serve import ServedBlocks
from pagewarden.report.live import LiveLine, Point
from pagewarden.vhost.hosts import ServeCounts
from pagewarden.vhost.serve import ServeMode
from pagewarden.vocab import PAGE_SIZE


def print_served(mode: ServeMode, counts: ServeCounts, out: Console) -> None:
    """The summary at the end."""
    out.print(f"served {counts.requests:,} requests, {in_bytes(counts.carried)} of data")
    out.print(
        f"pages opened: {counts.pages_opened:,} times, {counts.pages_ever:,} different ones, at most "
        f"{counts.max_open:,} at a time ({in_bytes(counts.max_open * PAGE_SIZE)}), the longest "
        f"{counts.longest_open_ms / 1000:,.3f} s; {counts.byte_seconds / (1 << 20):,.3f} MiB x s in all"
    )
    guard = (
        "no guard: the device saw all of the guest's memory" if mode == "open" else f"violations: {counts.violations:,}"
    )
    out.print(f"refused: {counts.refused:,}; {guard}; device restarts: {counts.device_restarts:,}")
    for trouble in counts.trouble:
        out.print(f"refused: {trouble}")


class ServedLine(LiveLine):
    """What is done while it is done."""

    def __call__(self, counts: ServeCounts) -> None:
        self.show(
            f"{self.rate(counts.requests):,.0f} requests/s, open pages {counts.open_now:,}, at most "
            f"{counts.max_open:,}; refused {counts.refused:,}"
        )


def served_document(mode: ServeMode, counts: ServeCounts, over_time: Sequence[Point]) -> ServedBlocks:
    """The same for programs."""
    return ServedBlocks(
        mode=mode, requests=counts.requests, bytes=counts.carried, pages_opened=counts.pages_opened,
        max_open=counts.max_open, longest_open_ms=counts.longest_open_ms, refused=counts.refused,
        violations=counts.violations, device_restarts=counts.device_restarts, probed=counts.probed,
        pages_ever=counts.pages_ever, byte_seconds=counts.byte_seconds,
        over_time=list(over_time),
    )  # fmt: skip
