"""What a search says of each property: it holds, it fails and this is how, or the search did not get far enough."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from resource import RUSAGE_SELF, getrusage
from time import perf_counter, process_time
from typing import Literal, TypeAlias

from pagewarden.check.page.local import EVERY
from pagewarden.check.page.system import (
    COMPLETES,
    PROPERTIES,
    CheckedSystem,
    Setting,
    asked,
    bits,
    offered,
    page_searches,
)  # fmt: skip
from pagewarden.check.search.explorer import INTERRUPTED, Exploration, Limits, SoFar, Taken, exhaust, explore
from pagewarden.law import enumerated
from pagewarden.law.properties import ALWAYS, OF_THE_WHOLE, PROGRESS
from pagewarden.vocab import UserMistake

SEARCHES = ("auto", "together", "apart")
AFFORDABLE = 20_000_000
"""States up to which `auto` explores all pages together: some ten seconds."""
ALONE = 1 << 16
"""States of one page beyond which `auto` does not think of several: two such pages have more than AFFORDABLE."""

OF_THE_GUEST = ("share-succeeds", "unshare-succeeds", COMPLETES)
"""What must be possible for the guest, whoever else does nothing."""

Kind: TypeAlias = Literal["always", "sometimes"]
Said: TypeAlias = Literal["holds", "fails", "open"]
"""`open`: the search did not get far enough."""


@dataclass(frozen=True)
class Verdict:
    """kind: always or sometimes. verdict: holds, fails, open. path: the shortest that breaks an `always`, or that shows
    a `sometimes`; component 0 of it is a page of the kind with that index."""

    name: str
    kind: Kind
    verdict: Said
    path: tuple[Taken, ...] = ()
    page_kind: int = 0


@dataclass(frozen=True)
class Report:
    """checked: what was explored. together: all pages at once, not one with everybody who acts on it. ends, stops: how
    far each search came, and why it stopped early if it did; apart there is one a kind of page. absent: properties that
    the setting does not offer, with the reason. seconds: from the question to the answer; cpu: of this process in
    them; peak: its largest resident memory so far, bytes."""

    checked: CheckedSystem
    together: bool
    ends: tuple[SoFar, ...]
    stops: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    absent: dict[str, str]
    seconds: float
    cpu: float
    peak: int

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
    def levels(self) -> list[int]:
        """States by the depth where they were first seen, of all searches."""
        return [sum(at) for at in zip_longest(*(end.levels for end in self.ends), fillvalue=0)]

    @property
    def open(self) -> bool:
        """Something that was asked is not decided."""
        return any(verdict.verdict == "open" for verdict in self.verdicts)

    @property
    def exhausted(self) -> bool:
        """Every reachable state was seen."""
        return not any(self.stops)

    @property
    def interrupted(self) -> bool:
        """By Ctrl-C."""
        return INTERRUPTED in self.stops

    @cached_property
    def helped(self) -> tuple[str, ...]:
        """What the guest gets done here and never alone: the stranger's steps stand in for some that are missing."""
        setting = self.checked.setting
        names = tuple(v.name for v in self.verdicts if v.name in OF_THE_GUEST and v.verdict == "holds")
        if not names or not setting.strangers or self.interrupted:
            return ()
        alone = check(replace(setting, pages=1, strangers=()), names, search="apart")
        return tuple(v.name for v in alone.verdicts if v.verdict == "fails")

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
    announce: Callable[[Setting, CheckedSystem | None, bool], None] | None = None,
    progress: Callable[[SoFar], None] | None = None,
    own: bool = False,
) -> Report:
    """Explore a setting and judge the named properties, or every one that it offers.

    search: `together` explores all pages at once; `apart` one page of each kind with everybody who acts on it, which
    decides for any number of pages, as they meet in nothing but the actors (docs/check.md); `auto`: together, if there
    are no more than AFFORDABLE states, and no more than ALONE of one page. The limits hold for all of it. announce:
    called with the setting, what is known of its pages and whether they are explored together. own: what must always
    hold is judged on pages with bytes of the guest's only.
    """
    if search not in SEARCHES:
        raise UserMistake(f"--search {search}: expected {', '.join(SEARCHES)}")
    began, cpu = perf_counter(), process_time()
    absent = {} if asked(names) else offered(setting)
    names = names or tuple(name for name in PROPERTIES if name not in absent)
    limits = replace(limits or Limits(), wanted=bits(names))
    say = announce or (lambda setting, checked, together: None)
    if search == "apart":
        say(setting, None, False)
    keep = EVERY if PROGRESS in names else {"together": EVERY, "auto": ALONE}.get(search, 0)
    casts, pages = page_searches(setting, limits, keep, began, own)
    searches: list[Exploration] = []
    for page in pages:
        ended = searches[-1].why if searches else ""
        searches.append(exhaust(page, progress, ended if ended == INTERRUPTED else ""))
    checked = CheckedSystem(setting, enumerated(setting.policy), casts, [page.local() for page in pages])
    together = all(page.keep and found.exhausted for page, found in zip(pages, searches, strict=True))
    together = together and search != "apart"
    together = together and (search == "together" or checked.system.bound() <= AFFORDABLE)
    if search != "apart":
        say(setting, checked, together)
    whole = {name: _judge(name, searches) for name in names if name in OF_THE_WHOLE}
    if together:
        held = sum(local.nbytes for local in checked.locals)
        del pages, page
        searches = [explore(checked.system, replace(limits, memory=limits.memory - held), progress, began)]
    verdicts = tuple(whole.get(name) or _judge(name, searches) for name in names)
    ends, stops = (tuple(getattr(search, name) for search in searches) for name in ("last", "why"))
    peak = getrusage(RUSAGE_SELF).ru_maxrss * 1024  # in KiB on Linux
    now = perf_counter() - began, process_time() - cpu
    return Report(checked, together, ends, stops, verdicts, absent, *now, peak)


def _judge(name: str, searches: Sequence[Exploration]) -> Verdict:
    """A property that was decided early is decided, though the search went no further."""
    mark = PROPERTIES.index(name)
    always = name in ALWAYS or name in OF_THE_WHOLE
    kind: Kind = "always" if always else "sometimes"
    seen = [number for number, search in enumerate(searches) if search.marks >> mark & 1]
    if seen:
        paths = {number: tuple(searches[number].path(mark)) for number in seen}
        shortest = min(seen, key=lambda number: len(paths[number]))
        return Verdict(name, kind, "fails" if always else "holds", paths[shortest], shortest)
    decided = all(search.exhausted for search in searches)
    return Verdict(name, kind, ("holds" if always else "fails") if decided else "open")
