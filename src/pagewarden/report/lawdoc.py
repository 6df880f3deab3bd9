"""docs/law.md and docs/sources.md: policies, operations, cases and sources, printed from the law."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from pagewarden.law import (
    EVERY,
    LOCKING,
    LOCKS,
    MEASURES,
    MECHANISMS,
    POLICIES,
    SOURCES,
    USAGES,
    Op,
    Policy,
    Usage,
    calls,
    says,
    sources,
    tabulate,
)
from pagewarden.law.cases import cases
from pagewarden.report.law import asked, cells, fields

_HEAD = """# The law

Printed from `pagewarden.law` by `python -m pagewarden.report.docs`; a test compares. Mail: the LKML
thread "[PATCH v5 00/13] KVM: mm: fd-based approach for supporting KVM guest private memory". Every source leads to its
row in [sources.md](sources.md).
"""


def document() -> str:
    """The whole file."""
    return "\n".join([_HEAD, *_policies(), *_page_fields(), *_operations(), *_cases("hybrid")]) + "\n"


def _policies() -> list[str]:
    lines = ["## Policies", "", "| policy | guard | states | stands for | |", "|---|---|---|---|---|"]
    for policy in EVERY.values():
        states = len(tabulate(policy).pages)
        lines.append(f"| `{policy.name}` | {policy.guard} | {states:,} | {policy.stands_for} | {_asked(policy)} |")
    lines += ["", "| mechanism | what it does | who has it |", "|---|---|---|"]
    lines += _named(MECHANISMS, POLICIES.values())
    lines += ["", "| measure | what it does | who adds it |", "|---|---|---|", *_named(MEASURES, USAGES.values())]
    lines += ["", "No policy says anything of locks and order unless it is asked to, by `--with`:", ""]
    lines += [
        "| lock, order | what it does |",
        "|---|---|",
        *(f"| `{name}` | {what} |" for name, what in LOCKING.items()),
    ]
    lines += ["", "| lock | with | taken in |", "|---|---|---|"]
    for name, lock in LOCKS.items():
        lines.append(f"| {name} | `{lock.mechanism}` | {'; '.join(map(_linked, lock.sources))} |")
    return [*lines, ""]


def _page_fields() -> list[str]:
    said = "What the law knows of a page; `law`, `check` and its traces name it so."
    lines = ["## A page", "", said, "", "| field | says | values |", "|---|---|---|"]
    for name, what, values in fields():
        told = "; ".join(f"`{value}` {means}".strip() for value, means in values.items())
        lines.append(f"| `{name}` | {what} | {told} |")
    return [*lines, ""]


def _named(names: Mapping[str, str], owners: Iterable[Policy | Usage]) -> Iterator[str]:
    for name, meaning in names.items():
        those = ", ".join(owner.name for owner in owners if owner.has(name))
        yield f"| `{name}` | {meaning} | {those or '-'} |"


def _asked(policy: Policy) -> str:
    return asked(policy) if policy.asked else "argued"


def _operations() -> list[str]:
    lines = ["## Operations", "", "| operation | rule | source |", "|---|---|---|"]
    lines += [f"| `{op.key}` | {says(op)} | {_cited(op)} |" for op in Op]
    lines += ["", "## Calls", "", calls.__doc__ or "", "", "| call | |", "|---|---|"]
    lines += [f"| `{name}` | {' '.join((call.__doc__ or '').split())} |" for name, call in _calls()]
    return [*lines, ""]


def _calls() -> Iterator[tuple[str, Callable[..., object]]]:
    for name, call in vars(calls).items():
        if inspect.isfunction(call) and not name.startswith("_"):
            yield name, call


def anchor(source: str) -> str:
    """The name that docs/sources.md gives to a source."""
    return re.sub("[^a-z0-9_]+", "-", source.lower()).strip("-")


def _cited(op: Op) -> str:
    """By family of objects, those of all of them first."""
    return "; ".join(
        (f"*{family}*: " if family else "") + ", ".join(map(_linked, those))
        for family, those in SOURCES[op].items()
        if those
    )


def _linked(source: str) -> str:
    name, colon, what = source.partition(":")
    return f"[{name}](sources.md#{anchor(name)}){colon}{what}"


def _cases(policy: str) -> list[str]:
    lines = [f"## Cases of `{policy}`", "", "| operation | when | outcome | page | events |", "|---|---|---|---|---|"]
    table = tabulate(POLICIES[policy])
    return lines + [f"| `{op.key}` | {' | '.join(cells(case, '/'))} |" for op in Op for case in cases(table, op)]


_SOURCES = f"""# Sources

What the rules of `pagewarden law` rest on ([law.md](law.md) leads here), printed from `pagewarden.law.sources`. Links
to the kernel lead to Linux {sources.VERSION}; where a running kernel differs, a mechanism names the versions, and
`probe` says so. No code was taken from any of them. A test holds that every source of a rule has a row, and every row a
rule or a docstring.
"""
_STATEMENTS = """## Statements

What the kernel's sources, its tests and the lists state of such memory, each held by a row of
`tests/law/test_statements.py`. The law: by which operations, calls (`pagewarden.law.calls`) or listings it is said;
**no**, with the reason, where it is not said. Asked: the kernels that were, by `pagewarden probe`, by
`tests/law/test_statements_live.py`, by the recorded cells of pKVM and rows of attributes (`tests/lab/recorded`), or by
the kernel's own test of that name; argued: from the source alone.
"""


def sources_page() -> str:
    """The whole file."""
    lines = [_SOURCES]
    for chapter, rows in sources.chapters().items():
        lines += [f"## {chapter}", "", "| source | says |", "|---|---|"]
        lines += [f'| <a id="{anchor(name)}"></a>{_page(name)} | {what} |' for name, what in rows.items()]
        lines.append("")
    lines += [_STATEMENTS, "| | stated | where | the law | asked |", "|---|---|---|---|---|"]
    for number, (stated, where, law, kernels) in sources.statements().items():
        said = f"**no**{law.removeprefix('no')}" if law.startswith("no:") else law
        lines.append(f"| {number} | {stated} | {where} | {said} | {kernels or 'argued'} |")
    return "\n".join(lines) + "\n"


def _page(name: str) -> str:
    link = sources.link(name)
    return f"[{name}]({link})" if link else name
