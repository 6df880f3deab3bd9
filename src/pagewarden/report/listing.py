"""Names and what they are, for people and for programs."""

from collections.abc import Mapping

from rich.console import Console

from pagewarden.report.console import table
from pagewarden.report.documents.base import Named, NameList


def print_names(found: Mapping[str, Mapping[str, str]], out: Console) -> None:
    """A table for each kind."""
    for number, (kind, names) in enumerate(found.items()):
        out.print(f"\n{kind}" if number else kind)
        made = table("", "", left=2)
        made.show_header, made.columns[1].no_wrap = False, False
        for name, about in names.items():
            made.add_row(f"  {name}", about)
        out.print(made)


def names_document(found: Mapping[str, Mapping[str, str]]) -> NameList:
    """The same for programs."""
    return NameList(kinds={kind: [Named(*each) for each in names.items()] for kind, names in found.items()})
