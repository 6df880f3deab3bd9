"""What a keeper did, for people and for programs."""

from rich.console import Console

from pagewarden.keep.keeper import KeepReport
from pagewarden.report.console import in_bytes
from pagewarden.report.documents.keep import KeptPages
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


def kept_document(report: KeepReport) -> KeptPages:
    """The same for programs."""
    counts = report.counts
    return KeptPages(
        vms=report.vms, ended=report.ended, restarts=report.restarts, hand_overs_refused=len(report.refused),
        faults=counts.get("faults", 0), pages=counts.get("pages", 0), pages_ahead=counts.get("pages_ahead", 0),
        pages_removed=counts.get("pages_removed", 0), pages_refused=counts.get("pages_refused", 0),
        retried=counts.get("retried", 0),
    )  # fmt: skip
