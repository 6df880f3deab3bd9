"""A calibration for people and for programs."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pagewarden.cost.names import unit
from pagewarden.cost.profile import Price
from pagewarden.report.console import table
from pagewarden.report.documents.prices import Calibrated, MadeProfile, MeasuredPrice
from pagewarden.studies.calibrate.calibration import Calibration
from pagewarden.studies.calibrate.scripts import PriceFound


def print_calibrations(
    made: Sequence[Calibration], places: Sequence[tuple[Path, bool]], by_name: bool, out: Console
) -> None:
    """One table, the prices, the second calibration's medians beside those of the first; and where each profile went,
    by the name of which it is found, or by its file."""
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
    for each, (path, replaced) in zip(made, places, strict=True):
        profile = each.profile.name if by_name else path
        out.print(f"\n{'replaced' if replaced else 'wrote'} {path}: pagewarden compare --profile {profile}")


def calibrated(made: Sequence[Calibration], places: Sequence[tuple[Path, bool]]) -> Calibrated:
    """The same for programs."""
    return Calibrated(profiles=[_profile(each, *place) for each, place in zip(made, places, strict=True)])


def _profile(made: Calibration, path: Path, replaced: bool) -> MadeProfile:
    profile = made.profile
    return MadeProfile(
        name=profile.name, about=profile.about, busy=made.busy, cpu=made.cpu, file=str(path), replaced=replaced,
        prices=[_price(price, made.found.get(name)) for name, price in profile.prices.items()],
    )  # fmt: skip


def _price(price: Price, found: PriceFound | None) -> MeasuredPrice:
    spread = None if found is None else found.spread
    return MeasuredPrice(
        name=price.name, unit=unit(price.name), range=price.value, parameter=price.parameter,
        median=spread.median if spread else None, quartiles=(spread.low, spread.high) if spread else None,
        deciles=list(spread.deciles) if spread else None,
        samples=spread.samples if spread else 0, bend=found.bend if found else None, source=price.source, why=price.why,
    )  # fmt: skip
