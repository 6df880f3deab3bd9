"""The minimal sets of mechanisms with which properties hold: which ones does a design really need?

A set will do when what is asked holds with it and an undisturbed request works; it is minimal when no smaller part of
it will do. All subsets of the policy's mechanisms are candidates. One that fails takes others with it: its
counterexample consults only a few mechanisms, and fails every set that answers those alike; one that will do takes its
supersets. No rule is assumed to be monotone: a mechanism may also open a way.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pagewarden.check.many import Budget, Workers
from pagewarden.check.page.actors import guest_procedures
from pagewarden.check.page.system import Setting, bits
from pagewarden.check.replay import replay
from pagewarden.check.search.explorer import Limits
from pagewarden.check.verdict import Report, Verdict, check
from pagewarden.designs import PROCEDURES, Design, Do, Steps, follow
from pagewarden.law import MECHANISMS, Outcome, Page, Policy, apply, start
from pagewarden.law.properties import ALWAYS
from pagewarden.vocab import UserMistake

MOST = 24
"""Mechanisms whose subsets can be listed."""


@dataclass(frozen=True)
class Watched(Policy):
    """A policy that remembers which mechanisms it was asked for."""

    consulted: set[str] = field(default_factory=set, compare=False)

    def has(self, mechanism: str) -> bool:
        self.consulted.add(mechanism)
        return super().has(mechanism)


def watched(policy: Policy) -> Watched:
    """The same policy, which remembers what it was asked."""
    return Watched(policy.name, policy.guard, policy.mechanisms, policy.fault, policy.stands_for)


@dataclass(frozen=True)
class Answer:
    """Whether a set holds; if not, the mechanisms that its failure consulted. None: not decided within the limits."""

    holds: bool | None
    consulted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Minimal:
    """sets: in the order in which they were found, smallest first; left: candidates of which nothing is known."""

    sets: list[frozenset[str]]
    left: int


def minimal_sets(
    setting: Setting,
    names: tuple[str, ...],
    pool: Workers,
    limits: Limits | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Minimal:
    """Every minimal set, or those found within the limits. progress: sets tried, candidates left. UserMistake: too many
    mechanisms."""
    universe = sorted(setting.policy.mechanisms)
    if len(universe) > MOST:
        raise UserMistake(f"{len(universe)} mechanisms have too many subsets; leave some out with --without")
    lattice = _Lattice(universe)
    tried, budget = 0, Budget.of(limits or Limits(), pool)
    while len(batch := lattice.smallest(pool.width)) and not budget.over:
        tasks = [(_with(setting, lattice.names(each)), names, budget) for each in batch]
        for each, answer in zip(batch, pool.map(judge, tasks), strict=True):
            lattice.learn(each, answer)
        tried += len(batch)
        if progress:
            progress(tried, lattice.left)
    return Minimal([lattice.names(each) for each in lattice.minimal], lattice.left + lattice.undecided)


def _with(setting: Setting, mechanisms: frozenset[str]) -> Setting:
    return replace(setting, policy=replace(setting.policy, name="candidate", mechanisms=mechanisms))


class _Lattice:
    """Subsets as bit masks; alive: those of which nothing is known."""

    def __init__(self, universe: list[str]) -> None:
        self.universe = universe
        self.all = np.arange(1 << len(universe), dtype=np.uint32)
        self.alive = np.ones(len(self.all), bool)
        self.size = np.bitwise_count(self.all)
        self.minimal: list[int] = []
        self.undecided = 0

    @property
    def left(self) -> int:
        return int(self.alive.sum())

    def names(self, subset: int) -> frozenset[str]:
        return frozenset(name for bit, name in enumerate(self.universe) if subset >> bit & 1)

    def mask(self, names: frozenset[str]) -> int:
        return sum(1 << bit for bit, name in enumerate(self.universe) if name in names)

    def smallest(self, count: int) -> list[int]:
        """Up to so many of the smallest sets of which nothing is known, spread over them."""
        alive = np.flatnonzero(self.alive)
        if not len(alive):
            return []
        least: NDArray[np.int64] = alive[self.size[alive] == self.size[alive].min()]
        spread = np.unique(np.linspace(0, len(least) - 1, count).astype(int))
        return [int(each) for each in least[spread]]

    def learn(self, subset: int, answer: Answer) -> None:
        if answer.holds is None:
            self.alive[subset] = False
            self.undecided += 1
        elif answer.holds:
            if not any(known & subset == known for known in self.minimal):
                self.minimal.append(subset)
            self.alive &= (self.all & subset) != subset
        else:
            asked = self.mask(answer.consulted)
            self.alive &= (self.all & asked) != (subset & asked)


def judge(task: tuple[Setting, tuple[str, ...], Budget]) -> Answer:
    """Whether everything asked holds for one set; if not, what that rests on."""
    setting, names, budget = task
    policy = watched(setting.policy)
    if not works(policy, setting.design):
        return Answer(False, frozenset(policy.consulted))
    enough = replace(budget.limits(), first=bits(name for name in names if name in ALWAYS))
    report = check(setting, names, enough, search="apart")
    for verdict in report.verdicts:
        if verdict.verdict == "fails":
            return Answer(False, rests_on(report, verdict))
    return Answer(None if report.open else True)


def works(policy: Policy, design: Design) -> bool:
    """Whether requests complete, both ways, on a page that nobody else touches; there is room in pools and rings."""
    known = guest_procedures(design, policy)
    for pool in (False, True):
        page = start(policy)
        for name in ("pool-setup" if pool else "setup", "write", "read"):
            after = _undisturbed(policy, page, known[name]().steps, pool and name in ("write", "read"))
            if after is None:
                return False
            page = after
    return True


def _undisturbed(policy: Policy, page: Page, steps: Steps, pool: bool) -> Page | None:
    """The page after a procedure, None if it fails. pool: it is the page of the pool."""

    def act(line: Do) -> bool:
        nonlocal page
        if line.pool is not pool:
            return True
        step = apply(policy, page, line.op)
        page = step.page
        return step.outcome is Outcome.DONE

    return page if follow(steps, act) is not False else None


def rests_on(report: Report, verdict: Verdict) -> frozenset[str]:
    """The mechanisms that a counterexample consulted: in its procedures, in the rules of its steps, in the property.
    With none of them changed, the same steps fail again. Without a counterexample, all of them."""
    setting = report.checked.setting
    policy = watched(setting.policy)
    if not verdict.path or verdict.kind != "always":
        return setting.policy.mechanisms | MECHANISMS.keys()
    steps = replay(report.checked, list(verdict.path), verdict.page_kind)
    known = guest_procedures(setting.design, policy)
    for name in {told.procedure for told in steps if told.procedure}:
        known[name]() if name in known else PROCEDURES[name](policy)
    for told in steps:
        if told.move.op is not None:
            ALWAYS[verdict.name](policy, told.before, told.move.op, apply(policy, told.before, told.move.op))
    return frozenset(policy.consulted)
