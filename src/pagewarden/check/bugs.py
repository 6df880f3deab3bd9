"""Public bugs, each as a small change of a policy: the checker finds it, and holds with the fix."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from pagewarden.check.keeper import KEEPER
from pagewarden.check.migration import MIGRATION
from pagewarden.check.page.strangers import stranger_named
from pagewarden.check.page.system import Setting
from pagewarden.check.protocol import check_protocol
from pagewarden.check.verdict import Report, Said, check
from pagewarden.check.ways import Counterexample, ways
from pagewarden.law import Policy, policy_named

PROTOCOLS = {"keeper": KEEPER, "migration": MIGRATION}


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

    @property
    def command(self) -> str:
        """The call of `pagewarden check` that tells how it breaks."""
        like, broken = policy_named(self.policy).mechanisms, self.broken.mechanisms
        changes = [f"--with {name}" for name in sorted(broken - like)]
        changes += [f"--without {name}" for name in sorted(like - broken)]
        actors = f"--property {self.breaks} --stranger {self.strangers} --vcpus {self.vcpus}"
        return " ".join(["pagewarden check --policy", self.policy, *changes, actors])

    @property
    def subject(self) -> str:
        """What has the fix."""
        return self.fixed.name

    def check(self, policy: Policy) -> Report:
        """The bug's property under one of its policies."""
        setting = Setting(policy, pages=1, vcpus=self.vcpus, strangers=stranger_named(self.strangers))
        return check(setting, (self.breaks,), search="apart")


class ProtocolBug(msgspec.Struct, frozen=True, rename={"breaks": "property"}, forbid_unknown_fields=True):
    """The same of a protocol beside the law's procedures: `without`, the guards that the bug takes away."""

    source: str
    what: str
    protocol: Literal["keeper", "migration"]
    breaks: str
    without: tuple[str, ...]
    strangers: str = "crash"

    @property
    def subject(self) -> str:
        """What has the fix."""
        return f"{self.protocol}, all its guards"

    @property
    def changed(self) -> str:
        """As of Bug."""
        return " ".join(f"-{name}" for name in self.without)

    @property
    def command(self) -> str:
        """As of Bug."""
        return " ".join(
            [f"pagewarden check --protocol {self.protocol}", *(f"--without {name}" for name in self.without)]
        )


@cache
def bugs() -> dict[str, Bug]:
    """Every bug of a policy, by name."""
    return msgspec.convert({name: row for name, row in _rows().items() if "policy" in row}, dict[str, Bug])


@cache
def protocol_bugs() -> dict[str, ProtocolBug]:
    """Every bug of a protocol, by name."""
    return msgspec.convert({name: row for name, row in _rows().items() if "policy" not in row}, dict[str, ProtocolBug])


def _rows() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "bugs.toml").read_text())


@dataclass(frozen=True)
class BugFound:
    """What became of a bug: the verdict with it, and the way that is told of it, a counterexample or words, None where
    it is not found; fixed: the verdict with its fix."""

    name: str
    bug: Bug | ProtocolBug
    verdict: Said
    way: Counterexample | tuple[str, ...] | None
    fixed: Said

    @property
    def steps(self) -> int:
        """Of the way."""
        if self.way is None:
            return 0
        return len(self.way) if isinstance(self.way, tuple) else self.way.steps

    @property
    def right(self) -> bool:
        """It is found, and its fix holds."""
        return self.verdict == "fails" and self.fixed == "holds"


def search() -> Iterator[BugFound]:
    """Every bug, with its fault and with its fix."""
    for name, bug in bugs().items():
        report = bug.check(bug.broken)
        told = ways(report, every=False).get(bug.breaks)
        fixed = bug.check(bug.fixed).verdicts[0].verdict
        yield BugFound(name, bug, report.verdicts[0].verdict, told[0] if told else None, fixed)
    for name, each in protocol_bugs().items():
        found, whole = (check_protocol(PROTOCOLS[each.protocol], without) for without in (each.without, ()))
        yield BugFound(name, each, found.verdict(each.breaks), found.ways.get(each.breaks), whole.verdict(each.breaks))
