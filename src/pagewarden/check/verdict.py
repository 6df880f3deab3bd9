"""What a search says of each property: it holds, it fails and this is how, or the search did not get far enough."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from pagewarden.check.page.system import PROPERTIES, Checked, Setting, asked, build, offered
from pagewarden.check.search.automaton import System
from pagewarden.check.search.explorer import Exploration, Limits, Progress, Taken, explore
from pagewarden.law.properties import ALWAYS
from pagewarden.vocab import UserMistake

SEARCHES = ("auto", "together", "apart")
AFFORDABLE = 20_000_000
"""States up to which `auto` explores all pages together: some ten seconds."""


@dataclass(frozen=True)
class Verdict:
    """kind: always or sometimes. verdict: holds, fails, open. path: the shortest that breaks an `always`, or that shows
    a `sometimes`; component 0 of it is a page of the kind with that index."""

    name: str
    kind: str
    verdict: str
    path: tuple[Taken, ...] = ()
    page_kind: int = 0


@dataclass(frozen=True)
class Report:
    """checked: what was explored. together: all pages at once, not one with everybody who acts on it. ends, stops: how
    far each search came, and why it stopped early if it did; apart there is one a kind of page. absent: properties that
    the setting does not offer, with the reason."""

    checked: Checked
    together: bool
    ends: tuple[Progress, ...]
    stops: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    absent: dict[str, str]

    @property
    def states(self) -> int:
        return sum(end.states for end in self.ends)

    @property
    def transitions(self) -> int:
        return sum(end.transitions for end in self.ends)

    @property
    def depth(self) -> int:
        return max(end.depth for end in self.ends)

    @property
    def seconds(self) -> float:
        return sum(end.seconds for end in self.ends)

    @property
    def exhausted(self) -> bool:
        """Every reachable state was seen."""
        return not any(self.stops)

    @property
    def exit_code(self) -> int:
        """0: all hold; 1: one fails; 2: none fails, but not every one is decided."""
        found = {verdict.verdict for verdict in self.verdicts}
        return 1 if "fails" in found else 2 if "open" in found else 0


def check(
    setting: Setting,
    names: tuple[str, ...] = (),
    limits: Limits | None = None,
    search: str = "auto",
    announce: Callable[[Checked, bool], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Explore a setting and judge the named properties, or every one that it offers.

    search: `together` explores all pages at once; `apart` one page of each kind with everybody who acts on it, which
    decides for any number of pages, as they meet in nothing but the actors (docs/check.md); `auto`: together, if there
    are no more than AFFORDABLE states. announce: called with the system and whether together, before the search.
    """
    if search not in SEARCHES:
        raise UserMistake(f"--search {search}: expected {', '.join(SEARCHES)}")
    limits = limits or Limits()
    names = asked(names)
    checked, absent = build(setting), {} if names else offered(setting)
    names = names or tuple(name for name in PROPERTIES if name not in absent)
    together = search == "together" or (search == "auto" and checked.system.bound() <= AFFORDABLE)
    if announce:
        announce(checked, together)
    limits = replace(limits, wanted=sum(1 << PROPERTIES.index(name) for name in names))
    systems = [checked.system] if together else _apart(checked.system)
    searches = tuple(explore(system, limits, progress) for system in systems)
    verdicts = tuple(_judge(name, searches) for name in names)
    ends, stops = (tuple(getattr(search, name) for search in searches) for name in ("last", "why"))
    return Report(checked, together, ends, stops, verdicts, absent)


def _apart(system: System) -> list[System]:
    return [System([(automaton, 1)], system.capacity, system.symmetric) for automaton, _ in system.kinds]


def _judge(name: str, searches: tuple[Exploration, ...]) -> Verdict:
    """A property that was decided early is decided, though the search went no further."""
    mark = PROPERTIES.index(name)
    always = name in ALWAYS
    kind = "always" if always else "sometimes"
    seen = [number for number, search in enumerate(searches) if search.marks >> mark & 1]
    if seen:
        paths = {number: tuple(searches[number].path(mark)) for number in seen}
        shortest = min(seen, key=lambda number: len(paths[number]))
        return Verdict(name, kind, "fails" if always else "holds", paths[shortest], shortest)
    decided = all(search.exhausted for search in searches)
    return Verdict(name, kind, ("holds" if always else "fails") if decided else "open")
