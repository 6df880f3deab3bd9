"""A migration, as one of its sides saw it, for people and for programs."""

from rich.console import Console

from pagewarden.report.console import in_bytes
from pagewarden.report.documents.migrate import Migrated
from pagewarden.report.run import one_run, print_run
from pagewarden.studies.migrate.plan import Migration
from pagewarden.vocab import PAGE_SIZE


def print_migration(found: Migration, out: Console) -> None:
    """How it went, and the part of the run that was done here."""
    print_run(found.run, out)
    size = f"{found.pages:,} pages ({in_bytes(found.pages * PAGE_SIZE)})"
    if not found.moved:
        out.print(f"\nThe guest stayed, and ran to its end here: {found.why}")
    elif found.downtime is None:
        out.print(f"\nThe guest came with {size}; this was the rest of its run.")
    else:
        out.print(
            f"\nThe guest went: {size} in {found.rounds} copies, and it stood still for {found.downtime * 1e3:,.1f} ms."
        )
    if found.not_followed:
        out.print(f"It stood for the whole copy: {found.not_followed}")


def migration_document(found: Migration) -> Migrated:
    """The same for programs."""
    return Migrated(
        side=found.side, moved=found.moved, why=found.why or None, pages=found.pages, rounds=found.rounds,
        downtime_s=found.downtime, not_followed=found.not_followed or None, run=one_run(found.run), good=found.good,
    )  # fmt: skip
