"""Which page belongs to which document."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden.report.console import write

if TYPE_CHECKING:
    from pagewarden.report.documents.base import Document

PAGES = {
    "Compared": "compare.page", "ComparedSizes": "compare.sizes_page", "Checked": "check.page",
    "Matrix": "check.matrix_page", "Probed": "probe.page", "OneRun": "run.page", "AllDesigns": "run.designs_page",
    "CheckedCounts": "run.counts_page", "Predicted": "prices.predicted_page", "Calibrated": "prices.page",
    "PoolSize": "pool.page", "ServedBlocks": "serve.page", "KeptPages": "serve.kept_page",
}  # fmt: skip
"""By the document's class: the file and the function that make its page."""


def save_page(file: Path | None, document: "Callable[[], Document]") -> None:
    """Write the page of a document where the user asked for one; `Unavailable` without the library that draws."""
    if file is None:
        return
    from pagewarden.report.pages.frame import html

    made = document()
    module, name = PAGES[type(made).__name__].split(".")
    write(file, html(getattr(import_module(f"pagewarden.report.pages.{module}"), name)(made), made))
