"""What DMA mappings cost at the border, for people and for programs."""

from rich.console import Console

from pagewarden.report.console import in_bytes, table
from pagewarden.report.documents.mappings import ComparedMappings
from pagewarden.studies.compare.mappings import MappingCounts
from pagewarden.workload.dma_mappings import DmaMappings


def print_mappings(load: DmaMappings, found: list[MappingCounts], out: Console) -> None:
    """All devices first: what bouncing all of it costs, and what opening each page for its device does."""
    whole = found[0]
    out.print(
        f"{load.name} ({load.format}): {whole.maps:,} mappings, {in_bytes(whole.bytes)}"
        f"{f'; {whole.bounced:,} were bounced' if load.origin.any() else ''}\n"
    )
    made = table("device", "maps", "copies", "copied", "misses", "flushes", "opened", "pages at most", "pinned at most")
    for one in found:
        made.add_row(
            one.device or "all", f"{one.maps:,}", f"{one.copies:,}", in_bytes(one.copied_bytes), f"{one.misses:,}",
            f"{one.invalidations:,}", f"{one.opened_pages:,}", f"{one.peak_pages:,}", in_bytes(one.peak_bytes),
        )  # fmt: skip
    out.print(made)
    out.print("\nbounced, each is copied when it is mapped, and once more at its end if the device fills it;")
    out.print("opened in an IOMMU, each page is a miss and an entry, and each end a flush;")
    out.print("`opened` counts a page that several mappings share at a time once.")
    if whole.open_byte_seconds is not None:
        out.print(f"open pages x time: {in_bytes(whole.open_byte_seconds)} x s")
    for note in load.notes:
        out.print(f"note: {note}")


def mappings_document(load: DmaMappings, found: list[MappingCounts]) -> ComparedMappings:
    """The same for programs."""
    return ComparedMappings(
        load=load.name, format=load.format, lost_events=load.lost, notes=list(load.notes),
        devices=found,
    )  # fmt: skip
