"""What a kernel offers and lets the host do, for people and for programs."""

from collections.abc import Iterable, Sequence

from rich.console import Console

from pagewarden.lab.fetch import Offer
from pagewarden.probe.capabilities import Capability
from pagewarden.probe.trial import State, TrialResult
from pagewarden.report.console import table
from pagewarden.report.documents.probe import Feature, KernelOffer, Kernels, MatrixTrial, Probed
from pagewarden.studies.probe.isolation import Isolation, MatrixColumn, TrialRow

SYMBOLS = {
    TrialResult.REFUSED: ".", TrialResult.ALLOWED: "+", TrialResult.LEAK: "L", TrialResult.TORN: "T",
    TrialResult.UNTRIED: "-", TrialResult.TIMEOUT: "?",
}  # fmt: skip
LEGEND = (
    "A cell has three letters: private (never shared), shared, again private (shared, then unshared).\n"
    ". refused   + allowed   L LEAK: the canary was seen   T TORN: bytes were changed or lost\n"
    "- not tried here   ? no answer in time   ! after a letter: the law says something else"
)


def print_probe(found: Isolation, capabilities: Sequence[Capability], out: Console) -> None:
    """Pass or fail and why, capabilities, the matrix, and under it what leaks, disagrees and could not be tried."""
    out.print(_verdict(found), soft_wrap=True)
    features = table("feature", "there", "what was found, or why not", left=3)
    for capability in capabilities:
        features.add_row(capability.name, "yes" if capability.available else "no", capability.reason)
    out.print(features)
    out.print(f"\nHost access on Linux {found.kernel}" + " under QEMU" * (found.where == "qemu"))
    memories = list(dict.fromkeys(row.memory for row in found.rows))
    made = table("path", "tries to", *(memory.name for memory in memories), left=2 + len(memories))
    for (name, direction), rows in _by_path(found).items():
        made.add_row(name, direction, *(_cell(rows, memory) for memory in memories))
    out.print(made)
    out.print(LEGEND)
    for memory in memories:
        _print_harm(memory, [row for row in found.rows if row.memory == memory], out)
    for reason, untried in found.lacks.items():
        word = "no answer" if untried[0].verdict.result is TrialResult.TIMEOUT else "not tried"
        out.print(f"{word}, {len(untried)} trials of {_memories(untried)}: {reason}", soft_wrap=True)
    for differing in found.disagreements:
        out.print(_disagreement(differing), soft_wrap=True)
    trials, leaks, differ = len(found.rows), len(found.leaks), len(found.disagreements)
    open_, silent = len(found.ended(TrialResult.UNTRIED)), len(found.ended(TrialResult.TIMEOUT))
    out.print(
        f"\n{trials:,} trials, {leaks} leaks, {differ} disagreements with the law; "
        f"{open_} not tried, {silent} without an answer in time."
    )


def _verdict(found: Isolation) -> str:
    """Whether the kernel is what the law says, surprises apart from known weaknesses."""
    trials, leaks = f"{len(found.rows):,} trials", len(found.leaks)
    differ, silent = len(found.disagreements), len(found.ended(TrialResult.TIMEOUT))
    surprises = sum(row.verdict.result is TrialResult.LEAK for row in found.disagreements)
    if differ or silent:
        what = [f"{differ} of {trials} are not what the law says, {surprises} of them leaks"] * bool(differ)
        what += [f"{silent} gave no answer in time"] * bool(silent)
        return f"FAIL: {'; '.join(what)}.\n"
    known = f" {leaks} leaks are known weaknesses: the law expects them of that memory." if leaks else ""
    return f"PASS: all of {trials} that could be tried are what the law says.{known}\n"


def _by_path(found: Isolation) -> dict[tuple[str, str], list[TrialRow]]:
    rows: dict[tuple[str, str], list[TrialRow]] = {}
    for row in found.rows:
        rows.setdefault((row.path.name, row.path.direction), []).append(row)
    return rows


def _cell(rows: list[TrialRow], memory: MatrixColumn) -> str:
    letters = {
        row.state: SYMBOLS[row.verdict.result] + "!" * (row.agrees is False) for row in rows if row.memory == memory
    }
    return " ".join(letters[state] for state in State)


def _print_harm(memory: MatrixColumn, rows: list[TrialRow], out: Console) -> None:
    for result, word in ((TrialResult.LEAK, "leaks"), (TrialResult.TORN, "tears")):
        paths = [row.path.name for row in rows if row.verdict.result is result and row.state is not State.SHARED]
        if paths:
            out.print(f"{memory.name} {word} by {_names(paths)}", soft_wrap=True)


def _names(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _memories(rows: list[TrialRow]) -> str:
    return _names(row.memory.name for row in rows)


def _disagreement(row: TrialRow) -> str:
    found, law = _said(row.verdict.result, row.verdict.error), _said(row.law.result, row.law.error)
    where = f"{row.memory.name}, {row.path.name}, {row.path.direction}, {row.state}"
    return f"DISAGREES {where}: {found}, the law says {law}. The path: {row.path.about}"


def _said(result: TrialResult, error: str | None) -> str:
    return f"{result} ({error})" if error else result


def print_offers(offers: Sequence[Offer], lack: str, out: Console) -> None:
    """Kernels that can be had, and why none can be booted here, where that is so."""
    known = table("name", "version", "", left=3)
    for offer in offers:
        known.add_row(offer.name, offer.version, "in the cache" if offer.there else "")
    out.print(known)
    if lack:
        out.print(f"no kernel can be booted here: {lack}", soft_wrap=True)


def kernels_document(offers: Sequence[Offer], lack: str) -> Kernels:
    """The same for programs."""
    return Kernels(kernels=[KernelOffer(offer.name, offer.version, offer.there) for offer in offers], lack=lack or None)


def probed(found: Isolation, capabilities: Sequence[Capability]) -> Probed:
    """The matrix for programs."""
    return Probed(
        kernel=found.kernel, where=found.where, capabilities=[Feature(*capability) for capability in capabilities],
        matrix=list(map(_trial, found.rows)), leaks=len(found.leaks), disagreements=len(found.disagreements),
        untried=len(found.ended(TrialResult.UNTRIED)), timeouts=len(found.ended(TrialResult.TIMEOUT)),
    )  # fmt: skip


def _trial(row: TrialRow) -> MatrixTrial:
    return MatrixTrial(
        backing=row.memory.backing, isolated=row.memory.isolated, path=row.path.name, state=row.state.value,
        direction=row.path.direction.value, result=row.verdict.result.value, errno=row.verdict.error,
        law=row.law.result.value, agrees=row.agrees, reason=row.verdict.reason,
    )  # fmt: skip
