"""The checker's answers for people and for programs."""

from itertools import accumulate

from rich.console import Console

from pagewarden.check.explain import in_words, listing
from pagewarden.check.many import PolicyMatrix, PolicyVerdicts
from pagewarden.check.minimal import Minimal
from pagewarden.check.page.system import PROPERTIES, CheckedSystem, Setting
from pagewarden.check.search.explorer import FILL, ORDER, PARENT, SLOT, SoFar
from pagewarden.check.verdict import Report, Verdict
from pagewarden.report.console import in_bytes, table
from pagewarden.report.documents.check import Cell, Checked, Column, Matrix, MinimalSets, Property, TraceStep

RATE = 2_000_000
"""States a second to expect, in round figures; what a machine really does is printed at the end."""


WIDEST = 120
"""Columns of text that a matrix takes, also where there is no terminal to ask."""
MOST_DIGITS = len("10,000,000")
"""Of a number of states, which is the widest thing in a column of the matrix beside its name."""


def announcement(setting: Setting, checked: CheckedSystem | None, together: bool) -> str:
    """What will be explored, before it starts; of one page alone nothing is known before."""
    text = f"{setting.policy.name}, {setting.design.name}: "
    if checked is None:
        return f"{text}one page with everybody who acts on it, which decides for any number of pages"
    locals_ = " and ".join(f"{len(local.codes):,}" for local in checked.locals)
    text += f"a page with everybody who acts on it has {locals_} states; "
    if not together:
        return f"{text}explored apart, which decides for any number of pages"
    bound = checked.system.bound()
    size = in_bytes(_memory(bound))
    return f"{text}{_pages(setting.pages)} together at most {bound:,}: {_duration(bound / RATE)}, {size}"


def _pages(count: int) -> str:
    return "1 page" if count == 1 else f"{count} pages"


def _duration(seconds: float) -> str:
    return "seconds" if seconds < 10 else f"some {seconds:,.0f} s"


def _memory(states: int) -> int:
    return int(states * (SLOT / FILL + ORDER + PARENT))


def progress_line(now: SoFar) -> str:
    """One line of progress."""
    rate = now.states / max(now.seconds, 1e-6)
    return f"{now.states:,} states, {rate:,.0f} a second, depth {now.depth}, {in_bytes(now.memory)}"


def print_report(report: Report, out: Console) -> None:
    """The verdicts, the shortest way to each that fails, and what was explored."""
    made = table("property", "kind", "verdict", "shortest way", left=3)
    for verdict in report.verdicts:
        made.add_row(verdict.name, verdict.kind, _words(verdict), str(len(verdict.path) or ""))
    out.print(made)
    for name, why in report.absent.items():
        out.print(f"not asked: {name}: {why}")
    for verdict in report.verdicts:
        if verdict.verdict == "fails" and verdict.path:
            out.print(f"\n{verdict.name} fails, {len(verdict.path)} steps:")
            for line in listing(report, verdict):
                out.print(line)
    out.print(f"\n{summary(report)}")


def _words(verdict: Verdict) -> str:
    return {"open": "not exhausted"}.get(verdict.verdict, verdict.verdict)


def summary(report: Report) -> str:
    """How many states, how fast, and why it stopped if it did not see them all."""
    size = sum(end.memory for end in report.ends) / report.states
    text = f"{report.states:,} states, {report.transitions:,} transitions, depth {report.depth}, "
    text += f"{report.seconds:.2f} s ({report.cpu:.2f} s of CPU), {size:.1f} bytes a state, "
    text += f"{in_bytes(report.peak)} of memory at the peak"
    stopped = _stopped(report)
    return text + (f"; stopped early: {stopped}" if stopped else "")


def _stopped(report: Report) -> str:
    return "; ".join(filter(None, report.stops))


def checked(report: Report) -> Checked:
    """The same for programs."""
    setting = report.checked.setting
    return Checked(
        policy=setting.policy.name, design=setting.design.name, pages=setting.pages if report.together else 1,
        vcpus=setting.vcpus, symmetry=setting.symmetric, states=report.states, transitions=report.transitions,
        depth=report.depth, seconds=report.seconds, exhausted=report.exhausted, stopped=_stopped(report) or None,
        properties=[_property(report, verdict) for verdict in report.verdicts], absent=report.absent,
    )  # fmt: skip


def _property(report: Report, verdict: Verdict) -> Property:
    steps = in_words(report, verdict) if verdict.verdict == "fails" else []
    return Property(verdict.name, verdict.kind, verdict.verdict, [TraceStep(*step) for step in steps])


def print_matrix(found: PolicyMatrix, out: Console) -> None:
    """Policies as columns, as many side by side as there is room for, properties as rows; a failure with the length of
    the shortest way there, a dash for what a policy does not offer."""
    lines = found.lines
    names = list(dict.fromkeys(name for name in PROPERTIES for line in lines if name in line.verdicts))
    room = min(out.width, WIDEST) - max(map(len, names), default=0)
    while lines:
        ends = list(accumulate(max(len(line.policy), MOST_DIGITS) + 2 for line in lines))
        count = max(1, sum(end <= room for end in ends))
        beside, lines = lines[:count], lines[count:]
        made = table("property", *(line.policy for line in beside), left=1)
        for name in names:
            made.add_row(name, *(_cell(*line.verdicts.get(name, ("-", 0))) for line in beside))
        made.add_row("states", *(f"{line.states:,}" for line in beside))
        out.print(made)
        if lines:
            out.print()
    if found.unknown:
        out.print(f"interrupted: nothing is known of {', '.join(found.unknown)}")


def _cell(verdict: str, steps: int) -> str:
    return f"fails {steps}" if verdict == "fails" and steps else verdict


def matrix_document(found: PolicyMatrix) -> Matrix:
    """The same for programs."""
    return Matrix(policies=[_column(line) for line in found.lines], unknown=found.unknown)


def _column(line: PolicyVerdicts) -> Column:
    cells = [Cell(name, verdict, steps) for name, (verdict, steps) in line.verdicts.items()]
    return Column(line.policy, line.states, line.seconds, line.exhausted, cells)


def print_minimal(found: Minimal, names: tuple[str, ...], out: Console) -> None:
    """The sets, one a line, smallest first."""
    out.print(f"minimal sets of mechanisms with which {', '.join(names)} hold and a request completes:")
    for each in _ordered(found):
        out.print(f"  {', '.join(each) or '(none)'}")
    if found.left:
        why = "interrupted" if found.interrupted else "stopped early"
        out.print(f"{why}: of {found.left:,} sets nothing is known, of which a smaller one may hold")
    elif not found.sets:
        out.print("  there is none")


def minimal_document(found: Minimal, names: tuple[str, ...], setting: Setting) -> MinimalSets:
    """The same for programs."""
    return MinimalSets(
        policy=setting.policy.name, design=setting.design.name, properties=list(names), sets=_ordered(found),
        left=found.left,
    )  # fmt: skip


def _ordered(found: Minimal) -> list[list[str]]:
    """The sets, smallest first."""
    return sorted((sorted(each) for each in found.sets), key=lambda names: (len(names), names))
