"""`pagewarden sweep`."""

import sys
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from pagewarden.cli.given import Html, Json, PluginFile, place
from pagewarden.vocab import Unavailable, UserMistake


class GridFile(msgspec.Struct, forbid_unknown_fields=True):
    """What FILE.toml may say; paths are seen from where it lies."""

    policies: list[str] = msgspec.field(default_factory=lambda: ["hybrid"])
    profiles: list[str] = msgspec.field(default_factory=lambda: ["vmx-skylake"])
    designs: list[str] = []
    workloads: list[str] = []
    sizes: list[str] = []
    set: dict[str, list[str | int | float | bool]] = {}


def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="The grid: docs/sweep.md.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="FILE.csv or FILE.parquet, a row a point; none: FILE.csv.")
    ] = None,
    executor: Annotated[
        str, typer.Option(metavar="local|dask://HOST:PORT", help="Where the points are run.")
    ] = "local",
    plugin: PluginFile = None,
    html: Html = None,
    json: Json = False,
) -> None:
    """A grid over workloads, sizes, policies, profiles, designs, options and prices: a row a point, and who wins where.

    What is known is kept beside the result (FILE.part): the same command goes on after a kill.

    \b
    pagewarden sweep examples/sweep.toml --out sweep.csv
    pagewarden sweep examples/sweep.toml --out sweep.parquet --executor dask://127.0.0.1:8786
    """
    from pagewarden.check.many import workers
    from pagewarden.cli.progress import ProgressBars
    from pagewarden.report.pages import answer
    from pagewarden.report.sweep import print_sweep, swept
    from pagewarden.studies.sweep import SweepStopped, write_rows
    from pagewarden.studies.sweep import sweep as study

    target = out or file.with_suffix(".csv")
    if target.suffix not in (".csv", ".parquet"):
        raise UserMistake(f"--out {target}: expected a name that ends in .csv or .parquet")
    if target.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise Unavailable("Parquet needs the package pyarrow", "pip install 'pagewarden[sweep]', or give a FILE.csv")
    place(target)
    journal = target.with_name(target.name + ".part")
    tasks, identity = _tasks(file, plugin)
    try:
        with ProgressBars() as progress, workers(executor) as pool:
            rows = study(tasks, pool, journal, identity, progress.of("points"))
    except SweepStopped as stop:
        kept = f"{stop.kept:,} of {stop.points:,} points kept in {journal}"
        print(f"pagewarden: stopped: {kept}; the same command goes on", file=sys.stderr)
        raise
    write_rows(rows, target)
    journal.unlink()
    found = swept(rows, target, tasks)
    answer(lambda: found, lambda out: print_sweep(found, out), json, html)


def _tasks(file: Path, plugin: str | None) -> tuple[list[Any], bytes]:
    """What is to be run, and what makes it that."""
    from pagewarden.cli import platforms
    from pagewarden.cli.options import ABOUT, setup
    from pagewarden.cli.sizes import sizes
    from pagewarden.cost import load_profile
    from pagewarden.designs import DESIGNS
    from pagewarden.studies.sweep import SweepRow, SweepTask
    from pagewarden.workload import load, single

    try:
        given = file.read_bytes()
        grid = msgspec.toml.decode(given, type=GridFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserMistake(f"{file}: {error}; see docs/sweep.md") from error
    own = platforms.plugin(plugin)
    designs = platforms.designs_of(grid.designs or [*DESIGNS, *own.designs], own)
    loads = [(text, load(file.parent / text)) for text in grid.workloads]
    loads += [(str(size), single(size)) for text in grid.sizes for size in sizes(text)]
    if not loads:
        raise UserMistake(f"{file}: neither workloads nor sizes: there is nothing to sweep; see docs/sweep.md")
    lists = {"policies": grid.policies, "profiles": grid.profiles, **grid.set}
    if empty := next((name for name, values in lists.items() if not values), ""):
        raise UserMistake(f"{file}: {empty} is empty: a grid over nothing has no point")
    profiles = [(name, load_profile(name)) for name in grid.profiles]
    settings = {key: [_word(value) for value in values] for key, values in grid.set.items()}
    options = [key for key in settings if key in ABOUT and key != "cache"]
    prices = [key for key in settings if key not in options]
    tasks = []
    for (name, load_), policy, chosen in product(loads, grid.policies, product(*(settings[key] for key in options))):
        if not load_.requests:
            raise UserMistake(f"{file}: {name} has no requests")
        shared = dict(zip(options, chosen, strict=True))
        setups = []
        for (profile, known), priced in product(profiles, product(*(settings[key] for key in prices))):
            both = {**shared, **dict(zip(prices, priced, strict=True))}
            made = setup(platforms.policy_of(policy, own), known, [f"{key}={value}" for key, value in both.items()])
            inputs: SweepRow = {"workload": name, "requests": load_.requests, "bytes": load_.bytes, "policy": policy}
            setups.append(({**inputs, "profile": profile, **both}, made))
        tasks.append(SweepTask(load_, setups, designs))
    texts = [given, *(repr(each.prices).encode() for _, each in profiles), Path(plugin).read_bytes() if plugin else b""]
    texts += [part.tobytes() for _, load_ in loads for part in (load_.write, load_.offset, load_.length)]
    return tasks, b"\0".join(texts)


def _word(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
