"""Every independent way to break a property: the smallest sets of actors that do it, and what a person would do there.

An actor is an ability of the stranger's, or a second vCPU; one more only adds to what may happen. Of each smallest set
one shortest path is told, of a page that holds the guest's own bytes if there is one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from pagewarden.check.page.actors import Cast
from pagewarden.check.page.moves import Move
from pagewarden.check.page.strangers import STRANGERS
from pagewarden.check.page.system import CheckedSystem, Setting, bits
from pagewarden.check.replay import replay
from pagewarden.check.search.explorer import Limits
from pagewarden.check.verdict import Report, Verdict, check
from pagewarden.law.properties import ALWAYS, PROMISES

SECOND = "a second vCPU"
Actors = frozenset[str]


@dataclass(frozen=True)
class Counterexample:
    """actors: beside one vCPU of the guest; report, verdict: of the setting that has only these."""

    actors: Actors
    report: Report
    verdict: Verdict

    @property
    def steps(self) -> int:
        return len(self.verdict.path)


def ways(report: Report, limits: Limits | None = None, every: bool = True) -> dict[str, list[Counterexample]]:
    """Of each property that must always hold and fails, by name: the ways, the fewest actors first, then the shortest.
    every: or only as many as it takes to have the first; within the time that the limits leave, always at least one."""
    failing = tuple(v.name for v in report.verdicts if v.verdict == "fails" and v.name in PROMISES)
    search = _Ways(report, failing, limits or Limits(), every)
    found = {}
    for verdict in report.verdicts:
        if verdict.name in failing:
            sets = search.smallest(verdict.name) or [_whole(report.checked.setting)]
            told = [search.natural(verdict.name, actors) for actors in sets]
            found[verdict.name] = sorted(told, key=lambda way: (len(way.actors), way.steps, sorted(way.actors)))
    return found


def _whole(setting: Setting) -> Actors:
    return frozenset(setting.strangers) | ({SECOND} if setting.vcpus > 1 else set())


class _Ways:
    def __init__(self, report: Report, names: tuple[str, ...], limits: Limits, every: bool) -> None:
        self.setting, self.names, self.limits, self.every = report.checked.setting, names, limits, every
        self.until = perf_counter() + limits.seconds
        self.known: dict[tuple[Actors, bool], dict[str, Counterexample]] = {}
        self.last = {name: last_actors(report.checked, name) for name in names}

    def breaks(self, actors: Actors, own: bool = False) -> dict[str, Counterexample]:
        """What these few break, by name. own: on a page with bytes of the guest's."""
        if (actors, own) not in self.known:
            strangers = tuple(name for name in STRANGERS if name in actors)
            vcpus = self.setting.vcpus if SECOND in actors else 1
            setting = replace(self.setting, pages=1, vcpus=vcpus, strangers=strangers)
            found = check(setting, self.names, replace(self.limits, first=0), search="apart", own=own)
            self.known[actors, own] = {
                v.name: Counterexample(actors, found, v) for v in found.verdicts if v.verdict == "fails"
            }
        return self.known[actors, own]

    def smallest(self, name: str) -> list[Actors]:
        """The sets of which no smaller part breaks the property."""
        whole = _whole(self.setting)
        for few in ([frozenset[str]()], [frozenset({actor}) for actor in sorted(whole)]):
            found = [actors for actors in few if name in self.breaks(actors)]
            if found and (not self.every or not few[0]):
                return found
        rest = whole.difference(*found)
        return [*found, *dict.fromkeys(self.several(name, rest, set()) if len(rest) > 1 else ())]

    def several(self, name: str, among: Actors, seen: set[Actors]) -> Iterator[Actors]:
        """Sets of more than one actor: one of them, then those without each of its actors."""
        if among in seen or self.last[name].isdisjoint(among | {None}) or perf_counter() > self.until:
            return
        seen.add(among)
        way = self.breaks(among).get(name)
        if way is None:
            return
        some = _involved(way)
        for actor in sorted(some):
            if name in self.breaks(some - {actor}):
                some -= {actor}
        yield some
        for actor in sorted(some) if self.every else ():
            yield from self.several(name, among - {actor}, seen)

    def natural(self, name: str, actors: Actors) -> Counterexample:
        """A shortest path of these actors, of a page with bytes of the guest's if they break it there."""
        return self.breaks(actors, True).get(name) or self.breaks(actors)[name]


def last_actors(checked: CheckedSystem, name: str) -> set[str | None]:
    """Whose steps break a property, of all actors: abilities; None: the guest's, or it is not known. Fewer actors have
    fewer steps, so where none of these is, it holds."""
    if name not in ALWAYS:
        return {None}  # a state breaks it, not a step
    found = set[str | None]()
    for cast, local in zip(checked.casts, checked.locals, strict=True):
        for move in (local.moves.list[number] for number in np.flatnonzero(local.shown & np.uint32(bits([name])))):
            found |= {None} if move.actor == "vcpu" else _able(cast, move)
    return found


def _able(cast: Cast, move: Move) -> set[str | None]:
    """The abilities that have such a step of the host's."""
    if move.actor == "stranger":
        return {name for name, ability in STRANGERS.items() if move.op in ability.ops}
    op = move.place.op if move.place else move.op
    flows = [flow.name for start in cast.procedure for flow in start.flows
             if any(node.step.op is op for node in flow.nodes())]  # fmt: skip
    return {name for name, ability in STRANGERS.items() if {*ability.procedures} & {*flows}}


def _involved(way: Counterexample) -> Actors:
    """The actors of a path: abilities, by what they do, and a second vCPU."""
    told = replay(way.report.checked, list(way.verdict.path), way.verdict.page_kind)
    named = {step.procedure if step.move.actor == "procedure" else step.move.name for step in told}
    some = {name for name in way.report.checked.setting.strangers if named & {name, *STRANGERS[name].procedures}}
    second = {SECOND} if len({step.who for step in told if step.who is not None}) > 1 else set()
    return frozenset(some | second)
