"""What a served device did, for people and for programs."""

from rich.console import Console

from pagewarden.report.console import in_bytes
from pagewarden.report.documents.serve import ServedBlocks
from pagewarden.vhost.blk import ServeMode
from pagewarden.vhost.hosts import ServeCounts
from pagewarden.vocab import PAGE_SIZE


def print_served(mode: ServeMode, counts: ServeCounts, out: Console) -> None:
    """The summary at the end."""
    out.print(f"served {counts.requests:,} requests, {in_bytes(counts.carried)} of data")
    out.print(
        f"pages opened: {counts.pages_opened:,}, at most {counts.max_open:,} at a time "
        f"({in_bytes(counts.max_open * PAGE_SIZE)}), the longest {counts.longest_open_ms / 1000:,.3f} s"
    )
    guard = (
        "no guard: the device saw all of the guest's memory" if mode == "open" else f"violations: {counts.violations:,}"
    )
    out.print(f"refused: {counts.refused:,}; {guard}; device restarts: {counts.device_restarts:,}")
    for trouble in counts.trouble:
        out.print(f"refused: {trouble}")


def served_document(mode: ServeMode, counts: ServeCounts) -> ServedBlocks:
    """The same for programs."""
    return ServedBlocks(
        mode=mode, requests=counts.requests, bytes=counts.carried, pages_opened=counts.pages_opened,
        max_open=counts.max_open, longest_open_ms=counts.longest_open_ms, refused=counts.refused,
        violations=counts.violations, device_restarts=counts.device_restarts, probed=counts.probed,
    )  # fmt: skip
