"""The minimal sets of mechanisms with which properties hold: which ones does a design really need?

A set will do when what is asked holds with it and an undisturbed request works; it is minimal when no smaller part of
it will do. All subsets of the policy's mechanisms are candidates. One that fails takes others with it: those under
which the law answers every step of its counterexample alike; one that will do takes its supersets. No rule is assumed
to be monotone: a mechanism may also open a way.
"""

from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagewarden.check.many import Budget, CutShort, Workers
from pagewarden.check.page.actors import guest_procedures
from pagewarden.check.page.system import Setting, bits
from pagewarden.check.replay import replay
from pagewarden.check.search.explorer import Limits
from pagewarden.check.verdict import Report, Verdict, check
from pagewarden.designs import PROCEDURES, Design, Do, Steps, follow
from pagewarden.law import NAMES, Op, Outcome, Page, Policy, apply, start
from pagewarden.law.policy import Watched
from pagewarden.law.properties import ALWAYS
from pagewarden.vocab import UserMistake

MOST = 24
"""Mechanisms whose subsets can be listed."""


Asks = Callable[[Policy], bool]
Cube = tuple[frozenset[str], frozenset[str]]
"""Some mechanisms, and those of them that are there: the sets that answer these alike."""
Cubes = frozenset[Cube]
"""The sets of any of the cubes."""


def condition(asks: Asks, like: Policy, universe: Collection[str] = NAMES) -> Cubes:
    """The sets of some mechanisms with which something is true of a policy."""
    return answers(asks, like, universe).get(True, frozenset())


def answers(what: Callable[[Policy], Hashable], like: Policy, universe: Collection[str] = NAMES) -> dict[object, Cubes]:
    """All that may be said of a policy, each with the sets of some mechanisms of which it is said. It is asked again
    with another answer to each mechanism that it consults, not once for every set."""
    found: dict[object, set[Cube]] = {}
    todo = [dict[str, bool]()]
    while todo:
        known = todo.pop()
        there = frozenset(name for name, asked in known.items() if asked)
        policy = Watched.of(like, there)
        said = what(policy)
        for name in [name for name in policy.consulted if name in universe and name not in known]:
            todo.append({**known, name: True})
            known[name] = False
        found.setdefault(said, set()).add((frozenset(known), policy.mechanisms))
    return {said: frozenset(cubes) for said, cubes in found.items()}


@dataclass(frozen=True)
class Answer:
    """Whether a set holds; None: not decided within the limits. fails: every set that meets them all fails, too."""

    holds: bool | None
    fails: frozenset[Cubes] = frozenset()


@dataclass(frozen=True)
class Minimal:
    """sets: in the order in which they were found, smallest first; left: candidates of which nothing is known;
    interrupted: by Ctrl-C."""

    sets: list[frozenset[str]]
    left: int
    interrupted: bool = False


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
    lattice.drop([condition(lambda policy: not works(policy, setting.design), setting.policy, universe)])
    tried, budget, interrupted = 0, Budget.of(limits or Limits(), pool), False
    while len(batch := lattice.smallest(pool.width)) and not budget.over and not interrupted:
        tasks = [(_with(setting, lattice.names(each)), names, budget, lattice.known) for each in batch]
        try:
            answers = pool.map(judge, tasks)
        except CutShort as cut:
            answers, interrupted = cut.answers, True
        for each, answer in zip(batch, answers, strict=True):
            if answer is not None:
                lattice.learn(each, answer)
        tried += len(batch)
        if progress:
            progress(tried, lattice.left)
    found = [lattice.names(each) for each in lattice.minimal]
    return Minimal(found, lattice.left + lattice.undecided, interrupted)


def _with(setting: Setting, mechanisms: frozenset[str]) -> Setting:
    return replace(setting, policy=replace(setting.policy, name="candidate", mechanisms=mechanisms))


class _Lattice:
    """Subsets as bit masks; alive: those of which nothing is known, the smallest first."""

    def __init__(self, universe: list[str]) -> None:
        self.universe, self.known = universe, frozenset(universe)
        every = np.arange(1 << len(universe), dtype=np.uint32)
        self.alive: NDArray[np.uint32] = every[np.argsort(np.bitwise_count(every), kind="stable")]
        self.minimal: list[int] = []
        self.undecided = 0

    @property
    def left(self) -> int:
        return len(self.alive)

    def names(self, subset: int) -> frozenset[str]:
        return frozenset(name for bit, name in enumerate(self.universe) if subset >> bit & 1)

    def mask(self, names: frozenset[str]) -> np.uint32:
        return np.uint32(sum(1 << bit for bit, name in enumerate(self.universe) if name in names))

    def smallest(self, count: int) -> list[int]:
        """Up to so many of the smallest sets of which nothing is known, spread over them."""
        if not self.left:
            return []
        sizes = np.bitwise_count(self.alive)
        least = int(np.searchsorted(sizes, sizes[0], "right"))
        return [int(self.alive[place]) for place in np.unique(np.linspace(0, least - 1, count).astype(int))]

    def learn(self, subset: int, answer: Answer) -> None:
        if answer.holds:
            if not any(known & subset == known for known in self.minimal):
                self.minimal.append(subset)
            self.alive = self.alive[self.alive & np.uint32(subset) != subset]
            return
        self.undecided += answer.holds is None
        self.alive = self.alive[self.alive != subset]
        if answer.fails:
            self.drop(answer.fails)

    def drop(self, conditions: Iterable[Cubes]) -> None:
        """Leave out the sets that meet every condition."""
        meets = np.arange(self.left)
        for cubes in conditions:
            these, some = self.alive[meets], np.zeros(len(meets), bool)
            for asked, there in cubes:
                if there <= self.known:
                    some |= these & self.mask(asked) == self.mask(there)
            meets = meets[some]
        self.alive = np.delete(self.alive, meets)


def judge(task: tuple[Setting, tuple[str, ...], Budget, frozenset[str]]) -> Answer:
    """Whether everything asked holds for one set; if not, which others, of the mechanisms named, fail with it."""
    setting, names, budget, universe = task
    if not works(setting.policy, setting.design):
        return Answer(False)
    enough = replace(budget.limits(), first=bits(name for name in names if name in ALWAYS))
    report = check(setting, names, enough, search="apart")
    for verdict in report.verdicts:
        if verdict.verdict == "fails":
            return Answer(False, fails_alike(report, verdict, universe))
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


def fails_alike(report: Report, verdict: Verdict, universe: frozenset[str]) -> frozenset[Cubes]:
    """Of which of the mechanisms a counterexample is one: they list the same procedures, their rules answer each of its
    steps with the same page and outcome, and the last one breaks the property. None without a counterexample."""
    setting = report.checked.setting
    if not verdict.path or verdict.kind != "always":
        return frozenset()
    steps = replay(report.checked, list(verdict.path), verdict.page_kind)
    asked: set[tuple[Any, ...]] = {(start,), (Design.converts, setting.design)}
    asked |= {(_listing, setting.design, told.procedure) for told in steps if told.procedure}
    asked |= {(_answer, told.before, told.move.op) for told in steps if told.move.op is not None}
    # which procedures a vCPU may begin depends on whether the page faults
    asked |= {(_faults, told.before) for told in steps if told.move.when is not None}
    last = steps[-1]
    if last.move.op is not None:
        asked.add((_breaks, verdict.name, last.before, last.move.op))
    like = replace(setting.policy, mechanisms=frozenset())
    return frozenset(_said(like, universe, *each)[each[0](*each[1:], setting.policy)] for each in asked)


@cache
def _said(like: Policy, universe: frozenset[str], what: Callable[..., Hashable], *of: object) -> dict[object, Cubes]:
    return answers(lambda policy: what(*of, policy), like, universe)


def _listing(design: Design, name: str, policy: Policy) -> Steps:
    known = guest_procedures(design, policy)
    return known[name]().steps if name in known else PROCEDURES[name](policy).steps


def _answer(page: Page, op: Op, policy: Policy) -> tuple[Page, Outcome]:
    step = apply(policy, page, op)
    return step.page, step.outcome


def _faults(page: Page, policy: Policy) -> bool:
    return apply(policy, page, Op.GUEST_LOAD).outcome is Outcome.GUEST_FAULT


def _breaks(name: str, page: Page, op: Op, policy: Policy) -> bool:
    return ALWAYS[name](policy, page, op, apply(policy, page, op))
