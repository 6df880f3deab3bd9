"""For the documents: the matrix, the threat model, and docs/traces.md, the way to each failure that the matrix has."""

from collections.abc import Iterator
from functools import cache

from pagewarden.check.explain import listing, tell
from pagewarden.check.many import workers
from pagewarden.check.matrix import PolicyVerdicts, column
from pagewarden.check.page.strangers import STRANGERS
from pagewarden.check.page.system import PROPERTIES, Setting
from pagewarden.check.verdict import check
from pagewarden.check.ways import Counterexample, ways
from pagewarden.law import APART, Policy
from pagewarden.law.properties import PROMISES
from pagewarden.report.check import by, seen_on

_HEAD = """# The ways to each failure

What `pagewarden check --matrix` says fails, policy by policy: the smallest sets of actors that break a property beside
one vCPU of the guest. The way with the fewest actors is told step by step, of a page with the guest's own data where it
is broken there; of the others, the operations that touch memory. `pagewarden check --policy P --stranger A,B` tells
those as well. Written by `python -m pagewarden.report.docs --all`.
"""
PolicyTold = tuple[PolicyVerdicts, list[str]]


@cache
def _policies() -> list[PolicyTold]:
    with workers() as pool:
        found: list[PolicyTold] = pool.map(_policy, list(APART.values()))
    return found


def _policy(policy: Policy) -> PolicyTold:
    report = check(Setting(policy), search="apart")
    found = ways(report)
    lines = [f"## {policy.name}", "", f"{policy.stands_for}; {_seen(policy)}; trusted: {policy.trusted}.", ""]
    for name, (first, *others) in found.items():
        lines += [f"### {policy.name}: {name}", "", f"{PROMISES[name]}; {first.steps} steps, by {by(first)}:", ""]
        lines += ["```text", *(line.rstrip() for line in listing(first.report, first.verdict)), "```", ""]
        lines += [f"- by {by(way)}, {way.steps} steps: {_operations(way)}" for way in others] + [""] * bool(others)
    return column(report, found), lines if found else []


def _operations(way: Counterexample) -> str:
    steps = tell(way.report, way.verdict)
    return ", ".join(step.text or "a late mapping" if step.move.op is None else step.move.op.key for step in steps)


def _seen(policy: Policy) -> str:
    return f"seen on Linux {', '.join(policy.asked)}" if policy.asked else "argued: no kernel was asked"


def page() -> str:
    """docs/traces.md: minutes."""
    return "\n".join([_HEAD, *(line for _, lines in _policies() for line in lines)]).rstrip() + "\n"


def matrix_table() -> str:
    """Properties by policies, each failure with a link to its trace: minutes."""
    columns = [line for line, _ in _policies()]
    names = [name for name in PROPERTIES if any(name in line.cells for line in columns)]
    lines = [_row("", *(f"`{line.policy.name}`" for line in columns)), _row(*["---"] * (len(columns) + 1))]
    lines.append(_row("seen on", *(seen_on(line.policy) for line in columns)))
    lines.append(_row("trusted", *(line.policy.trusted for line in columns)))
    lines += [_row(name, *(_cell(line, name) for line in columns)) for name in names]
    return "\n".join([*lines, _row("states", *(f"{line.states:,}" for line in columns))])


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(line: PolicyVerdicts, name: str) -> str:
    text = str(line.cells.get(name, "-"))
    if not (name in line.cells and line.cells[name].steps):
        return text
    return f"[{text}](docs/traces.md#{line.policy.name.replace('+', '')}-{name})"


def threat_model() -> str:
    """Who may do what: the actors of a check."""
    return "\n".join(["| actor | may |", "|---|---|", *_actors()])


def _actors() -> Iterator[str]:
    yield "| vCPU | load and store any page, fault, share and unshare, do I/O as the design's listing has it |"
    for name, ability in STRANGERS.items():
        yield f"| `{name}` | {ability.says} |"
