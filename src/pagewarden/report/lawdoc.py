"""docs/law.md: policies, mechanisms, operations and the cases of the hybrid, printed from the law."""

import re
from collections.abc import Iterable, Iterator, Mapping

from pagewarden.law import EVERY, MEASURES, MECHANISMS, POLICIES, SOURCES, USAGES, Op, Policy, Usage, reason, tabulate
from pagewarden.law.cases import cases
from pagewarden.report.law import cells

_HEAD = """# The law

Printed from `pagewarden.law` by `python -m pagewarden.report.docs`; a test compares. Mail: the LKML
thread "[PATCH v5 00/13] KVM: mm: fd-based approach for supporting KVM guest private memory". Every source leads to its
row in [sources.md](sources.md).
"""


def document() -> str:
    """The whole file."""
    return "\n".join([_HEAD, *_policies(), *_operations(), *_cases("hybrid")]) + "\n"


def _policies() -> list[str]:
    lines = ["## Policies", "", "| policy | guard | states | stands for |", "|---|---|---|---|"]
    lines += [f"| `{p.name}` | {p.guard} | {len(tabulate(p).pages):,} | {p.stands_for} |" for p in EVERY.values()]
    lines += ["", "| mechanism | what it does | who has it |", "|---|---|---|"]
    lines += _named(MECHANISMS, POLICIES.values())
    lines += ["", "| measure | what it does | who adds it |", "|---|---|---|", *_named(MEASURES, USAGES.values())]
    return [*lines, ""]


def _named(names: Mapping[str, str], owners: Iterable[Policy | Usage]) -> Iterator[str]:
    for name, meaning in names.items():
        those = ", ".join(owner.name for owner in owners if owner.has(name))
        yield f"| `{name}` | {meaning} | {those or '-'} |"


def _operations() -> list[str]:
    lines = ["## Operations", "", "| operation | rule | source |", "|---|---|---|"]
    lines += [f"| `{op.key}` | {reason(op).split(' [')[0]} | {_cited(op)} |" for op in Op]
    return [*lines, ""]


def anchor(source: str) -> str:
    """The name that docs/sources.md gives to a source."""
    return re.sub("[^a-z0-9_]+", "-", source.lower()).strip("-")


def _cited(op: Op) -> str:
    parts = (source.partition(":") for source in SOURCES[op])
    return "; ".join(f"[{name}](sources.md#{anchor(name)}){colon}{what}" for name, colon, what in parts)


def _cases(policy: str) -> list[str]:
    lines = [f"## Cases of `{policy}`", "", "| operation | when | outcome | page | events |", "|---|---|---|---|---|"]
    table = tabulate(POLICIES[policy])
    return lines + [f"| `{op.key}` | {' | '.join(cells(case, '/'))} |" for op in Op for case in cases(table, op)]
