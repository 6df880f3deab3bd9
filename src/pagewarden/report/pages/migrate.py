"""The page of `migrate`: how a guest went, or came, and the part of its run that was done on this side."""

from pagewarden.report.console import in_bytes
from pagewarden.report.documents.migrate import Migrated
from pagewarden.report.pages import run
from pagewarden.report.pages.frame import Panel, Sheet, table
from pagewarden.vocab import PAGE_SIZE


def page(found: Migrated) -> Sheet:
    """The move above the run."""
    here = run.page(found.run)
    size = f"{found.pages:,} pages ({in_bytes(found.pages * PAGE_SIZE)})"
    stood = None if found.downtime_s is None else found.downtime_s * 1000
    facts = [("pages that went", found.pages), ("copies", found.rounds), ("ms that the guest stood still", stood)]
    stayed, whole = f"The guest stayed: {found.why}", f"It stood for the whole copy: {found.not_followed}"
    return Sheet(
        f"pagewarden migrate: the {found.side}",
        f"The guest {'went' if found.side == 'source' else 'came'} with {size}." if found.moved else stayed,
        here.facts,
        [Panel("The move", whole if found.not_followed else "", html=table(("", "measured"), facts)), *here.sections],
    )
