"""The host-access matrix: every path on every memory for real, beside what the law says of it."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Literal, TypeAlias

from pagewarden.law import Op, policy_of
from pagewarden.probe.catalogue import PATHS
from pagewarden.probe.registry import Path
from pagewarden.probe.runner import SECONDS, ChildJob, TrialCase, run_all
from pagewarden.probe.stages import BACKINGS, ISOLATED, Isolated, cooperating
from pagewarden.probe.trial import OPEN, State, TrialResult, TrialVerdict
from pagewarden.studies.probe.expected import SCRIPTS, Expected, expected, forbidden
from pagewarden.vocab import PAGE_SIZE, Progress, one_of

"""progress(what, done, total), called after each trial."""
TOGETHER = 24
"""Trials that share one isolated memory: starting its zygote costs as much as some ten of them."""


Where: TypeAlias = Literal["here", "qemu"]


@dataclass(frozen=True, slots=True, order=True)
class MatrixColumn:
    """A column of the matrix."""

    backing: str
    isolated: bool

    @property
    def name(self) -> str:
        return f"{self.backing}, isolated" if self.isolated else self.backing


MEMORIES = tuple(
    MatrixColumn(backing, isolated)
    for backing in BACKINGS
    for isolated in (False, True)
    if not isolated or backing in ISOLATED
)


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One trial, and what the law expects of it."""

    memory: MatrixColumn
    path: Path
    state: State
    verdict: TrialVerdict
    law: Expected

    @property
    def agrees(self) -> bool | None:
        """The same result, and for a bare touch the same signal too. None: there was no answer to compare."""
        if self.verdict.result in OPEN:
            return None
        if self.law.last in (Op.HOST_LOAD, Op.HOST_STORE) and self.law.error != self.verdict.error:
            return False
        return self.verdict.result is self.law.result


@dataclass(frozen=True, slots=True)
class Isolation:
    """The whole matrix, ordered by path, memory and state."""

    kernel: str
    rows: tuple[TrialRow, ...]
    where: Where = "here"

    @property
    def leaks(self) -> list[TrialRow]:
        """Trials in which the canary of a private page was seen."""
        return self.ended(TrialResult.LEAK)

    @property
    def disagreements(self) -> list[TrialRow]:
        return [row for row in self.rows if row.agrees is False]

    def ended(self, result: TrialResult) -> list[TrialRow]:
        """Trials with that result."""
        return [row for row in self.rows if row.verdict.result is result]

    @property
    def lacks(self) -> dict[str, list[TrialRow]]:
        """What had no answer, by the reason."""
        reasons: dict[str, list[TrialRow]] = {}
        for row in self.rows:
            if row.verdict.reason:
                reasons.setdefault(row.verdict.reason, []).append(row)
        return reasons


def isolation(
    backings: Iterable[str] = (),
    patterns: Iterable[str] = (),
    progress: Progress | None = None,
    seconds: float = SECONDS,
) -> Isolation:
    """Try every path, both directions, all states, on every memory; or only on those backings, only the paths with
    those names (shell patterns). seconds: for one trial. UserMistake for a name that nothing bears."""
    memories, paths = chosen_memories(backings), chosen_paths(patterns)
    jobs = [job for memory in memories for job in _jobs(memory, paths, seconds)]
    total = sum(len(job.cases) for job in jobs)
    verdicts: dict[tuple[MatrixColumn, Path, State], TrialVerdict] = {}
    for key, verdict in run_all(jobs, seconds=seconds):
        verdicts[key] = verdict
        if progress is not None:
            progress("trials", len(verdicts), total)
    return Isolation(
        os.uname().release,
        tuple(
            TrialRow(memory, path, state, verdicts[memory, path, state], law_of(memory, path, state))
            for path in paths
            for memory in memories
            for state in State
        ),
    )


def law_of(memory: MatrixColumn, path: Path, state: State) -> Expected:
    """What the law expects of a trial, the host side's room before it."""
    if memory.isolated and (refusal := forbidden(path)):
        return Expected(TrialResult.REFUSED, refusal)
    script = SCRIPTS[path.name, path.direction]
    policy = policy_of(memory.backing, memory.isolated, shared=state is not State.PRIVATE)
    return expected(policy, script, path.direction, state)


def chosen_memories(backings: Iterable[str]) -> list[MatrixColumn]:
    """Those of the backings, or all; UserMistake."""
    names = [one_of("backing", name, BACKINGS) for name in backings] or BACKINGS
    return [memory for memory in MEMORIES if memory.backing in names]


def chosen_paths(patterns: Iterable[str]) -> list[Path]:
    """Those whose name matches one of the shell patterns, or all; UserMistake."""
    wanted, names = list(patterns) or ["*"], dict.fromkeys(name for name, _ in PATHS)
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in names):
            one_of("path", pattern, names)
    return [path for path in PATHS.values() if any(fnmatchcase(path.name, pattern) for pattern in wanted)]


_Job = ChildJob[tuple[MatrixColumn, Path, State]]


def _jobs(memory: MatrixColumn, paths: Sequence[Path], seconds: float) -> Iterator[_Job]:
    cases = [TrialCase((memory, path, state), path, state) for path in paths for state in State]
    if not memory.isolated:
        for case in cases:
            yield ChildJob(partial(cooperating, memory.backing, case.state), [case])
        return
    for size in sorted({case.path.size for case in cases}):
        alike = [case for case in cases if case.path.size == size]
        together = TOGETHER * 2 * PAGE_SIZE // size or 1
        for first in range(0, len(alike), max(together, 3)):
            yield ChildJob(partial(Isolated, memory.backing, seconds), alike[first : first + max(together, 3)])
