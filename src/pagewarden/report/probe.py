"""What a kernel offers and lets the host do, for people and for programs."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from rich.console import Console

from pagewarden.lab.fetch import Offer
from pagewarden.probe.capabilities import Capability
from pagewarden.probe.trial import OPEN, State, TrialResult
from pagewarden.report.console import table
from pagewarden.report.documents.probe import (
    Baseline,
    EarlierTrial,
    Feature,
    KernelOffer,
    Kernels,
    MatrixTrial,
    Probed,
    TrialChange,
)
from pagewarden.studies.probe.changes import Change, Ending, TrialKey, compare
from pagewarden.studies.probe.isolation import Isolation, TrialRow, Where
from pagewarden.studies.probe.said import SaidMatrix

SYMBOLS = {
    TrialResult.REFUSED: ".", TrialResult.ALLOWED: "+", TrialResult.LEAK: "L", TrialResult.TORN: "T",
    TrialResult.HANG: "H", TrialResult.UNTRIED: "-", TrialResult.TIMEOUT: "?",
}  # fmt: skip
LEGEND = (
    "A cell has three letters: private (never shared), shared, again private (shared, then unshared).\n"
    ". refused   + allowed   L LEAK: the canary was seen   T TORN: bytes were changed or lost\n"
    "- not tried here   ? no answer in time   ! after a letter: the law says something else"
)
TrialMemory: TypeAlias = tuple[str, bool]
"""A backing, and whether its host side is isolated."""


def print_probe(found: Probed, out: Console, features: bool = True) -> None:
    """Pass or fail and why, the matrix, what leaks, disagrees and could not be tried, and what the kernel offers."""
    out.print(verdict(found), soft_wrap=True)
    out.print(f"\nHost access on Linux {found.kernel}" + " under QEMU" * (found.where == "qemu"))
    memories = list(dict.fromkeys(map(_memory, found.matrix)))
    made = table("path", "tries to", *map(memory_name, memories), left=2 + len(memories))
    for (name, direction), trials in _by_path(found.matrix).items():
        made.add_row(name, direction, *(_cell(trials, memory) for memory in memories))
    out.print(made)
    out.print(LEGEND)
    print_lines(found, memories, out)
    out.print(
        f"\n{len(found.matrix):,} trials, {found.leaks} leaks, {found.disagreements} disagreements with the law; "
        f"{found.untried} not tried, {found.timeouts} without an answer in time."
    )
    if features:
        offers = table("feature", "there", "what was found, or why not", left=3)
        for feature in found.capabilities:
            offers.add_row(feature.name, "yes" if feature.available else "no", feature.reason)
        out.print()
        out.print(offers)


def print_lines(found: Probed, memories: Iterable[TrialMemory], out: Console) -> None:
    """What leaks, what had no answer, what disagrees: a line each."""
    for memory in memories:
        _print_harm(memory, [trial for trial in found.matrix if _memory(trial) == memory], out)
    for reason in dict.fromkeys(trial.reason for trial in found.matrix if trial.reason and trial.result in OPEN):
        lacking = [trial for trial in found.matrix if trial.reason == reason]
        word = "no answer" if lacking[0].result == TrialResult.TIMEOUT else "not tried"
        whose = _names(memory_name(_memory(trial)) for trial in lacking)
        out.print(f"{word}, {len(lacking)} trials of {whose}: {reason}", soft_wrap=True)
    for differing in found.matrix:
        if differing.agrees is False:
            out.print(_disagreement(differing), soft_wrap=True)


def verdict(found: Probed) -> str:
    """Whether the kernel is what the law says, surprises apart from known weaknesses, what could not be judged apart
    from both; with a baseline, whether it got worse."""
    if found.baseline is not None:
        return _against(found.baseline)
    judged = sum(trial.agrees is not None for trial in found.matrix)
    trials, differ, late = f"{judged:,} trials", found.disagreements, found.timeouts
    silent = len(found.matrix) - judged - found.untried - late
    apart = "".join(
        f"; {count:,} {word}"
        for count, word in ((late, "gave no answer in time"), (found.untried, "could not be tried"),
                            (silent, "the law says nothing of"))
        if count
    )  # fmt: skip
    leaks = Counter(trial.agrees for trial in found.matrix if trial.result == TrialResult.LEAK)
    if differ:
        return f"FAIL: {differ:,} of {trials} are not what the law says, {leaks[False]:,} of them leaks{apart}."
    if late:
        return f"FAIL: all of {trials} are what the law says{apart}."
    if not judged:
        return f"SKIP: nothing could be judged{apart}."
    known = f" {leaks[True]:,} leaks are known weaknesses: the law expects them of that memory." if leaks[True] else ""
    known += f" Of {leaks[None]:,} leaks it says nothing." if leaks[None] else ""
    return f"PASS: all of {trials} are what the law says{apart}.{known}"


def _against(baseline: Baseline) -> str:
    counted = {
        "got worse": baseline.worse, "harm less": baseline.fixed, "otherwise different": baseline.other,
        "without an answer that had one": baseline.silent,
    }  # fmt: skip
    what = ", ".join(f"{len(changes)} {word}" for word, changes in counted.items() if changes) or "nothing changed"
    return f"{'PASS' if baseline.good else 'FAIL'}: beside Linux {baseline.kernel}, {what}."


def print_baseline(found: Probed, baseline: Baseline, out: Console) -> None:
    """Whether it got worse, and what changed, a line each."""
    out.print(verdict(found), soft_wrap=True)
    for word, changes in (
        ("worse", baseline.worse), ("silent", baseline.silent), ("fixed", baseline.fixed), ("other", baseline.other),
    ):  # fmt: skip
        for change in changes:
            before, now = _said(change.before, change.before_errno), _said(change.now, change.now_errno)
            out.print(f"{word}: {where(change)}: {before} -> {now}", soft_wrap=True)
    if baseline.added or baseline.gone:
        out.print(f"{baseline.added} trials are not in the baseline, {baseline.gone} of the baseline were not tried")


def where(trial: MatrixTrial | TrialChange) -> str:
    """Which trial."""
    since = f" since {trial.since}" if trial.since else ""
    return f"{memory_name(_memory(trial))}, {trial.path}, {trial.direction}, {trial.state}{since}"


def _memory(trial: MatrixTrial | TrialChange) -> TrialMemory:
    return trial.backing, trial.isolated


def memory_name(memory: TrialMemory) -> str:
    """What a column is called."""
    return f"{memory[0]}, isolated" if memory[1] else memory[0]


def _by_path(matrix: Iterable[MatrixTrial]) -> dict[tuple[str, str], list[MatrixTrial]]:
    trials: dict[tuple[str, str], list[MatrixTrial]] = {}
    for trial in matrix:
        trials.setdefault((trial.path, trial.direction), []).append(trial)
    return trials


def _cell(trials: list[MatrixTrial], memory: TrialMemory) -> str:
    letters = {str(trial.state): letter(trial) for trial in trials if _memory(trial) == memory}
    return " ".join(letters[state] for state in State)


def letter(trial: MatrixTrial) -> str:
    """A trial in a matrix."""
    return SYMBOLS[TrialResult(trial.result)] + "!" * (trial.agrees is False)


def _print_harm(memory: TrialMemory, trials: list[MatrixTrial], out: Console) -> None:
    for result, word in ((TrialResult.LEAK, "leaks"), (TrialResult.TORN, "tears"), (TrialResult.HANG, "hangs")):
        paths = [trial.path for trial in trials if trial.result == result and trial.state != "shared"]
        if paths:
            out.print(f"{memory_name(memory)} {word} by {_names(paths)}", soft_wrap=True)


def _names(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _disagreement(trial: MatrixTrial) -> str:
    found, law = _said(trial.result, trial.errno), _said(trial.law or "", trial.law_errno)
    reason = f" ({trial.reason})" if trial.reason else ""
    return f"DISAGREES {where(trial)}: {found}, the law says {law}{reason}. Its calls: probe --explain {trial.path}"


def _said(result: str, error: str | None) -> str:
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
    return counted(found.kernel, found.where, capabilities, list(map(_trial, found.rows)))


def counted(kernel: str, where: Where, capabilities: Sequence[Capability], matrix: list[MatrixTrial]) -> Probed:
    """A document with its sums."""
    ended = Counter(trial.result for trial in matrix)
    return Probed(
        kernel=kernel, where=where, capabilities=[Feature(*capability) for capability in capabilities], matrix=matrix,
        leaks=ended["LEAK"], disagreements=sum(trial.agrees is False for trial in matrix), untried=ended["UNTRIED"],
        timeouts=ended["TIMEOUT"],
    )  # fmt: skip


def _trial(row: TrialRow) -> MatrixTrial:
    return MatrixTrial(
        backing=row.memory.backing, isolated=row.memory.isolated, path=row.path.name, state=row.state.value,
        direction=row.path.direction.value, result=row.verdict.result.value, errno=row.verdict.error,
        law=row.law.result.value, law_errno=row.law.error, agrees=row.agrees, reason=row.verdict.reason,
    )  # fmt: skip


def baseline(before: SaidMatrix, now: Mapping[TrialKey, Ending]) -> Baseline:
    """The earlier document, and what has changed since, for programs."""
    changes = compare(before.endings, now)
    kinds = {name: list(map(_change, getattr(changes, name))) for name in ("fixed", "worse", "other", "silent")}
    matrix = [
        EarlierTrial(**key._asdict(), result=ending.result.value, errno=ending.error)
        for key, ending in before.endings.items()
    ]
    return Baseline(
        kernel=before.kernel, good=changes.good, added=changes.added, gone=changes.gone, matrix=matrix, **kinds
    )


def _change(change: Change) -> TrialChange:
    return TrialChange(
        **change.key._asdict(), before=change.before.result.value, before_errno=change.before.error,
        now=change.now.result.value, now_errno=change.now.error,
    )  # fmt: skip
