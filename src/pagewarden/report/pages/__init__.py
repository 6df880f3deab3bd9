"""Pictures: one offline page a document, made of nothing but the document that `--json` prints.

`answer` and `save_page` may be imported; each other file holds the page of a verb, and `frame` what all of them share.
"""

from pagewarden.report.pages.registry import answer, save_page

__all__ = ["answer", "save_page"]
