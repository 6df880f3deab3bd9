"""Public bugs, each as a small change of a policy: the checker finds it, and holds with the fix."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from pagewarden.check.page.strangers import stranger_named
from pagewarden.check.page.system import Setting
from pagewarden.check.verdict import Report, Said, Verdict, check
from pagewarden.law import Policy, policy_named


class Bug(msgspec.Struct, frozen=True, rename={"with_": "with", "breaks": "property"}, forbid_unknown_fields=True):
    """source: the address of the report, or of the fix. what: happens there, in words. policy, with_: with the fix;
    without, change: what the bug takes away from that, and adds. strangers, vcpus: who acts on a page of it."""

    source: str
    what: str
    policy: str
    breaks: str
    with_: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    change: tuple[str, ...] = ()
    strangers: str = "none"
    vcpus: int = 1

    @property
    def fixed(self) -> Policy:
        return policy_named(self.policy).with_(*self.with_)

    @property
    def broken(self) -> Policy:
        return self.fixed.without(*self.without).with_(*self.change)

    @property
    def changed(self) -> str:
        """From the policy with its fix, as names taken away and added."""
        return " ".join([f"-{name}" for name in self.without] + [f"+{name}" for name in self.change])

    def check(self, policy: Policy) -> Report:
        """The bug's property under one of its policies."""
        setting = Setting(policy, pages=1, vcpus=self.vcpus, strangers=stranger_named(self.strangers))
        return check(setting, (self.breaks,), search="apart")


@cache
def bugs() -> dict[str, Bug]:
    """Every bug, by name."""
    text = (Path(__file__).parent / "bugs.toml").read_text()
    return msgspec.convert(tomllib.loads(text), dict[str, Bug])


@dataclass(frozen=True)
class BugFound:
    """What became of a bug: verdict and steps with it; fixed: the verdict with its fix."""

    name: str
    bug: Bug
    report: Report
    fixed: Said

    @property
    def verdict(self) -> Verdict:
        return self.report.verdicts[0]

    @property
    def right(self) -> bool:
        """It is found, and its fix holds."""
        return self.verdict.verdict == "fails" and self.fixed == "holds"


def search() -> Iterator[BugFound]:
    """Every bug, with its fault and with its fix."""
    for name, bug in bugs().items():
        yield BugFound(name, bug, bug.check(bug.broken), bug.check(bug.fixed).verdicts[0].verdict)
