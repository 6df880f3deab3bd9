"""Which page belongs to which document."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden.report.console import console, print_document, write

if TYPE_CHECKING:
    from rich.console import Console

    from pagewarden.report.documents.base import Document

PAGES = {
    "Compared": "compare.page", "ComparedSizes": "compare.sizes_page", "Decided": "compare.decided_page",
    "Checked": "check.page",
    "Matrix": "check.matrix_page", "Probed": "probe.page", "OneRun": "run.page", "AllDesigns": "run.designs_page",
    "CheckedCounts": "run.counts_page", "Predicted": "prices.predicted_page", "Calibrated": "prices.page",
    "PoolSize": "pool.page", "ServedBlocks": "serve.page", "KeptPages": "serve.kept_page",
    "Swept": "sweep.page", "Migrated": "migrate.page",
}  # fmt: skip
"""By the document's class: the file and the function that make its page."""


def answer(
    document: "Callable[[], Document]", show: "Callable[[Console], object]", json: bool, html: Path | None = None
) -> None:
    """A verb's answer: its page where the user asked for one, then the document, or what `show` prints for people."""
    save_page(html, document)
    if json:
        print_document(document())
    else:
        show(console())


def save_page(file: Path | None, document: "Callable[[], Document]") -> None:
    """Write the page of a document where the user asked for one; `Unavailable` without the library that draws."""
    if file is None:
        return
    from pagewarden.report.pages.frame import html

    made = document()
    module, name = PAGES[type(made).__name__].split(".")
    write(file, html(getattr(import_module(f"pagewarden.report.pages.{module}"), name)(made), made))
