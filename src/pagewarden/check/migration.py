"""The protocol of a VM's live migration: its source, its destination, the wire, conversions, and crashes.

What is modelled is keep/moving (messages.py says who owns the VM when): the pages go while the guest runs, it stops,
the rest goes with what is shared, and one step decides, the destination's ticket. What has been sent may come late,
also over a wire that is cut; a destination that was killed is started again with its tickets, and asked.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from pagewarden.check.protocol import KeptGuards, Protocol

GUARDS = {
    "stands-in-doubt": "a source that has sent all and heard nothing does not run: it asks",
    "never-written": "a destination writes down that it never takes the VM before it says so",
    "taken-written": "it writes down that it has taken it before it runs it, or says so",
    "conversions-wait": "from when the rest is copied until it is decided nothing changes hands",
}
MIGRATION_PROPERTIES = {
    "never-both": "the VM runs on one side, and never again on the other",
    "never-neither": "a source lets go of what the destination has taken alone",
    "nothing-lost": "what arrives is shared, and private, as it was at the source",
    "progress": "a source in doubt hears where its VM is, if whoever is alive goes on",
}


class MovingState(NamedTuple):
    """Both sides, and what is between them."""

    source: Literal["runs", "stands", "sent", "doubt", "gone"] = "runs"
    destination: Literal["coming", "took", "taken", "refused", "dead"] = "coming"
    ticket: Literal["", "taken", "never"] = ""
    last: bool = False
    """The last record is on its way."""
    answer: Literal["", "taken", "no"] = ""
    cut: bool = False
    shared: bool = False
    """Has the page changed hands at the source ..."""
    copied: bool = False
    """... in what was copied ..."""
    arrived: bool | None = None
    """... and in what runs at the destination."""
    ran_there: bool = False
    crashed: bool = False


def after(s: MovingState, guards: KeptGuards) -> Iterator[tuple[str, str, MovingState]]:
    """What may happen next: who does it, what it is, and the state after it."""
    yield from (("source", *step) for step in _by_the_source(s, guards))
    yield from (("destination", *step) for step in _by_the_destination(s, guards))
    frozen = s.source in ("sent", "doubt") and "conversions-wait" in guards
    if not s.shared and s.source != "gone" and not frozen:
        yield "guest", "a page changes hands", s._replace(shared=True)
    if not s.cut:
        yield "wire", "is cut", s._replace(cut=True, answer="")
    if not s.crashed and s.destination != "dead":
        yield (
            "crash",
            "the destination dies",
            s._replace(destination="dead", crashed=True, cut=True, answer="", last=False),
        )


def _by_the_source(s: MovingState, guards: KeptGuards) -> Iterator[tuple[str, MovingState]]:
    if s.source == "runs" and not s.cut:
        yield "stops the guest", s._replace(source="stands")
    elif s.source == "stands":
        yield "sends the rest, and what is shared", s._replace(source="sent", copied=s.shared)
    elif s.source == "sent" and not s.cut:
        yield "sends the last record", s._replace(source="doubt", last=True)
    elif s.source == "doubt" and s.answer:
        yield _heard(s, s.answer)
    elif s.source == "doubt" and s.cut:
        if "stands-in-doubt" not in guards:
            yield "hears nothing, and runs the guest", s._replace(source="runs")
        elif s.ticket == "taken":
            yield "asks, and hears that the VM is taken", s._replace(source="gone")
        else:
            ticket = "never" if "never-written" in guards else s.ticket
            yield "asks, and hears that the VM is not taken", s._replace(source="runs", ticket=ticket)
    if s.source in ("stands", "sent") and s.cut:
        yield "runs the guest again", s._replace(source="runs")


def _heard(s: MovingState, answer: str) -> tuple[str, MovingState]:
    if answer == "taken":
        return "hears that the VM is taken, and scrubs it", s._replace(source="gone", answer="")
    return "hears no, and runs the guest again", s._replace(source="runs", answer="")


def _by_the_destination(s: MovingState, guards: KeptGuards) -> Iterator[tuple[str, MovingState]]:
    if s.destination == "coming" and s.last:
        if s.ticket == "never":
            yield "finds that it said never", s._replace(destination="refused", last=False)
        elif "taken-written" in guards:
            took = s._replace(destination="taken", ticket="taken", last=False, arrived=s.copied, ran_there=True)
            yield "writes `taken`, runs the guest and says so", took._replace(answer="" if s.cut else "taken")
        else:
            took = s._replace(destination="took", last=False, arrived=s.copied, ran_there=True)
            yield "runs the guest and says so", took._replace(answer="" if s.cut else "taken")
    elif s.destination == "coming" and s.cut:
        yield "gives up", s._replace(destination="refused", ticket=s.ticket or "never", last=False)
    elif s.destination == "took" and not s.ticket:
        yield "writes `taken`", s._replace(destination="taken", ticket="taken")


def _broken(s: MovingState) -> str | None:
    if s.source == "runs" and s.ran_there:
        return "never-both"
    if s.source == "gone" and not s.ran_there:
        return "never-neither"
    return "nothing-lost" if s.arrived is not None and s.arrived != s.shared else None


MIGRATION = Protocol(
    "a VM, its source, its destination, the wire between them, and a crash of the destination", GUARDS,
    MIGRATION_PROPERTIES, MovingState(), after, _broken, lambda s: s.source == "doubt",
    frozenset({"guest", "crash", "wire"}),
)  # fmt: skip
