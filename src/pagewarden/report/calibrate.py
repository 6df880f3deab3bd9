"""A calibration for people and for programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from pagewarden.cost.names import unit
from pagewarden.report.console import table
from pagewarden.studies.calibrate.calibration import Calibration


def print_calibrations(made: Sequence[Calibration], out: Console) -> None:
    """One table: the prices, the second calibration's medians beside those of the first."""
    first = made[0]
    out.print(first.profile.about + "\n")
    others = [f"{c.profile.name}" for c in made[1:]]
    shown = table("price", "", "median", "quartiles", "samples", *others, "what was timed", left=2)
    shown.columns[-1].justify, shown.columns[-1].no_wrap = "left", False
    for name, price in first.profile.prices.items():
        more = [str(c.profile.prices[name].value) if name in c.profile.prices else "-" for c in made[1:]]
        per = "ns/byte" if unit(name) == "ns_per_byte" else "ns"
        if name in first.found:
            spread = first.found[name].spread
            cells = [str(price.value), f"{spread.low:,.3g}..{spread.high:,.3g}", f"{spread.samples:,}"]
            shown.add_row(name, per, *cells, *more, first.found[name].what)
        else:
            shown.add_row(name, per, str(price.value), "", "", *more, price.why or price.source)
    out.print(shown)


def print_place(path: Path, profile: str, replaced: bool, out: Console) -> None:
    """Where a profile went."""
    out.print(f"\n{'replaced' if replaced else 'wrote'} {path}: pagewarden compare --profile {profile}")


def calibrations_json(made: Sequence[Calibration], places: Sequence[tuple[Path, bool]]) -> dict[str, Any]:
    """schema 1: as docs/json.md says."""
    return {
        "schema": 1,
        "verb": "calibrate",
        "profiles": [
            {
                "name": c.profile.name,
                "about": c.profile.about,
                "busy": c.busy,
                "cpu": c.cpu,
                "file": str(path),
                "replaced": replaced,
                "prices": [_price_json(c, name) for name in c.profile.prices],
            }
            for c, (path, replaced) in zip(made, places, strict=True)
        ],
    }


def _price_json(made: Calibration, name: str) -> dict[str, Any]:
    price, found = made.profile.prices[name], made.found.get(name)
    spread = None if found is None else found.spread
    return {
        "name": name,
        "unit": unit(name),
        "range": [price.value.low, price.value.high],
        "parameter": price.parameter,
        "median": spread and spread.median,
        "quartiles": spread and [spread.low, spread.high],
        "samples": spread.samples if spread else 0,
        "bend": found.bend if found else None,
        "source": price.source,
        "why": price.why,
    }
