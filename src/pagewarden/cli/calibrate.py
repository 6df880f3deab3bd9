"""`pagewarden calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from pagewarden.cli.given import Html, Json


def calibrate(
    name: Annotated[str, typer.Option(help="What the profile is called.")] = "this-host",
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="How long to measure, for each profile.")] = 5.0,
    busy: Annotated[
        bool, typer.Option("--busy/--no-busy", help="A second profile, NAME-busy, beside a busy thread.")
    ] = True,
    cpu: Annotated[str, typer.Option(help="Whose exits are the hops: auto, kvm, unicorn, none.")] = "auto",
    calls: Annotated[
        str, typer.Option(help="compiled: what a VMM in C pays; library: what this library pays, as `run` does.")
    ] = "compiled",
    html: Html = None,
    json: Json = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the profile goes; the default is your own directory.")
    ] = None,
) -> None:
    """Measure what this host charges for each event and write a price profile of it.

    \b
    pagewarden calibrate
    pagewarden compare --profile this-host
    pagewarden calibrate --no-busy --seconds 2 --cpu unicorn --out emulated.toml
    """
    from pagewarden.cli.progress import ProgressBars
    from pagewarden.report.calibrate import calibrated, print_calibrations
    from pagewarden.report.pages import answer
    from pagewarden.studies.calibrate.calibration import calibrate as study
    from pagewarden.studies.calibrate.calibration import places_of, save

    files = places_of(name, out, busy)
    with ProgressBars() as progress:
        made = [study(name, seconds, cpu=cpu, calls=calls, progress=progress)]
        if busy:
            made.append(study(f"{name}-busy", seconds, busy=True, cpu=cpu, calls=calls, progress=progress))
    places = [(path, save(each.profile, path)) for each, path in zip(made, files, strict=True)]
    answer(lambda: calibrated(made, places), lambda to: print_calibrations(made, places, out is None, to), json, html)
