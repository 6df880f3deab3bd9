"""The pages of `calibrate` and of `run --predict`: what was timed, and how well it predicts."""

from typing import Any

from pagewarden.report.documents.prices import Calibrated, Predicted
from pagewarden.report.pages.frame import Panel, Sheet, axis, chart, choice, chosen, table, told

LOG = {"type": "log"}


def page(found: Calibrated) -> Sheet:
    """Each price: median, quartiles, and how its samples are distributed; idle beside busy."""
    rows = [
        {"profile": made.name, "price": price.name, "unit": price.unit.replace("_per_", "/"), "median": price.median,
         "low": price.quartiles[0], "high": price.quartiles[1], "samples": price.samples, "bend": price.bend}
        for made in found.profiles for price in made.prices if price.quartiles is not None and price.quartiles[0] > 0
    ]  # fmt: skip
    y = {"y": axis("price", "", "nominal", sort=None), "yOffset": {"field": "profile"}}
    whose = {"color": axis("profile", "profile", "nominal")}
    times = chart(
        rows, height={"step": 11}, params=[choice("unit", "unit", (str(row["unit"]) for row in rows))],
        transform=[chosen("unit", "unit")],
        layer=[
            {"mark": told("bar", opacity=0.6, height=8),
             "encoding": {"x": axis("low", "ns, or ns a byte", scale=LOG), "x2": {"field": "high"}, **y, **whose}},
            {"mark": {"type": "tick", "size": 10, "thickness": 2},
             "encoding": {"x": axis("median", "", scale=LOG), **y, "color": {"value": "currentColor"}}},
        ],
    )  # fmt: skip
    tenths = [
        {"profile": made.name, "price": price.name, "ns": ns, "share": place / 10}
        for made in found.profiles for price in made.prices for place, ns in enumerate(price.deciles or ())
    ]  # fmt: skip
    names = list(dict.fromkeys(str(row["price"]) for row in tenths))
    spread = chart(
        tenths, height=230, params=[{"name": "price", "value": names[0] if names else "",
                                     "bind": {"input": "select", "name": "price ", "options": names}}],
        transform=[{"filter": "datum.price == price && (datum.ns > 0)"}], mark=told("line", point=True),
        encoding={"x": axis("ns", "ns, or ns a byte", scale=LOG | {"nice": False}),
                  "y": axis("share", "samples that took at most so long", axis={"format": "%"},
                            scale={"domain": [0, 1]}),
                  **whose},
    )  # fmt: skip
    guessed = [
        (made.name, price.name, price.why or price.source, *price.range)
        for made in found.profiles for price in made.prices if price.quartiles is None
    ]  # fmt: skip
    sections = [
        Panel("What was timed", "From the lower to the upper quartile; a line is the median.", times),
        Panel("How the samples of a price are distributed", "From the least to the most by tenths.", spread),
    ]
    if guessed:
        sections.append(Panel("What was not timed", html=table(("profile", "price", "why", "from", "to"), guessed, 3)))
    return Sheet(
        "pagewarden calibrate", f"{len(rows):,} prices measured on this host.",
        "; ".join(f"{made.name}: {made.about}; {made.file}" for made in found.profiles), sections,
    )  # fmt: skip


def predicted_page(found: Predicted) -> Sheet:
    """Predicted against measured time of a request; on the diagonal they are the same."""
    rows = [
        {"design": row.design, "bytes": row.bytes, "low": row.predicted_ns_range[0] / 1e3,
         "high": row.predicted_ns_range[1] / 1e3, "predicted": sum(row.predicted_ns_range) / 2e3,
         "measured": row.measured_ns / 1e3, "error": f"{row.error:+.1%}"}
        for row in found.rows
    ]  # fmt: skip
    ends: list[Any] = [value for row in rows for value in (row["measured"], row["predicted"])]
    line = [{"predicted": end, "measured": end} for end in (min(ends), max(ends))] if ends else []
    x = axis("measured", "measured, us", scale=LOG)
    colour = axis("design", "design", "nominal", sort=None)
    dots = chart(
        rows, height=420, params=[choice("design", "design", (row.design for row in found.rows))],
        transform=[chosen("design", "design")],
        layer=[
            {"mark": "rule", "encoding": {"x": x, "y": axis("low", "predicted, us", scale=LOG), "y2": {"field": "high"},
                                          "color": colour}},
            {"mark": told("point", filled=True, size=60),
             "encoding": {"x": x, "y": axis("predicted", "predicted, us", scale=LOG), "color": colour}},
            {"data": {"values": line}, "mark": {"type": "line", "strokeDash": [4, 3], "color": "#9aa4af"},
             "encoding": {"x": x, "y": axis("predicted", "predicted, us", scale=LOG)}},
        ],
    )  # fmt: skip
    wrong = [(one.bytes, *one.designs) for one in found.wrong_order]
    return Sheet(
        "pagewarden run --predict",
        f"{'All aims were met' if found.good else 'NOT all aims were met'}: the median error is "
        f"{found.median_error:.1%}, the worst {found.worst_error:.1%}.",
        f"{found.where}; profile {found.profile}",
        [Panel("Predicted against measured", chart=dots),
         Panel("Orders that were predicted wrong", html=table(
             ("bytes", "predicted cheaper", "measured cheaper"), wrong, 3) if wrong else "<p>None.</p>")],
    )  # fmt: skip
