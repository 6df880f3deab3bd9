"""The pages of `compare`: what each design costs, of what, from which size on."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pagewarden.report.compare import by_answer, facts, left_out, mostly_left_out, sentence, verdict
from pagewarden.report.console import in_bytes
from pagewarden.report.decide import COLUMNS, HOW, by_job, headline, to_measure
from pagewarden.report.documents.base import Pair
from pagewarden.report.documents.compare import Compared, ComparedSizes, Decided, DesignCost, Job, SizeCost
from pagewarden.report.pages.frame import Chart, Panel, Sheet, axis, chart, choice, chosen, paragraphs, table, told

US = 1e3
"""ns."""
DESIGN = axis("design", "design", "nominal", sort=None, legend={"symbolOpacity": 1})
COLOURS = 10
"""Of Vega's scheme tableau10, none of which repeats or is a lighter one's twin."""
BELOW = {"orient": "bottom", "columns": 6}


def page(found: Compared) -> Sheet:
    """Ranges of cost, what they are made of, break-even sizes, counts; each job alone."""
    load = found.workload
    sections = [
        Panel("Cost of a request", "From the lowest to the highest prices of the profile, without the device's own "
                "time.", _ranges(_cost(found.designs))),
        Panel("What it is made of", "The middle of each part's range; a part of an open price may be less or more.",
                _stack(found.designs)),
    ]  # fmt: skip
    if found.jobs:
        rows = [row | {"job": job.name} for job in found.jobs for row in _cost(job.designs)]
        picked = choice("job", "job", (job.name for job in found.jobs))
        alone = table(
            ("job", "requests", "the cheapest"),
            ((job.name, job.requests, verdict(job.cheapest, job.ties, _rivals(job))) for job in found.jobs), left=3,
        )  # fmt: skip
        sections.insert(0, Panel("Each job alone", html=alone))
        sections.append(Panel("Cost of a request of each job", chart=_ranges(rows, facet="job", picked=picked)))
    if found.break_even:
        sections.append(Panel("Break-even", "Request sizes from which, or until which, a design is the cheaper one: "
                                "at the prices that favour it most, and least.", html=_break_even(found)))  # fmt: skip
    skipped = (f"left out of the workload: {lines:,} x {reason}" for reason, lines in load.skipped.items())
    why = paragraphs([*left_out(found.designs, load.requests), *skipped, *(f"note: {note}" for note in found.notes)])
    return Sheet(
        f"pagewarden compare: {load.name}", _answer(found),
        " ".join([mostly_left_out(load.requests, load.skipped),
                  f"{load.requests:,} requests, {in_bytes(load.bytes)}; {facts(found)}"]).strip(),
        [*sections, Panel("Counts of a request", html=_counts(found.designs) + why)],
    )  # fmt: skip


def decided_page(found: Decided) -> Sheet:
    """Whether it is settled, in each job, and which prices would settle it."""
    rows = to_measure(found)
    sections = [Panel("Each job", html=table(("job", ""), by_job(found), left=2))] * bool(found.jobs)
    sections += [Panel("What to measure", HOW, html=table(COLUMNS, rows))] * bool(rows)
    return Sheet(
        f"pagewarden compare --decide: {found.workload}", headline(found),
        facts(found),
        [*sections, Panel("Notes", html=paragraphs(found.notes))] if found.notes else sections,
    )  # fmt: skip


def sizes_page(found: ComparedSizes) -> Sheet:
    """Cost against request size with a band for each design; where the cheapest one changes is marked."""
    rows = [row | {"bytes": one.bytes} for one in found.sizes for row in _cost(one.designs)]
    sizes = [one.bytes for one in found.sizes]
    turns: list[dict[str, Any]] = [
        {"bytes": now.bytes, "says": f"{now.cheapest} from {in_bytes(now.bytes)}"}
        for before, now in zip(found.sizes, found.sizes[1:], strict=False)
        if now.cheapest and now.cheapest != before.cheapest
    ]
    x = axis("bytes", "request, bytes", scale={"type": "log", "base": 2, "nice": False},
             axis={"values": sizes, "labelExpr": "datum.value >= 1048576 ? datum.value / 1048576 + ' MiB' : "
                   "datum.value >= 1024 ? datum.value / 1024 + ' KiB' : datum.value"})  # fmt: skip
    pick: dict[str, Any] = {"name": "picked", "select": {"type": "point", "fields": ["design"]}, "bind": "legend"}
    log = {"type": "log", "nice": False}
    faint = {"condition": {"param": "picked", "value": 1}, "value": 0.05}
    band = {"condition": {"param": "picked", "value": 0.22}, "value": 0.02}
    layers = [
        {"mark": "area", "params": [pick],
         "encoding": {"x": x, "y": axis("low", "us a request", scale=log), "y2": {"field": "high"}, "color": DESIGN,
                      "opacity": band}},
        {"mark": told("line", point=True),
         "encoding": {"x": x, "y": axis("middle", "us a request", scale=log), "color": DESIGN, "opacity": faint}},
    ]  # fmt: skip
    if turns:
        layers += [
            {"data": {"values": turns}, "mark": {"type": "rule", "strokeDash": [4, 3]}, "encoding": {"x": x}},
            {
                "data": {"values": turns},
                "mark": {"type": "text", "align": "left", "dx": 4, "y": 8},
                "encoding": {"x": x, "text": {"field": "says"}},
            },
        ]
    cheapest = table(
        ("request", "cheapest", "costs the same", "cheaper at some prices"),
        ((in_bytes(one.bytes), one.cheapest, ", ".join(one.ties), ", ".join(_rivals(one))) for one in found.sizes),
        left=4,
    )  # fmt: skip
    return Sheet(
        "pagewarden compare: by request size",
        f"The cheapest is {'; '.join([f'{found.sizes[0].cheapest} at {in_bytes(sizes[0])}', *map(_says, turns)])}.",
        f"one request of each size; {facts(found)}",
        [Panel("Cost against size", "A band is what open prices leave open. Click a name in the legend to see it "
                 "alone.", chart(rows, height=420, layer=layers)),
         Panel("The cheapest", html=cheapest + paragraphs(dict.fromkeys(_reasons(found))))],
    )  # fmt: skip


def _reasons(found: ComparedSizes) -> Iterator[str]:
    for one in found.sizes:
        yield from left_out(one.designs, 1)
    yield from (f"note: {note}" for note in found.notes)


def _answer(found: Compared) -> str:
    """In whole sentences; of experiments that have nothing to do with each other, which jobs have which answer."""
    if not (found.jobs and found.independent):
        return sentence(found.cheapest, found.ties, _rivals(found))
    some = by_answer((job.name, verdict(job.cheapest, job.ties, _rivals(job))) for job in found.jobs)
    first = found.jobs[0]
    same = f"{sentence(first.cheapest, first.ties, _rivals(first))[:-1]}, in each job."
    return same if len(some) == 1 else " ".join(["The cheapest one differs by job.", *some])


def _says(turn: dict[str, Any]) -> str:
    return str(turn["says"])


def _rivals(one: Compared | Job | SizeCost) -> list[str]:
    """Designs that are cheaper than the cheapest at some prices."""
    return [name for name in one.contenders if name != one.cheapest and name not in one.ties]


def _cost(designs: Iterable[DesignCost]) -> list[dict[str, Any]]:
    """A row a design that has a price, in us."""
    return [
        {"design": one.name, "low": one.ns_per_request_range[0] / US, "high": one.ns_per_request_range[1] / US,
         "middle": sum(one.ns_per_request_range) / 2 / US}
        for one in designs if one.ns_per_request_range is not None and not one.not_applicable
    ]  # fmt: skip


def _ranges(rows: list[dict[str, Any]], facet: str = "", picked: dict[str, Any] | None = None) -> Chart:
    """Bars from low to high, a tick in the middle."""
    x = axis("low", "us a request", scale={"zero": True})
    y = axis("design", "", "nominal", sort=None)
    layers = [
        {"mark": told("bar", opacity=0.55, height=14),
         "encoding": {"x": x, "x2": {"field": "high"}, "y": y, "color": DESIGN | {"legend": None}}},
        {"mark": {"type": "tick", "thickness": 2, "size": 14}, "encoding": {"x": axis("middle", "us a request"), "y": y,
         "color": {"value": "currentColor"}}},
    ]  # fmt: skip
    if not facet:
        return chart(rows, height={"step": 24}, layer=layers)
    plot = {"layer": layers, "width": 560, "height": {"step": 20}}
    made = chart(rows, params=[picked], transform=[chosen("job", facet)], spec=plot, columns=1,
                 facet=axis(facet, "", "nominal", sort=None))  # fmt: skip
    return {key: value for key, value in made.items() if key not in ("width", "autosize")}


def _stack(designs: Iterable[DesignCost]) -> Chart:
    """As many parts as there are colours that people tell apart; what is small everywhere is one, "other"."""
    shown = [one for one in designs if not one.not_applicable]
    most: dict[str, float] = {}
    for part, (low, high) in (each for one in shown for each in one.ns_by_price.items()):
        most[part] = max(most.get(part, 0), low + high)
    large = sorted(most, key=lambda part: -most[part])[: COLOURS if len(most) <= COLOURS else COLOURS - 1]
    rows = []
    for one in shown:
        sums: dict[str, Pair] = {}
        for part, (low, high) in one.ns_by_price.items():
            before = sums.get(name := part if part in large else "other", (0, 0))
            sums[name] = (before[0] + low, before[1] + high)
        rows += [
            {"design": one.name, "part": part, "us": (low + high) / 2 / US, "low": low / US, "high": high / US}
            for part, (low, high) in sums.items()
        ]
    domain = [part for part in [*large, "other"] if any(row["part"] == part for row in rows)]
    return chart(
        rows, height={"step": 24}, mark=told("bar"),
        encoding={"x": axis("us", "us a request"), "y": axis("design", "", "nominal", sort=None),
                  "color": axis("part", "", "nominal", scale={"scheme": "tableau10", "domain": domain}, legend=BELOW)},
    )  # fmt: skip


def _break_even(found: Compared) -> str:
    def size(kind: str, units: int | None) -> str:
        return kind if units is None else f"{kind} {in_bytes(units)}"

    return table(
        ("design", "against", "at best", "at worst"),
        ((one.design, one.against, *map(size, one.kinds, one.bytes_range)) for one in found.break_even), left=4,
    )  # fmt: skip


def _counts(designs: Sequence[DesignCost]) -> str:
    """Every event that some design has; what is refused, or does not apply, has none."""
    working = [one for one in designs if one.refusal is None and not one.not_applicable]
    keys = [key for key in (working[0].per_request if working else ()) if any(_plain(one, key) for one in working)]
    rows = [
        (one.name, *(_plain(one, key) if one in working else None for key in keys),
         "refused" if one.refusal else "does not apply" if one.not_applicable else "") for one in designs
    ]  # fmt: skip
    return table(("design", *(key.replace("_", " ") for key in keys), ""), rows)


def _plain(one: DesignCost, key: str) -> float:
    value = one.per_request.get(key, 0)
    return 0 if isinstance(value, dict) else value
