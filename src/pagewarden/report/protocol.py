"""What was found of a protocol beside the law's procedures, for people and for programs."""

from rich.console import Console

from pagewarden.check.protocol import ProtocolReport
from pagewarden.report.documents.check import CheckedProtocol, ProtocolProperty


def print_protocol(name: str, report: ProtocolReport, out: Console) -> None:
    """The guards that there are, each property, and the shortest way to where one breaks."""
    document = protocol_document(name, report)
    for guard, what in report.protocol.guards.items():
        out.print(f"{'without' if guard in document.without else 'with':8}{guard}: {what}")
    out.print(f"\n{report.states:,} states of {report.protocol.what}\n")
    for each in document.properties:
        out.print(f"{each.name} {each.verdict}: {each.promise}")
        for number, step in enumerate(each.way, 1):
            out.print(f"{number:5}  {step}")


def protocol_document(name: str, report: ProtocolReport) -> CheckedProtocol:
    """The same for programs."""
    protocol = report.protocol
    return CheckedProtocol(
        protocol=name,  # type: ignore[arg-type]  # one of them
        guards=[guard for guard in protocol.guards if guard in report.guards],
        without=[guard for guard in protocol.guards if guard not in report.guards],
        states=report.states, good=not report.ways,
        properties=[
            ProtocolProperty(each, promise, report.verdict(each), list(report.ways.get(each, ())))
            for each, promise in protocol.properties.items()
        ],
    )  # fmt: skip
