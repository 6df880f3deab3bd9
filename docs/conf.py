"""`make docs`: the pages as they lie in the clone, with their links, as one site by Sphinx and MyST."""

from pathlib import Path
from shutil import copytree

from sphinx.application import Sphinx

project = "pagewarden"
root_doc = "docs/index"
extensions = ["myst_parser"]
include_patterns = ["*.md", "docs/*.md", "examples/README.md"]
html_theme = "furo"
html_title = "pagewarden"
html_copy_source = False
myst_heading_anchors = 4
suppress_warnings = ["misc.highlighting_failure", "myst.xref_missing"]  # anchors: tests/docs


def setup(app: Sphinx) -> None:
    """The JSON Schemas lie where the pages say."""
    schemas = Path(__file__).with_name("schema")
    app.connect("build-finished", lambda *_: copytree(schemas, app.outdir / "docs/schema", dirs_exist_ok=True))
