"""`pagewarden migrate`."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from pagewarden.cli.given import Html, Json
from pagewarden.cli.status import with_status

if TYPE_CHECKING:
    from pagewarden.studies.migrate.plan import Migration
    from pagewarden.studies.run.plan import RunPlan
    from pagewarden.workload import Workload

migrate = typer.Typer(
    help="A guest, like the one of `run`, goes to another process while it runs.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
SameLoad: TypeAlias = Annotated[Path | None, typer.Argument(help="As of `run`: the same on both sides.")]
SameDisk: TypeAlias = Annotated[
    Path, typer.Option(metavar="FILE", help="The guest's disk, which both sides reach; `receive` makes it, all zeroes.")
]
SameDesign: TypeAlias = Annotated[str, typer.Option(help="As of `run`: the same on both sides.")]
OwnCpu: TypeAlias = Annotated[str, typer.Option(help="auto, unicorn or kvm; each side its own.")]
SameRequests: TypeAlias = Annotated[
    int | None, typer.Option(min=1, max=1 << 24, metavar="N", help="Only the first N requests.")
]


@migrate.command()
@with_status
def send(
    to: Annotated[str, typer.Option(metavar="WHERE", help="HOST:PORT, or the path of a Unix socket.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="32 bytes, which both sides have.")],
    disk: SameDisk,
    workload: SameLoad = None,
    requests: SameRequests = None,
    design: SameDesign = "window",
    cpu: OwnCpu = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="What is on the disk may be lost.")] = False,
    downtime: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="SECONDS", help="It stays here if it writes so fast that it would stand longer."),
    ] = None,
    html: Html = None,
    json: Json = False,
) -> None:
    """Run a guest, and move it meanwhile to `migrate receive`, sealed: pages first, then what it wrote, then the rest.

    It waits behind its last doorbell but one, if it comes that far before. Where it cannot go it runs to its end here,
    and the status is 2. Of a guest that went nothing stays here.

    \b
    pagewarden migrate send --to /run/vm/move.sock --key guest.key --disk disk.img
    pagewarden migrate send --to host.example:7000 --key guest.key --disk /mnt/shared/disk.img --requests 5000
    """
    from pagewarden.cli.progress import ProgressBars
    from pagewarden.cli.run_modes import requests as drawn
    from pagewarden.keep.snapshot import read_key
    from pagewarden.kernel.listening import connected
    from pagewarden.studies.migrate.source import migrate as moved
    from pagewarden.studies.run.disk import open_disk

    secret = read_key(key)
    with ProgressBars() as progress:
        chosen = drawn(workload, requests, False, progress)
        with open_disk(chosen, disk, overwrite, source=workload) as opened:
            found = moved(
                _plan(design, cpu, chosen), chosen, opened, secret, lambda: connected(to, 10.0),
                tell=progress.of("pages"), say=_say, longest=math.inf if downtime is None else downtime,
            )  # fmt: skip
    _end(found, json, html)


@migrate.command()
@with_status
def receive(
    at: Annotated[str, typer.Option(metavar="WHERE", help="HOST:PORT (0: any), or the path of a Unix socket.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="32 bytes, which both sides have; made where none are.")],
    tickets: Annotated[Path, typer.Option(metavar="DIR", help="Who came and who did not is written there, and stays.")],
    disk: SameDisk,
    workload: SameLoad = None,
    requests: SameRequests = None,
    design: SameDesign = "window",
    cpu: OwnCpu = "auto",
    verify: Annotated[bool, typer.Option("--verify", help="Compare the disk and the last buffers, too.")] = False,
    html: Html = None,
    json: Json = False,
) -> None:
    """Wait for a guest of `migrate send`, and run what is left of it.

    Who comes without the key is refused, said in a line, and waited is on. Sources that could not hear whether their
    guest has come are answered, also by another process with the same tickets.

    \b
    pagewarden migrate receive --at /run/vm/move.sock --key guest.key --tickets moved --disk disk.img
    pagewarden migrate receive --at 0.0.0.0:7000 --key guest.key --tickets moved --disk /mnt/shared/disk.img --verify
    """
    from pagewarden.cli.progress import ProgressBars
    from pagewarden.cli.run_modes import requests as drawn
    from pagewarden.keep.moving import Tickets
    from pagewarden.keep.snapshot import read_key
    from pagewarden.kernel.listening import listening_at
    from pagewarden.studies.migrate.destination import arrive
    from pagewarden.studies.run.disk import open_disk

    secret = read_key(key, make=True)
    with ProgressBars() as progress:
        chosen = drawn(workload, requests, False, progress)
    with (
        open_disk(chosen, disk, True, source=workload, make=True, take=False) as opened,
        listening_at(at) as (listener, where),
    ):
        _say(f"waiting for a guest at {where}")
        found = arrive(_plan(design, cpu, chosen, verify), chosen, opened, secret, Tickets(tickets), listener, say=_say)
    _end(found, json, html)


def _plan(design: str, cpu: str, workload: "Workload", verify: bool = False) -> "RunPlan":
    from pagewarden.studies.run.plan import DEEPEST, RunPlan

    return RunPlan(design, cpu=cpu, verify=verify, batch=min(workload.depth, DEEPEST))


def _say(what: str) -> None:
    print(f"pagewarden: {what}", file=sys.stderr, flush=True)


def _end(found: "Migration", json: bool, html: Path | None) -> None:
    from pagewarden.report.migrate import migration_document, print_migration
    from pagewarden.report.pages import answer

    answer(lambda: migration_document(found), lambda out: print_migration(found, out), json, html)
    if not found.moved:
        _say(f"the guest did not move: {found.why}")
    if found.status:
        raise typer.Exit(found.status)
