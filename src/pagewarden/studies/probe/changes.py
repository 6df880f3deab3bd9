"""What a matrix says that an earlier one did not: of the kernel before a patch, say."""

from collections.abc import Mapping
from typing import NamedTuple

from pagewarden.probe.trial import HARM, OPEN, State, TrialResult


class TrialKey(NamedTuple):
    """Which trial; since: the state in which the path took hold, where that is another."""

    backing: str
    isolated: bool
    path: str
    direction: str
    state: str
    since: str | None = None


class Ending(NamedTuple):
    """What came of it; error: errno or signal name."""

    result: TrialResult
    error: str | None = None


class Change(NamedTuple):
    """One trial that ended in another way."""

    key: TrialKey
    before: Ending
    now: Ending


class Changes(NamedTuple):
    """fixed: harm that is no more; worse: harm that was not, or a shared page that is refused; other: another errno,
    refused or allowed; silent: answered before, not now; added, gone: how many trials only one of the two has."""

    fixed: list[Change]
    worse: list[Change]
    other: list[Change]
    silent: list[Change]
    added: int
    gone: int

    @property
    def good(self) -> bool:
        """Nothing got worse, and nothing that answered failed to answer in time."""
        return not self.worse and not any(change.now.result is TrialResult.TIMEOUT for change in self.silent)


def compare(before: Mapping[TrialKey, Ending], now: Mapping[TrialKey, Ending]) -> Changes:
    """What changed in the trials that both have."""
    found = Changes([], [], [], [], len(now.keys() - before.keys()), len(before.keys() - now.keys()))
    for key, ending in now.items():
        if key in before and before[key] != ending:
            change = Change(key, before[key], ending)
            _kind(found, change).append(change)
    return found


def _kind(found: Changes, change: Change) -> list[Change]:
    before, now = change.before.result, change.now.result
    if now in OPEN:
        return found.silent if before not in OPEN else found.other
    if now in HARM and before not in HARM:
        return found.worse
    if before in HARM and now not in HARM:
        return found.fixed
    refused = now is TrialResult.REFUSED and before is TrialResult.ALLOWED
    return found.worse if refused and change.key.state == State.SHARED else found.other
