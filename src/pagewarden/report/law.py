"""The law for people: a policy, its mechanisms, the cases of each operation."""

from rich.console import Console
from rich.text import Text

from pagewarden.law import NAMES, SOURCES, Op, Policy, reason, tabulate
from pagewarden.law.cases import Case, cases
from pagewarden.report.console import table
from pagewarden.report.documents.law import LawCase, LawOp, PolicyLaw


def print_law(policy: Policy, ops: list[Op], out: Console) -> None:
    """The cases of each operation, under what its rule says."""
    states = len(tabulate(policy).pages)
    out.print(f"{policy.name}: {policy.stands_for}\nguard: {policy.guard}; {states:,} states of a page\n")
    for name in sorted(policy.mechanisms):
        out.print(f"  {name:17} {NAMES[name]}")
    for op in ops:
        out.print(Text.assemble("\n", (op.key, "bold"), "  ", reason(op)))
        made = table("when", "outcome", "page", "events", left=4)
        for case in cases(tabulate(policy), op):
            made.add_row(*cells(case))
        out.print(made)


def cells(case: Case, between: str = "|") -> tuple[str, str, str, str]:
    """When, what comes of it, what of the page, events."""
    when = " ".join(f"{name}={between.join(values)}" for name, values in case.when.items()) or "always"
    changes = " ".join(f"{name}:={value}" for name, value in case.changes.items())
    touched = "bytes touched" if case.reached else ""
    return when, case.outcome.name, " ".join(filter(None, (touched, changes))), " ".join(e.key for e in case.events)


def law_document(policy: Policy, ops: list[Op]) -> PolicyLaw:
    """The same for programs."""
    table_ = tabulate(policy)
    return PolicyLaw(
        policy=policy.name, guard=policy.guard, fault=policy.fault, stands_for=policy.stands_for,
        mechanisms=sorted(policy.mechanisms), states=len(table_.pages),
        ops=[LawOp(op.key, reason(op), "; ".join(SOURCES[op]), list(map(_case, cases(table_, op)))) for op in ops],
    )  # fmt: skip


def _case(case: Case) -> LawCase:
    return LawCase(
        when={name: list(values) for name, values in case.when.items()}, outcome=case.outcome.name,
        errno=case.outcome.errno, changes=case.changes, events=[event.key for event in case.events],
        reached=case.reached, states=case.states,
    )  # fmt: skip
