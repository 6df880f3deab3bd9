"""The command line: one verb a file. A user's mistake is one message and exit code 2; 1 means that the answer is no."""

import os
import sys
from typing import Annotated

import typer

from pagewarden import __version__
from pagewarden.cli.calibrate import calibrate
from pagewarden.cli.check import check
from pagewarden.cli.compare import compare
from pagewarden.cli.law import law
from pagewarden.cli.listing import listing
from pagewarden.cli.probe import probe
from pagewarden.cli.run import run
from pagewarden.vocab import InternalError, PagewardenError

app = typer.Typer(
    help="fd-based private memory for virtual machines: what an I/O design costs, if it is safe, what a kernel does.",
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None,
)  # fmt: skip
for verb in (compare, check, law, probe, run, calibrate):
    app.command()(verb)
app.command("list")(listing)


def _version(asked: bool) -> None:
    if asked:
        print(f"pagewarden {__version__}")
        raise typer.Exit


@app.callback()
def _every_verb(
    version: Annotated[
        bool, typer.Option("--version", help="Which version this is.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the `pagewarden` command."""
    try:
        app()
    except InternalError as bug:
        print(f"pagewarden: a bug: {bug}", file=sys.stderr)
        raise SystemExit(70) from bug
    except PagewardenError as error:
        print(f"pagewarden: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
