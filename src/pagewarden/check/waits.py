"""What no step shows, told of the state that a path ends in: who waits for whose lock, and what would have helped."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from pagewarden.check.minimal import works
from pagewarden.check.page.flow import Leads
from pagewarden.check.page.system import Setting, bits
from pagewarden.check.replay import AtWork, standing
from pagewarden.check.search.explorer import Limits
from pagewarden.check.verdict import Report, Verdict, check
from pagewarden.designs.steps import Do, Lock
from pagewarden.law import LOCKING


def waits(report: Report, verdict: Verdict) -> list[str]:
    """Of everybody who is at work at the end of a path and waits for a lock: what they hold, what they want, for which
    step, and who holds that."""
    everybody = standing(report.checked, list(verdict.path), verdict.page_kind)
    return [_wait(each, everybody) for each in everybody if isinstance(each.node.step, Lock)]


def _wait(waiter: AtWork, everybody: list[AtWork]) -> str:
    held, wanted = [name for name, _ in waiter.node.stands.locks], waiter.node.step
    assert isinstance(wanted, Lock)
    has = [each for each in everybody if wanted.name in dict(each.node.stands.locks)]
    whose = " and ".join("itself" if each is waiter else _name(each) for each in has) or "nobody"
    before = next(_operations(waiter.node.done), "its end")
    own = f" (holds {' and '.join(held)})" if held else ""
    return f"{_name(waiter)}{own}, before {before}, wants {wanted.name}, held by {whose}"


def _name(each: AtWork) -> str:
    return "the stranger" if each.who is None else f"vCPU {each.who}"


def _operations(exits: tuple[Leads, ...]) -> Iterator[str]:
    """Those that come next, by the law's names."""
    for exit in exits:
        if exit.node is not None:
            if isinstance(exit.node.step, Do):
                yield exit.node.step.op.key
            yield from _operations(exit.node.done)


@cache
def cures(setting: Setting, name: str) -> tuple[str, ...]:
    """The names of locking that the policy lacks, with each of which the property holds for the same actors, and
    undisturbed requests still complete: each is tried."""
    others = [setting.policy.with_(each) for each in LOCKING if not setting.policy.has(each)]
    holds = [each for each in others if works(each, setting.design) and _holds(replace(setting, policy=each), name)]
    return tuple(each for other in holds for each in other.mechanisms - setting.policy.mechanisms)


def _holds(setting: Setting, name: str) -> bool:
    return check(setting, (name,), Limits(first=bits([name])), search="apart").exit_code == 0
