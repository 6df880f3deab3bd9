"""A matrix for whoever runs kernel tests: KTAP (Documentation/dev-tools/ktap.rst), a subtest for each memory."""

from collections.abc import Iterator

from pagewarden.probe.trial import HARM, TrialResult
from pagewarden.report.documents.probe import MatrixTrial, Probed, TrialChange
from pagewarden.report.probe import memory_name
from pagewarden.studies.probe.changes import TrialKey

VERSION = "KTAP version 1"


def lines(found: Probed) -> Iterator[str]:
    """A test passes where the kernel is what the law says; with a baseline, where it did not get worse. A weakness that
    the law knows of passes as an expected failure (XFAIL), what could not be tried is skipped."""
    base = found.baseline
    worse = {_key(change) for change in (*base.worse, *base.silent)} if base else None
    changed = {_key(c): c for c in (*base.fixed, *base.worse, *base.other, *base.silent)} if base else {}
    memories: dict[str, list[MatrixTrial]] = {}
    for trial in found.matrix:
        memories.setdefault(memory_name((trial.backing, trial.isolated)), []).append(trial)
    yield VERSION
    yield f"1..{len(memories)}"
    for number, (memory, trials) in enumerate(memories.items(), 1):
        yield f"  {VERSION}"
        yield f"  1..{len(trials)}"
        good = True
        for position, trial in enumerate(trials, 1):
            passes, said = _one(trial, worse, changed.get(_key(trial)))
            good &= passes
            yield f"  {_ok(passes)} {position} {_name(trial)}{said}"
        yield f"{_ok(good)} {number} {memory.replace(', ', '-')}"


def _ok(passes: bool) -> str:
    return "ok" if passes else "not ok"


def _one(trial: MatrixTrial, worse: set[TrialKey] | None, change: TrialChange | None) -> tuple[bool, str]:
    if trial.result == TrialResult.UNTRIED:
        return True, f" # SKIP {trial.reason}"
    if trial.result == TrialResult.TIMEOUT:
        return False, f" # TIMEOUT {trial.reason}"
    passes = trial.agrees is not False if worse is None else _key(trial) not in worse
    if change is not None:
        was = f" # {change.now}{_errno(change.now_errno)}, was {change.before}{_errno(change.before_errno)}"
        return passes, was
    if not passes:
        return False, f" # {trial.result}, the law says {trial.law}"
    known = trial.result in HARM and trial.state != "shared"
    return True, f" # XFAIL {trial.result} is known of this memory" if known else ""


def _errno(name: str | None) -> str:
    return f" ({name})" if name else ""


def _name(trial: MatrixTrial) -> str:
    since = f"-since-{trial.since}" if trial.since else ""
    return f"{trial.path}-{trial.direction}-{trial.state}{since}"


def _key(trial: MatrixTrial | TrialChange) -> TrialKey:
    return TrialKey(trial.backing, trial.isolated, trial.path, trial.direction, trial.state, trial.since)
