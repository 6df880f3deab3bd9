"""What a keeper did, for people and for programs."""

from collections.abc import Mapping, Sequence

from rich.console import Console

from pagewarden.keep.keeper import KeepReport
from pagewarden.keep.plain import SealedPages
from pagewarden.report.console import in_bytes
from pagewarden.report.documents.keep import KeptPages, SealedSnapshot
from pagewarden.report.live import LiveLine, Point
from pagewarden.vocab import PAGE_SIZE


def print_kept(report: KeepReport, out: Console) -> None:
    """The summary at the end."""
    document = kept_document(report)
    out.print(
        f"kept {document.vms:,} VMs: {document.faults:,} faults answered, {document.pages:,} pages "
        f"({in_bytes(document.pages * PAGE_SIZE)}), {document.pages_ahead:,} of them ahead of use"
    )
    out.print(
        f"removed: {document.pages_removed:,} pages; refused: {document.pages_refused:,}; pagers replaced: "
        f"{document.restarts:,}; VMs ended: {document.ended:,}"
    )
    for trouble in report.refused:
        out.print(f"refused: {trouble}")


class KeptLine(LiveLine):
    """What is there, and how fast it comes."""

    def __call__(self, sums: Mapping[str, int]) -> None:
        self.show(
            f"{sums['vms']:,} VMs, resident {in_bytes(sums['resident'] * PAGE_SIZE)}, "
            f"{self.rate(sums['faults']):,.0f} faults/s, set hit rate {hit_rate(sums):.0%}"
        )


def hit_rate(sums: Mapping[str, int]) -> float:
    """How well --replay does: of all pages that came, those that came ahead of a fault of their own."""
    return sums["pages_ahead"] / max(sums["pages_ahead"] + sums["faults"], 1)


def kept_document(report: KeepReport, over_time: Sequence[Point] = ()) -> KeptPages:
    """The same for programs."""
    counts = report.counts
    return KeptPages(
        vms=report.vms, ended=report.ended, restarts=report.restarts, hand_overs_refused=len(report.refused),
        faults=counts.get("faults", 0), pages=counts.get("pages", 0), pages_ahead=counts.get("pages_ahead", 0),
        pages_removed=counts.get("pages_removed", 0), pages_refused=counts.get("pages_refused", 0),
        retried=counts.get("retried", 0), over_time=list(over_time),
    )  # fmt: skip


def print_sealed(made: SealedSnapshot, out: Console) -> None:
    """What `keep seal` did."""
    out.print(
        f"sealed {made.pages_sealed:,} of {made.pages:,} pages ({in_bytes(made.pages_sealed * PAGE_SIZE)}) of "
        f"{made.plain} into {made.sealed} in {made.seconds:.3f} s, {in_bytes(int(made.bytes_per_s))}/s; "
        "the others are all zeroes"
    )


def sealed_document(plain: str, sealed: str, found: SealedPages, seconds: float) -> SealedSnapshot:
    """The same for programs."""
    return SealedSnapshot(
        plain=plain, sealed=sealed, pages=found.pages, pages_sealed=found.sealed, seconds=seconds,
        bytes_per_s=found.sealed * PAGE_SIZE / seconds,
    )  # fmt: skip
