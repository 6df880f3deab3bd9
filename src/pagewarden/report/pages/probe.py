"""The page of `probe`: every way to touch a page, on every backing, in every state."""

from msgspec.json import encode

from pagewarden.report.documents.probe import EarlierTrial, MatrixTrial, Probed
from pagewarden.report.pages.frame import Panel, Sheet, axis, chart, choice, chosen, table, told

COLOURS = {
    "not tried": "#9aa4af", "refused": "#54a24b", "allowed": "#4c78a8", "no answer": "#f0b429", "torn": "#b279a2",
    "hang": "#9d755d", "leak": "#e45756",
}  # fmt: skip
"""By what came of it, the worst last, which is drawn on top of the others of its cell."""


def page(found: Probed) -> Sheet:
    """A heat map that can be filtered, what disagrees, what changed, what the kernel offers."""
    surprises = [trial for trial in found.matrix if trial.agrees is False]
    base = found.baseline
    rows = list(map(_row, [*found.matrix, *(base.matrix if base else ())]))
    places = dict.fromkeys(f"{row['backing']}: {row['state']}, " for row in rows)
    kernels = [found.kernel, *([f"{base.kernel} (baseline)"] if base else ())]  # side by side
    order = [place + kernel for place in places for kernel in kernels]
    columns = axis("column", "", "nominal", sort=order, axis={"labelAngle": -40, "orient": "top", "labelLimit": 400})
    kinds = {row["result"] for row in rows}
    domain = [kind for kind in COLOURS if kind in kinds]
    colour = axis("result", "result", "nominal", scale={"domain": domain, "range": [COLOURS[kind] for kind in domain]})
    filters = [
        {"name": "path", "value": "", "bind": {"input": "text", "name": "path contains ", "placeholder": "mremap"}},
        choice("kernel", "kernel", kernels),
        choice("backing", "backing", (row["backing"] for row in rows)),
        choice("state", "state", (row["state"] for row in rows)),
        choice("result", "result", domain),
        {"name": "surprises", "value": False, "bind": {"input": "checkbox", "name": "only what the law does not say "}},
    ]
    now, then = (encode(kernel).decode() for kernel in (kernels[0], kernels[-1]))
    transform = [
        {"as": "kernel", "calculate": f"datum.before ? {then} : {now}"},
        {"as": "column", "calculate": "datum.backing + ': ' + datum.state + ', ' + datum.kernel"},
        {"filter": "path == '' || indexof(datum.path, path) >= 0"}, {"filter": "!surprises || datum.agrees == 'no'"},
        *(chosen(name, name) for name in ("kernel", "backing", "state", "result")),
    ]  # fmt: skip
    heat = chart(
        sorted(rows, key=lambda row: domain.index(row["result"])), height={"step": 15}, params=filters,
        transform=transform,
        mark=told("rect", stroke="#8883"),
        encoding={"x": columns, "y": axis("path", "", "nominal"), "color": colour},
    )  # fmt: skip
    good = not (surprises or found.timeouts)
    sections = [Panel("Every trial", "The worst of a cell's trials is on top; point at one to see all of it.", heat)]
    if surprises:
        sections.insert(0, Panel("Not what the law says", html=table(
            ("path", "backing", "state", "result", "the law says"),
            ((t.path, t.backing, t.state, t.result, t.law) for t in surprises), left=5)))  # fmt: skip
    if base is not None:
        changes = [
            (kind, c.path, c.backing, c.state, c.before, c.now)
            for kind, some in (
                ("fixed", base.fixed),
                ("worse", base.worse),
                ("other", base.other),
                ("silent", base.silent),
            )
            for c in some
        ]
        sections.insert(0, Panel(f"Beside {base.kernel}", html=table(
            ("change", "path", "backing", "state", "before", "now"), changes, left=6)))  # fmt: skip
        good = base.good
    offers = table(("feature", "there", "why"), ((f.name, f.available, f.reason) for f in found.capabilities), left=3)
    return Sheet(
        f"pagewarden probe: Linux {found.kernel}",
        f"{'PASS' if good else 'FAIL'}: {len(found.matrix):,} trials, {found.disagreements:,} are not what the law "
        f"says, {found.timeouts:,} had no answer",
        f"{found.leaks:,} leaks, {found.untried:,} not tried; ran {found.where}",
        [*sections, Panel("What the kernel offers", html=offers)],
    )  # fmt: skip


def _row(trial: MatrixTrial | EarlierTrial) -> dict[str, str]:
    backing = f"{trial.backing}{', isolated' if trial.isolated else ''}"
    row = {
        "path": f"{trial.path} ({trial.direction})", "backing": backing, "state": trial.state,
        "result": _kind(trial.result), "errno": trial.errno or "",
    }  # fmt: skip
    if isinstance(trial, MatrixTrial):
        row |= {"agrees": "no", "law": trial.law or ""} if trial.agrees is False else {}
        row |= {"reason": trial.reason or ""}
    else:
        row["before"] = "yes"
    return {key: value for key, value in row.items() if value}


def _kind(result: str) -> str:
    return {"TIMEOUT": "no answer", "UNTRIED": "not tried"}.get(result, result.lower())
