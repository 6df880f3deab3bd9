"""The command line: one verb a file; `status` says how each ends."""

from typing import Annotated, NoReturn

import typer

from pagewarden import __version__
from pagewarden.cli.calibrate import calibrate
from pagewarden.cli.check import check
from pagewarden.cli.compare import compare
from pagewarden.cli.keep import keep
from pagewarden.cli.law import law
from pagewarden.cli.listing import listing
from pagewarden.cli.migrate import migrate
from pagewarden.cli.pool import pool
from pagewarden.cli.probe import probe
from pagewarden.cli.run import run
from pagewarden.cli.serve import serve
from pagewarden.cli.status import main_of, with_status
from pagewarden.cli.sweep import sweep

app = typer.Typer(
    help="fd-based private memory for virtual machines: what an I/O design costs, if it is safe, what a kernel does.",
    pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
for verb in (compare, sweep, check, law, probe, run, calibrate, pool):
    app.command()(with_status(verb))
app.command("list")(with_status(listing))
app.add_typer(keep, name="keep")
app.add_typer(migrate, name="migrate")
app.add_typer(serve, name="serve")


def _version(asked: bool) -> None:
    if asked:
        print(f"pagewarden {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _every_verb(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Which version this is.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


def main() -> NoReturn:
    """Entry point of the `pagewarden` command."""
    main_of(app)
