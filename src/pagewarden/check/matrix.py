"""Every policy against every property."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from pagewarden.check.explain import InWords, in_words
from pagewarden.check.many import Budget, CutShort, Workers
from pagewarden.check.page.system import Setting
from pagewarden.check.search.explorer import Limits
from pagewarden.check.stake import at_stake
from pagewarden.check.verdict import Report, Said, check
from pagewarden.check.ways import Counterexample, ways
from pagewarden.law import APART, Policy
from pagewarden.law.properties import ALWAYS


class CellOf(NamedTuple):
    """steps: of the first way to a failure, or 0; at_stake: a variant of the policy could break the property; way: the
    steps in words."""

    verdict: Said
    steps: int = 0
    at_stake: bool = True
    way: tuple[InWords, ...] = ()

    def __str__(self) -> str:
        if not self.at_stake:
            return "-"
        return f"{self.verdict} {self.steps}" if self.steps else self.verdict


@dataclass(frozen=True)
class PolicyVerdicts:
    """What the matrix says of a policy, by property. helped: see Report."""

    policy: Policy
    cells: dict[str, CellOf]
    states: int
    seconds: float
    exhausted: bool
    helped: tuple[str, ...]


@dataclass(frozen=True)
class PolicyMatrix:
    """unknown: policies of which Ctrl-C left nothing known."""

    lines: list[PolicyVerdicts]
    unknown: list[str]

    @property
    def exhausted(self) -> bool:
        return not self.unknown and all(line.exhausted for line in self.lines)


def matrix(setting: Setting, names: tuple[str, ...], pool: Workers, limits: Limits | None = None) -> PolicyMatrix:
    """The setting under every policy, one page with all who act on it; the limits hold for all of it."""
    budget = Budget.of(limits or Limits(), pool)
    try:
        lines = pool.map(_line, [(replace(setting, policy=policy), names, budget) for policy in APART.values()])
    except CutShort as cut:
        lines = cut.answers
    unknown = [policy.name for policy, line in zip(APART.values(), lines, strict=True) if line is None]
    return PolicyMatrix([line for line in lines if line is not None], unknown)


def _line(task: tuple[Setting, tuple[str, ...], Budget]) -> PolicyVerdicts:
    setting, names, budget = task
    report = check(setting, names, budget.limits(), search="apart")
    return column(report, ways(report, budget.limits(), every=False))


def column(report: Report, found: Mapping[str, Sequence[Counterexample]]) -> PolicyVerdicts:
    """What a check of one page says of its policy, and which of what holds is no merit of the policy's."""
    said = {verdict.name: verdict for verdict in report.verdicts}
    holds = [name for name, verdict in said.items() if verdict.verdict == "holds" and name in ALWAYS]
    ops = {op for cast in report.checked.casts for op in cast.all_ops}
    staked = at_stake(report.checked.setting.policy, holds, ops)
    cells = {
        name: CellOf(
            verdict.verdict,
            found[name][0].steps if name in found else 0,
            name not in holds or name in staked,
            tuple(in_words(found[name][0].report, found[name][0].verdict)) if name in found else (),
        )
        for name, verdict in said.items()
    }
    policy, decided = report.checked.setting.policy, not report.open
    return PolicyVerdicts(policy, cells, report.states, report.seconds, decided, report.helped)
