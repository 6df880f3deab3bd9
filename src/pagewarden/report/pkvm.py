"""What a host could do to a protected VM: the matrix for people, its trials for programs."""

from collections.abc import Iterable

from rich.console import Console

from pagewarden.probe.pkvm.stage import BEFORE, PageState
from pagewarden.probe.trial import TrialResult
from pagewarden.report.console import table
from pagewarden.report.documents.probe import MatrixTrial, Probed
from pagewarden.report.probe import counted, letter, print_lines, verdict
from pagewarden.studies.probe.pkvm import Asked, PageCell, PageRow

PARTS = "host", "saw", "then", "guest"
"""Of a cell, what the law foresees."""
LEGEND = (
    "A cell has a letter for each state of the page: host (the guest has not touched it), private, shared, unshared,\n"
    "poison (the host took it back); behind a bar what took hold one step before private, shared, unshared, poison.\n"
    ". refused   + allowed   L LEAK: the guest's bytes were seen   T TORN: its bytes, or its life, are gone\n"
    "H HANG: a process that no signal ends   ? no answer in time   ! after a letter: the law says something else"
)


def probed(found: Asked) -> Probed:
    """The cells for programs."""
    return counted(found.kernel, "qemu", [], list(map(_trial, found.rows)))


def _trial(row: PageRow) -> MatrixTrial:
    cell, law, result = row.cell, row.law, row.cell.result
    reason = "no answer in time" if result is TrialResult.TIMEOUT else None
    if law and row.agrees is False:
        pairs = [(part, getattr(cell, part), getattr(law, part)) for part in PARTS]
        reason = "; ".join(f"{part} {found}, by the law {said}" for part, found, said in pairs if found != said)
    return MatrixTrial(
        backing=cell.backing, isolated=False, path=cell.way, state=cell.state, direction=cell.direction,
        result=result.value, errno=_error(cell),
        law=law.result.value if law else None, law_errno=_error(law) if law else None, agrees=row.agrees,
        reason=reason, since=cell.since if cell.since != cell.state else None, guest=cell.guest, then=cell.then,
    )  # fmt: skip


def _error(cell: PageCell) -> str | None:
    return None if cell.host in ("ok", None) else cell.host


def print_pkvm(found: Probed, out: Console) -> None:
    """Pass or fail and why, the matrix, and under it what leaks, disagrees and had no answer."""
    out.print(verdict(found) + "\n", soft_wrap=True)
    out.print(f"A protected VM on Linux {found.kernel} under QEMU")
    backings = list(dict.fromkeys(trial.backing for trial in found.matrix))
    made = table("way", "tries to", *backings, left=2 + len(backings))
    for way, direction in dict.fromkeys((trial.path, trial.direction) for trial in found.matrix):
        trials = [trial for trial in found.matrix if (trial.path, trial.direction) == (way, direction)]
        made.add_row(way, direction, *(_cell(trials, backing) for backing in backings))
    out.print(made)
    out.print(LEGEND)
    print_lines(found, [(backing, False) for backing in backings], out)
    out.print(
        f"\n{len(found.matrix):,} cells, {found.leaks} leaks, {found.disagreements} disagreements with the law; "
        f"{found.timeouts} without an answer in time."
    )


def _cell(trials: Iterable[MatrixTrial], backing: str) -> str:
    letters = {(trial.since, str(trial.state)): letter(trial) for trial in trials if trial.backing == backing}
    plain = [letters[None, state] for state in PageState if (None, state) in letters]
    since = [letters[before, state] for state, before in BEFORE.items() if (before, state) in letters]
    return " ".join([*plain, *(["|", *since] if since else [])])
