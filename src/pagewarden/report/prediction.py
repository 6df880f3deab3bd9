"""Predicted against measured, for people and for programs."""

from math import isnan

from rich.console import Console

from pagewarden.report.compare import prices_of
from pagewarden.report.console import table
from pagewarden.report.documents.prices import Predicted, PredictedRequest, WrongOrder
from pagewarden.studies.calibrate.prediction import MEDIAN_AIM, WORST_AIM, Forecast, Prediction


def print_prediction(found: Prediction, out: Console) -> None:
    """A table a size, and how the aims were met."""
    out.print(f"{found.where}; profile {found.profile.name}; us a request, a guest's write")
    for size in found.sizes:
        made = table(
            "design",
            "predicted",
            "measured",
            "quartiles",
            "error",
            "shared by all",
            "error without",
            title=f"\n{size // 1024:,} KiB",
        )
        for row in found.of_size(size):
            made.add_row(*_cells(row))
        out.print(made)
        for cheaper, dearer in found.swapped(size):
            out.print(f"order: {cheaper} was predicted to be cheaper than {dearer}, and is not")
    if own := found.worst_own:
        out.print(
            f"\nof what a design adds to the I/O itself: median error {found.median_own_error:.1%} (aim: under "
            f"{MEDIAN_AIM:.0%}), worst {own.access_error:+.1%}, {own.design} at {own.bytes // 1024:,} KiB (aim: "
            f"{WORST_AIM:.0%} at most); {len(found.own)} of {len(found.rows)} "
            "rows, in the others it is less than the measurement scatters (-)"
        )
    worst = found.worst
    out.print(
        f"of all: median error {found.median_error:.1%} (aim: under {MEDIAN_AIM:.0%}), worst {worst.error:+.1%}, "
        f"{worst.design} at {worst.bytes // 1024:,} KiB (aim: {WORST_AIM:.0%} at most), "
        f"pairs in the wrong order: {sum(len(found.swapped(size)) for size in found.sizes)}"
    )


def _cells(row: Forecast) -> tuple[str, ...]:
    low, high = row.predicted
    predicted = _us(low) if low == high else f"{_us(low)}..{_us(high)}"
    without = f"{row.access_error:+.1%}" if row.access_error == row.access_error else "-"
    return (
        row.design,
        predicted,
        _us(row.measured.median),
        f"{_us(row.measured.low)}..{_us(row.measured.high)}",
        f"{row.error:+.1%}",
        _us(row.io),
        without,
    )


def _us(ns: float) -> str:
    return f"{ns / 1000:,.2f}"


def predicted(found: Prediction) -> Predicted:
    """The same for programs."""
    swapped = [WrongOrder(size, pair) for size in found.sizes for pair in found.swapped(size)]
    return Predicted(
        where=found.where, profile=found.profile.name, prices=prices_of(found.profile),
        rows=list(map(_request, found.rows)),
        median_error=found.median_error, worst_error=found.worst.error, wrong_order=swapped, good=found.good,
        median_own_error=None if isnan(found.median_own_error) else found.median_own_error,
        worst_own_error=own.access_error if (own := found.worst_own) else None,
    )  # fmt: skip


def _request(row: Forecast) -> PredictedRequest:
    measured = row.measured
    return PredictedRequest(
        design=row.design, bytes=row.bytes, predicted_ns_range=row.predicted, measured_ns=measured.median,
        measured_ns_quartiles=(measured.low, measured.high), samples=measured.samples, error=row.error,
        shared_ns=row.io, access_error=row.access_error,
    )  # fmt: skip
