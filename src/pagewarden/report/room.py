"""The room of an untrusted host side as text and as JSON."""

from rich.console import Console

from pagewarden.report.documents.probe import RoomCall, RoomFound, RoomPart
from pagewarden.studies.probe.room import Room


def print_room(found: RoomFound, out: Console) -> None:
    """The answer first, then what is there, then the calls."""
    if found.broken:
        out.print(f"NO: isolated=True is not to be had here: {'; '.join(found.broken)}.", markup=False)
    else:
        out.print("YES: an untrusted host side can be kept apart here (isolated=True).")
    out.print("\nThe room, and what each part keeps the host side from:")
    for part in found.parts:
        out.print(f"  {part.name}: {part.state}; {part.against}", markup=False, highlight=False)
    out.print(f"\nThe {len(found.calls)} system calls that it may make; every other is EPERM:")
    for call in found.calls:
        condition = f" [{call.condition}]" if call.condition else ""
        out.print(f"  {call.name}{condition}: {call.reason}", markup=False, highlight=False)


def room_found(found: Room) -> RoomFound:
    """The same for programs."""
    return RoomFound(
        holds=not found.broken,
        broken=list(found.broken),
        parts=[RoomPart(*part) for part in found.parts],
        calls=[RoomCall(*call) for call in found.calls],
    )
