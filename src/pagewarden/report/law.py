"""The law for people: a policy, its mechanisms, and of each operation what its rule says, on what, and its cases."""

from collections.abc import Collection, Iterator, Mapping
from enum import IntEnum

from rich.console import Console
from rich.text import Text

from pagewarden.law import MEASURES, NAMES, Op, Policy, says, sources, sources_of, tabulate
from pagewarden.law.cases import Case, cases
from pagewarden.law.page import ABOUT
from pagewarden.law.policy import Watched
from pagewarden.law.rules import RULES
from pagewarden.report.console import table
from pagewarden.report.documents.law import LawCase, LawOp, LawSource, PolicyLaw
from pagewarden.studies.probe.shown import shown

MOST_ROWS = 8
"""Ways that are named in a line."""


def print_law(policy: Policy, ops: list[Op], out: Console) -> None:
    """The cases of each operation, under what its rule says."""
    states = len(tabulate(policy).pages)
    out.print(f"{policy.name}: {policy.stands_for}\nguard: {policy.guard}; {states:,} states of a page")
    out.print(asked(policy), "\n")
    for name in sorted(policy.mechanisms, key=lambda name: (name in MEASURES, name)):
        out.print(f"  {name:17} {NAMES[name]}" + (" (a measure)" if name in MEASURES else ""))
    used: dict[str, set[str]] = {}
    for op in ops:
        out.print(Text.assemble("\n", (op.key, "bold"), "  ", says(op)), soft_wrap=True)
        for source in sources_of(op, policy):
            name, _, what = source.partition(": ")
            link = sources.link(name)
            out.print(f"  {name}" + (f": {what}" if what else "") + (f"\n    {link}" if link else ""), soft_wrap=True)
        if looked := consulted(policy, op):
            out.print(f"  asks for {', '.join(looked)}", soft_wrap=True)
        if ways := shown(policy).get(op):
            more = f" and {len(ways) - MOST_ROWS} more" if len(ways) > MOST_ROWS else ""
            out.print(f"  asked by the rows {', '.join(ways[:MOST_ROWS])}{more}", soft_wrap=True)
        made = table("when", "outcome", "page", "events", left=4)
        for case in cases(tabulate(policy), op):
            made.add_row(*cells(case))
            for name, values in (*case.when.items(), *((name, (value,)) for name, value in case.changes.items())):
                used.setdefault(name, set()).update(values)
        out.print(made)
    _print_fields(used, out)


def _print_fields(used: Mapping[str, Collection[str]], out: Console) -> None:
    """What was named of a page, each value's meaning once."""
    out.print("\nOf a page:" if used else "")
    told: set[tuple[str, str]] = set()
    for name, what, values in fields(used):
        out.print(f"  {name:8} {what}", soft_wrap=True)
        for value, means in [each for each in values.items() if each[1] and each not in told]:
            out.print(f"           {value}: {means}", soft_wrap=True)
        told.update(values.items())


def fields(used: Mapping[str, Collection[str]] | None = None) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Fields of a page, what they say, and what their values say that their names do not: all, or those used."""
    for name, (kind, what) in ABOUT.items():
        if used is None or name in used:
            values = list(kind) if issubclass(kind, IntEnum) else []
            yield name, what, {each.name: each.means for each in values if used is None or each.name in used[name]}


def consulted(policy: Policy, op: Op) -> list[str]:
    """The mechanisms that the rule looks at, and which of them the policy lacks."""
    watched = Watched.of(policy)
    for page in tabulate(policy).pages:
        RULES[op](watched, page)
    return [name if there else f"{name} (not here)" for name, there in watched.consulted.items()]


def asked(policy: Policy) -> str:
    """Whether a kernel was asked what the policy says, in a line."""
    if policy.asked:
        return f"asked: Linux {', '.join(policy.asked)}"
    return f"argued from its sources (Linux {sources.VERSION} where they are the kernel's): no kernel was asked"


def cells(case: Case, between: str = "|") -> tuple[str, str, str, str]:
    """When, what comes of it, what of the page, events."""
    when = " ".join(f"{name}={between.join(values)}" for name, values in case.when.items()) or "always"
    changes = " ".join(f"{name}:={value}" for name, value in case.changes.items())
    touched = "bytes touched" if case.reached else ""
    return when, case.outcome.name, " ".join(filter(None, (touched, changes))), " ".join(e.key for e in case.events)


def law_document(policy: Policy, ops: list[Op]) -> PolicyLaw:
    """The same for programs."""
    return PolicyLaw(
        policy=policy.name, guard=policy.guard, fault=policy.fault, stands_for=policy.stands_for,
        mechanisms=sorted(policy.mechanisms), states=len(tabulate(policy).pages), asked=list(policy.asked),
        ops=[_op(policy, op) for op in ops],
    )  # fmt: skip


def _op(policy: Policy, op: Op) -> LawOp:
    named = [source.partition(": ") for source in sources_of(op, policy)]
    return LawOp(
        op.key, says(op), "; ".join(sources_of(op, policy)), list(map(_case, cases(tabulate(policy), op))),
        [LawSource(name, what, sources.link(name)) for name, _, what in named], list(shown(policy).get(op, ())),
    )  # fmt: skip


def _case(case: Case) -> LawCase:
    return LawCase(
        when={name: list(values) for name, values in case.when.items()}, outcome=case.outcome.name,
        errno=case.outcome.errno, changes=case.changes, events=[event.key for event in case.events],
        reached=case.reached, states=case.states,
    )  # fmt: skip
