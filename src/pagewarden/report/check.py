"""The checker's answers for people and for programs."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

from rich.console import Console

from pagewarden.check.explain import goes_wrong, in_words, lacks, listing, tell
from pagewarden.check.matrix import PolicyMatrix, PolicyVerdicts
from pagewarden.check.minimal import Minimal
from pagewarden.check.page.system import PROPERTIES, CheckedSystem, Setting
from pagewarden.check.search.explorer import FILL, ORDER, PARENT, SLOT, SoFar
from pagewarden.check.verdict import Report, Verdict
from pagewarden.check.ways import Counterexample
from pagewarden.law import Guard, Policy
from pagewarden.law.properties import PROMISES
from pagewarden.report.console import in_bytes, prose, table
from pagewarden.report.documents.check import (
    Cell,
    Checked,
    Column,
    Matrix,
    MinimalSets,
    Property,
    TraceStep,
    WayToFail,
)  # fmt: skip

RATE = 2_000_000
"""States a second to expect, in round figures; what a machine really does is printed at the end."""


WIDEST = 120
"""Columns of text that a matrix takes, also where there is no terminal to ask."""
ENCRYPTED = (
    "the law has no encryption. On SEV-SNP and TDX hardware encrypts private pages: a host that reads one, as a step "
    "here says, does not get the guest's bytes, and this failure is no leak"
)
ENCRYPTED_BREAKS = {"host-never-reads-private"}
"""The properties whose failure means less then: a loss is one as before."""
ALONE = "with --stranger none it fails"
Ways = Mapping[str, Sequence[Counterexample]]
"""By property that fails."""


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


def print_report(report: Report, ways: Ways, out: Console) -> None:
    """The verdicts, the first way to each that fails and what else leads there, and what was explored."""
    made = table("property", "promise", "verdict", "steps", left=3)
    for verdict in report.verdicts:
        told = ways.get(verdict.name)
        steps = told[0].steps if told else len(verdict.path) if verdict.kind == "sometimes" else 0
        made.add_row(verdict.name, PROMISES.get(verdict.name, verdict.kind), _words(verdict), str(steps or ""))
    out.print(made)
    for name, why in report.absent.items():
        out.print(f"not asked: {name}: {why}")
    for name, (first, *others) in ways.items():
        out.print(f"\n{name} fails, {first.steps} steps, by {by(first)}:")
        for line in listing(first.report, first.verdict):
            out.print(line)
        for way in others:
            out.print(f"     also by {by(way)}, {way.steps} steps")
    out.print(f"\n{summary(report)}")
    for note in notes(report):
        prose(out, f"note: {note}")


def by(way: Counterexample) -> str:
    """The actors of a way."""
    return " and ".join(sorted(way.actors)) or "the guest alone"


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


def checked(report: Report, ways: Ways) -> Checked:
    """The same for programs."""
    setting = report.checked.setting
    return Checked(
        policy=setting.policy.name, design=setting.design.name, pages=setting.pages if report.together else 1,
        vcpus=setting.vcpus, symmetry=setting.symmetric,
        states=report.states, transitions=report.transitions,
        depth=report.depth, states_by_depth=report.levels, seconds=report.seconds, exhausted=report.exhausted,
        stopped=_stopped(report) or None,
        properties=[_property(verdict, ways.get(verdict.name, ())) for verdict in report.verdicts],
        absent=report.absent, notes=notes(report),
    )  # fmt: skip


def notes(report: Report) -> list[str]:
    """Where the machine, or the stranger, changes what a verdict means."""
    policy = report.checked.setting.policy
    failed = {verdict.name for verdict in report.verdicts if verdict.verdict == "fails"}
    on_such = policy.guard is Guard.ABSENT and policy.has("gets-pfn")
    said = [ENCRYPTED] if on_such and failed & ENCRYPTED_BREAKS else []
    return [*said, *_helped(report.helped)]


def _helped(names: Sequence[str]) -> list[str]:
    hold = f"{', '.join(names)} hold{'s' * (len(names) == 1)}"
    return [f"{hold} only with the stranger's help, whose steps stand in for some that are missing: {ALONE}"] * bool(
        names
    )


def _property(verdict: Verdict, ways: Sequence[Counterexample]) -> Property:
    told = [_way(way) for way in ways]
    promise = PROMISES.get(verdict.name)
    return Property(verdict.name, verdict.kind, promise, verdict.verdict, told[0].trace if told else [], told)


def _way(way: Counterexample) -> WayToFail:
    steps = tell(way.report, way.verdict)
    return WayToFail(
        sorted(way.actors), way.steps, "; ".join(goes_wrong(way.report, way.verdict, steps)),
        lacks(way.report, way.verdict, steps),
        [TraceStep(*step) for step in in_words(way.report, way.verdict)],
    )  # fmt: skip


def print_matrix(found: PolicyMatrix, out: Console) -> None:
    """Policies as columns, as many side by side as there is room for, properties as rows; a failure with the steps of
    the first way there, a dash for what a policy does not offer, and for what none of its variants could break."""
    named = {name for line in found.lines for name in line.cells}
    names = [name for name in PROPERTIES if name in named]
    columns = []
    for line in found.lines:
        said = [str(line.cells.get(name, "-")) for name in names]
        columns.append([line.policy.name, seen_on(line.policy), line.policy.trusted, *said, f"{line.states:,}"])
    rows = ["seen on", "trusted", *names, "states"]
    room = min(out.width, WIDEST) - max(map(len, rows))
    while columns:
        ends = list(accumulate(max(map(len, column)) + 2 for column in columns))
        count = max(1, sum(end <= room for end in ends))
        beside, columns = columns[:count], columns[count:]
        made = table("property", *(column[0] for column in beside), left=1)
        for number, row in enumerate(rows, 1):
            made.add_row(row, *(column[number] for column in beside))
        out.print(made)
        if columns:
            out.print()
    for line in found.lines:
        for note in _helped(line.helped):
            out.print(f"note: {line.policy.name}: {note}")
    if found.unknown:
        out.print(f"interrupted: nothing is known of {', '.join(found.unknown)}")


def seen_on(policy: Policy) -> str:
    """The kernels that were asked, as short as can be, or that it is argued."""
    return " ".join(".".join(version.split()[0].split(".")[:2]) for version in policy.asked) or "argued"


def matrix_document(found: PolicyMatrix) -> Matrix:
    """The same for programs."""
    return Matrix(policies=[_column(line) for line in found.lines], unknown=found.unknown)


def _column(line: PolicyVerdicts) -> Column:
    policy = line.policy
    cells = [
        Cell(name, cell.verdict, cell.steps, cell.at_stake, [TraceStep(*step) for step in cell.way])
        for name, cell in line.cells.items()
    ]
    return Column(
        policy.name, list(policy.asked), policy.trusted, line.states, line.seconds, line.exhausted, list(line.helped),
        cells,
    )  # fmt: skip


def print_minimal(found: Minimal, names: tuple[str, ...], out: Console) -> None:
    """The sets, one a line, smallest first."""
    if found.interrupted and not found.sets:
        out.print(f"interrupted before any set was found that will do: {found.left:,} sets are not decided")
        return
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
