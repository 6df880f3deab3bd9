"""A counterexample as a listing in the mail's style: who does what, what the hardware says, where it goes wrong."""

from typing import TypeAlias

from pagewarden.check.replay import Told, replay
from pagewarden.check.verdict import Report, Verdict
from pagewarden.check.waits import cures, waits
from pagewarden.check.words import alias, missing, wrong
from pagewarden.designs.steps import WORLDS, said
from pagewarden.law import LOCKING, LOCKS, Op, Outcome, Page, reason
from pagewarden.law.properties import DEADLOCK, OF_THE_WHOLE

MEANS = {
    Outcome.GUEST_FAULT: "the guest faults",
    Outcome.GUEST_KILLED: "the guest dies",
    Outcome.HOST_RETRY: "the host waits and tries again",
    Outcome.PANIC: "the host kernel dies",
}


def tell(report: Report, verdict: Verdict) -> list[Told]:
    """The steps of a verdict's path."""
    alone = not report.together or verdict.name in OF_THE_WHOLE
    return replay(report.checked, list(verdict.path), verdict.page_kind if alone else None)


InWords: TypeAlias = tuple[str, str, str, str]
"""A step: who does what, what comes of it, the rule that says so."""


def in_words(report: Report, verdict: Verdict) -> list[InWords]:
    """The steps of a verdict's path."""
    steps = tell(report, verdict)
    return [
        (_actor(step), f"page {step.page}: {_action(step, steps)}", _effect(step), _rule(report, step))
        for step in steps
    ]


def listing(report: Report, verdict: Verdict) -> list[str]:
    """Lines of text: the steps are numbered, between them hops and remarks of the procedures; then what went
    wrong, the rule that says so, and which mechanisms were missing."""
    lines: list[str] = []
    steps = tell(report, verdict)
    for number, told in enumerate(steps, 1):
        lines += [_aside(told, said(step)) for step in told.lead]
        lines.append(f"{number:>3}  {_actor(told):<21} page {told.page}: {_action(told, steps)}")
        lines.append(f"{'':<27}= {_effect(told)}")
        lines += [_aside(told, said(step)) for step in told.after]
    if verdict.verdict == "fails" and steps:
        what, *who = goes_wrong(report, verdict, steps)
        lines += [f"     here it goes wrong: {verdict.name}: {what}", *(f"     {each}" for each in who)]
        lines += [f"     rule: {rule}" for rule in [_rule(report, steps[-1])] if rule]
        lines += [f"     missing: {each}" for each in lacks(report, verdict, steps)]
    return lines


def lacks(report: Report, verdict: Verdict, steps: list[Told]) -> list[str]:
    """What would have ended a path, in words."""
    setting = report.checked.setting
    if verdict.name in OF_THE_WHOLE:
        return [f"{name}: {LOCKING[name]}" for name in cures(setting, verdict.name)]
    found = missing(verdict.name, setting.policy, setting.design, steps)
    return [f"{' with '.join(each.names)} (step {each.step}): {each.what}" for each in found]


def goes_wrong(report: Report, verdict: Verdict, steps: list[Told]) -> list[str]:
    """What the end of a path is, in words; of a deadlock also who waits for whose lock."""
    return [wrong(verdict.name, steps[-1]), *(waits(report, verdict) if verdict.name == DEADLOCK else ())]


def _actor(told: Told) -> str:
    if told.move.actor == "vcpu":
        world = "guest" if told.move.place is None else told.world
        return f"{WORLDS[world]}, vCPU {told.who}"
    if told.move.actor == "procedure":
        return f"{WORLDS[told.world]}, stranger"
    return f"host, {told.move.name}"


def _action(told: Told, steps: list[Told]) -> str:
    op = told.move.op
    if op is None and told.move.place is not None and told.move.place.op is None:
        return told.text
    if op is None:
        gone = "what it looked up has changed" if told.move.looked else "a frame that the page has left"
        return f"{told.text} [{gone}]"
    text = told.text or reason(op).rsplit(" [", 1)[0].rstrip(".")
    which = alias(steps, told) if op in (Op.ALIAS_LOAD, Op.ALIAS_STORE, Op.ALIAS_CLOSE) else ""
    return f"{text}{f' ({which})' if which else ''} [{op.key}]"


def _effect(told: Told) -> str:
    changed = _difference(told.before, told.step.page)
    if told.step.outcome is not Outcome.DONE:
        return f"{told.step.outcome.name}" + (f": {MEANS[told.step.outcome]}" if told.step.outcome in MEANS else "")
    reached = "the bytes of the page are reached" if told.step.reached else ""
    return "; ".join(filter(None, (changed, reached))) or "done"


def _difference(before: Page, after: Page) -> str:
    pairs = zip(Page._fields, before, after, strict=True)
    return ", ".join(f"{name} {_value(old)} -> {_value(new)}" for name, old, new in pairs if old != new)


def _value(value: object) -> str:
    name = getattr(value, "name", None)
    return str(name or value).lower() if isinstance(value, bool) or name is None else str(name)


def _rule(report: Report, told: Told) -> str:
    if told.move.op is not None:
        return reason(told.move.op, report.checked.setting.policy)
    if told.lock:
        return f"Procedures take {told.lock}, and hold it. [{'; '.join(LOCKS[told.lock].sources)}]"
    return "KVM maps what it had looked up. [x86/kvm/mmu/mmu.c is_page_fault_stale]" if told.move.stale else ""


def _aside(told: Told, text: str) -> str:
    """What an actor's procedure says between two steps."""
    who = "stranger" if told.who is None else f"vCPU {told.who}"
    return f"     {who:<21} {text}"
