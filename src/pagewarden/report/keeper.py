"""What was found of the protocol of a page keeper, for people and for programs."""

from rich.console import Console

from pagewarden.check.keeper import GUARDS, KEEPER_PROPERTIES, KeeperReport
from pagewarden.report.documents.check import CheckedKeeper, KeeperProperty


def print_keeper(report: KeeperReport, out: Console) -> None:
    """The guards that there are, each property, and the shortest way to where one breaks."""
    document = keeper_document(report)
    for name, what in GUARDS.items():
        out.print(f"{'without' if name in document.without else 'with':8}{name}: {what}")
    out.print(f"\n{report.states:,} states of a page, its VMM, its keeper, the events between them, and two crashes\n")
    for each in document.properties:
        out.print(f"{each.name} {each.verdict}: {each.promise}")
        for number, step in enumerate(each.way, 1):
            out.print(f"{number:5}  {step}")


def keeper_document(report: KeeperReport) -> CheckedKeeper:
    """The same for programs."""
    properties = [
        KeeperProperty(name, promise, report.verdict(name), list(report.ways.get(name, ())))
        for name, promise in KEEPER_PROPERTIES.items()
    ]
    return CheckedKeeper(
        guards=[name for name in GUARDS if name in report.guards],
        without=[name for name in GUARDS if name not in report.guards],
        states=report.states, good=not report.ways, properties=properties,
    )  # fmt: skip
