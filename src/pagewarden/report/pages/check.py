"""The pages of `check`: the shortest way to each failure as a sequence diagram, and the matrix."""

from collections.abc import Sequence
from html import escape

from pagewarden.report.documents.check import Checked, Matrix, Property, TraceStep
from pagewarden.report.pages.frame import Panel, Sheet, axis, chart, choice, chosen, paragraphs, table, told

LANES = ("guest", "hypervisor", "host", "device")
HOSTILE = "Red: what the hostile host does."
VERDICTS = {"holds": "#54a24b", "fails": "#e45756", "open": "#f0b429", "-": "#9aa4af"}


def page(found: Checked) -> Sheet:
    """Every property, then a diagram for each that fails."""
    failed = [entry for entry in found.properties if entry.verdict == "fails"]
    rows = [
        (entry.name, entry.promise or entry.kind, entry.verdict, len(entry.trace) or None) for entry in found.properties
    ]
    absent = [(name, "", why, None) for name, why in found.absent.items()]
    notes = paragraphs(f"note: {note}" for note in found.notes)
    properties = table(("property", "promise", "verdict", "steps to the failure"), [*rows, *absent], left=3)
    if failed:
        answer = f"Fails: {', '.join(entry.name for entry in failed)}."
    else:
        answer = (
            "Everything that was asked holds." if found.exhausted else f"Not every state was seen: {found.stopped}."
        )
    levels = [{"depth": depth, "states": states} for depth, states in enumerate(found.states_by_depth)]
    growth = chart(
        levels, height=160, mark=told("bar"),
        encoding={"x": axis("depth", "steps from the start", bin={"binned": True, "step": 1}),
                  "y": axis("states", "states first seen")},
    )  # fmt: skip
    return Sheet(
        f"pagewarden check: {found.policy}, {found.design}", answer,
        f"{found.pages} page(s), {found.vcpus} vCPU(s): {found.states:,} states, {found.transitions:,} transitions, "
        f"depth {found.depth}, {found.seconds:.1f} s",
        [Panel("Properties", html=properties + notes), *(_diagram(entry) for entry in failed if entry.trace),
         Panel("How the states grow", "By the steps of a shortest way there.", growth)],
    )  # fmt: skip


def matrix_page(found: Matrix) -> Sheet:
    """Policies against properties, coloured by verdict; a number is the steps of the first way to a failure, below."""
    cells = {(column.policy, cell.name): cell for column in found.policies for cell in column.properties}
    anchors = {which: f"way-{number}" for number, which in enumerate(cells) if cells[which].trace}
    rows = [
        {"policy": which[0], "property": which[1], "verdict": cell.verdict if cell.at_stake else "-",
         "says": str(cell.steps or ""), **({"href": f"#{anchors[which]}"} if which in anchors else {})}
        for which, cell in cells.items()
    ]  # fmt: skip
    place = {"x": axis("policy", "", "nominal", sort=None, axis={"labelAngle": -40, "orient": "top"}),
             "y": axis("property", "", "nominal", sort=None)}  # fmt: skip
    color = axis("verdict", "verdict", "nominal", scale={"domain": list(VERDICTS), "range": list(VERDICTS.values())})
    layers = [
        {"mark": told("rect", stroke="#8884"),
         "encoding": {**place, "color": color, "href": {"field": "href"}}},
        {"mark": {"type": "text", "fontWeight": "bold"},
         "encoding": {**place, "text": {"field": "says"}, "color": {"value": "#000"}, "href": {"field": "href"}}},
    ]  # fmt: skip
    picked = [choice("policy", "policy", (column.policy for column in found.policies))]
    states = [{"policy": column.policy, "states": column.states} for column in found.policies]
    failing = sum(any(cell.verdict == "fails" for cell in column.properties) for column in found.policies)
    return Sheet(
        "pagewarden check --matrix",
        f"{len(found.policies) - failing} of {len(found.policies)} policies hold everything that they offer.",
        f"not asked, as it was interrupted: {', '.join(found.unknown)}" if found.unknown else "one page, all who act",
        [Panel("Verdicts", "The number is the steps of the first way to a failure: click it to see them.",
               chart(rows, height={"step": 26}, params=picked, transform=[chosen("policy", "policy")], layer=layers)),
         Panel("States explored", chart=chart(
             states, height={"step": 20}, mark=told("bar"),
             encoding={"x": axis("states", "states"), "y": axis("policy", "", "nominal", sort="-x")})),
         *(Panel(f"{policy}: {name} fails, {cells[policy, name].steps} steps", HOSTILE,
                 html=_lanes(cells[policy, name].trace), anchor=anchor)
           for (policy, name), anchor in anchors.items())],
    )  # fmt: skip


def _diagram(entry: Property) -> Panel:
    way, *others = entry.ways
    ends = [f"In the end: {way.wrong}.", *(f"Missing: {each}." for each in way.missing)]
    ends += [f"Also: {' and '.join(other.actors)}, {other.steps} steps." for other in others]
    said = "".join(f"<p>{escape(each)}</p>" for each in ends)
    title = f"{entry.name} fails, {len(way.trace)} steps"
    return Panel(title, HOSTILE, html=_lanes(way.trace) + said)


def _lanes(trace: Sequence[TraceStep]) -> str:
    heads = "".join(f'<th class="left">{lane}</th>' for lane in LANES)
    body = "".join(_step(number, step) for number, step in enumerate(trace, 1))
    return f'<table class="lanes"><thead><tr><th></th>{heads}</tr></thead><tbody>{body}</tbody></table>'


def _step(number: int, step: TraceStep) -> str:
    lane = lane_of(step)
    who, _, how = step.actor.partition(", ")
    kind = "act" if "vCPU" in how or who != "host" else "act hostile"
    text = (
        f'<td class="{kind}" title="{escape(step.rule)}">{escape(step.action)}'
        f"<small>{escape(how or who)}: {escape(step.effect)}</small></td>"
    )
    cells = "".join(text if name == lane else "<td></td>" for name in LANES)
    return f"<tr><td>{number}</td>{cells}</tr>"


def lane_of(step: TraceStep) -> str:
    """Whose lane a step is in: its actor's world; what a device does for the host is the device's."""
    if "device reads" in step.action or "device writes" in step.action:
        return "device"
    who = step.actor.partition(",")[0]
    return who if who in LANES else "host"
