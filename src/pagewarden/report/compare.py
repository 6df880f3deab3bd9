"""The comparison for people and for programs."""

import errno
from collections.abc import Iterator
from textwrap import fill
from typing import Any

from msgspec import convert
from rich.console import Console
from rich.table import Table

from pagewarden.cost import BreakEven, Crossing, Interval
from pagewarden.report.console import in_bytes, table
from pagewarden.report.documents.compare import BreakEvenSize, Compared, DesignCost, Job, Load, Shares, Totals
from pagewarden.studies.compare.comparison import PROPOSED, Comparison, Crossover, DesignResult, Setup

WIDE = {
    "hops": "hops", "access_syscalls": "syscalls", "guest_copies": "guest copies", "host_copies": "host copies",
    "hyp_pte_set": "hyp PTE set", "hyp_pte_clear": "clear", "host_pte_set": "host PTE set", "host_pte_clear": "clear",
    "tlbi": "TLBI", "faults": "faults",
}  # fmt: skip
"""Counts that `--wide` shows, where a design has any of them."""
ALWAYS = ("hops", "access_syscalls", "guest_copies", "host_copies", "hyp_pte_set", "hyp_pte_clear", "tlbi")
US = 1e3
"""ns."""
WIDTH = 80


def print_comparison(found: Comparison, out: Console, wide: bool = False) -> None:
    """The answer, what decides it, a table of at most 80 columns (wide: of all counts), and the break-even sizes."""
    setup, workload = found.setup, found.workload
    out.print(_answer(found))
    if found.jobs and workload.independent:
        out.print("Its jobs are experiments of their own; all together is only their sum:")
    out.print(
        f"\n{workload.name}: {workload.requests:,} requests, {in_bytes(workload.bytes)} ({workload.format})\n"
        f"policy {policy_text(setup)}\nprofile {setup.profile.name}, {setup.cache} caches; of each request:\n"
    )
    out.print(_wide(found) if wide else _narrow(found))
    for line in _remarks(found):
        out.print(line)
    if found.jobs:
        out.print()
        out.print(_by_job(found))
    if found.crossovers:
        out.print()
        out.print(_break_even(found))
    for reason, lines in workload.skipped.items():
        out.print(f"left out of the workload: {lines:,} x {reason}")
    for note in found.notes:
        out.print(f"note: {note}")


def policy_text(setup: Setup) -> str:
    """Its name, and whether it is only proposed."""
    return f"{setup.policy.name}{' (proposed, in no kernel)' if setup.policy.name in PROPOSED else ''}"


def _answer(found: Comparison) -> str:
    """The cheapest design, whether at every price, and by how much the next one is dearer."""
    if found.cheapest is None:
        return "Answer: none. No design completes this workload; why is said below."
    others = {name: found.doubts(name) for name in found.contenders if name != found.cheapest}
    open_ones = [name for name, doubts in others.items() if doubts]
    same = [name for name, doubts in others.items() if not doubts]
    ties = f" ({', '.join(same)} costs the same)" if same else ""
    after = f" Next: {found.next[0]}, {_signed(found.next[1])} a request." if found.next else ""
    if not open_ones:
        return fill(f"Answer: {found.cheapest}{ties}, at every price of the profile.{after}", WIDTH)
    unknown = {term.price.setting: term.price.value for doubts in others.values() for term in doubts}
    known = ", ".join(f"{setting} ({value})" for setting, value in unknown.items())
    lines = [
        f"Answer: open between {found.cheapest}{ties} and {', '.join(open_ones)}: prices that are open decide.{after}",
        f"These decide: {known}.",
        "Fix one with --set, or measure yours: pagewarden calibrate.",
    ]
    return "\n".join(fill(line, WIDTH, break_long_words=False, break_on_hyphens=False) for line in lines)


def _narrow(found: Comparison) -> Table:
    made = table("", "design", "hops", "syscalls", "copies g+h", "TLBI", "cost, us", left=2)
    for result in found.results:
        counts = result.per_request
        copies = [_count(counts.get(f"{side}_copies")) for side in ("guest", "host")]
        cells = [_count(counts.get("hops")), _count(counts.get("access_syscalls")), "+".join(copies)]
        made.add_row(*_row(found, result, [*cells, _count(counts.get("tlbi"))], cost_text(result.ns)))
    return made


def _wide(found: Comparison) -> Table:
    shown = [key for key in WIDE if key in ALWAYS or any(result.total.get(key) for result in found.results)]
    made = table("", "design", *(WIDE[key] for key in shown), "cost, ns", left=2)
    for result in found.results:
        counts = result.per_request
        cost = "-" if result.ns is None else str(result.ns)
        made.add_row(*_row(found, result, [_count(counts.get(key)) for key in shown], cost))
    return made


def _row(found: Comparison, result: DesignResult, cells: list[str], cost: str) -> list[str]:
    """A design's line: of one that is refused or does not apply no numbers, which would be of something else."""
    if result.ns is None:
        refusal = result.refusal
        name = errno.errorcode.get(refusal.errno, str(refusal.errno)) if refusal else "fails"
        return ["", result.name, *["-"] * len(cells), name]
    if not found.applies(result.name):
        return ["", result.name, *["-"] * len(cells), "does not apply"]
    mark = "*" if result.name == found.cheapest else "~" if result.name in found.contenders else ""
    return [mark, result.name, *cells, cost]


def _remarks(found: Comparison) -> Iterator[str]:
    """What the marks and the missing numbers mean, where there are any."""
    copying = {result.name for result in found.results if result.ns}
    if len(found.contenders) > 1:
        yield "* cheapest at the middle of every range   ~ cheaper at some prices"
    for result in found.results:
        if result.ns is None and result.requests:
            why = result.refusal or "the request has to wait for what it does not get (pool exhausted)"
            yield fill(f"{result.name}: {result.failed:,} of {result.requests:,} requests fail. {why}", WIDTH)
        elif not found.applies(result.name):
            yield f"{result.name} does not apply: the job is direct I/O, without a page cache."
    once = [(result.name, result.once_ns) for result in found.results if result.once_ns and result.once_ns.high]
    if once:
        paid = ", ".join(f"{name} {cost_text(ns)} us" for name, ns in once)
        yield fill(f"once, when pages are first used: {paid}", WIDTH)
    if {"dma-buffer", "bounce"} <= copying and found.applies("dma-buffer"):
        yield "dma-buffer's guest copy is the one its user space asks for; bounce's is extra."


def _by_job(found: Comparison) -> Table:
    made = table("job", "requests", "mean size", "depth", "cheapest", "cost, us", left=1)
    for job in found.jobs:
        best = next((result for result in job.results if result.name == job.cheapest), None)
        load = job.workload
        sure = (
            ""
            if len(job.contenders) < 2 or all(not job.doubts(n) for n in job.contenders if n != job.cheapest)
            else "~"
        )
        made.add_row(
            load.name, f"{load.requests:,}", in_bytes(load.bytes / load.requests), str(load.depth),
            f"{job.cheapest or 'none'}{sure}", cost_text(best.ns if best else None),
        )  # fmt: skip
    return made


def _break_even(found: Comparison) -> Table:
    """From which request size on, a write of whole pages, a design is cheaper than one that copies."""
    against = list(dict.fromkeys(crossover.against for crossover in found.crossovers))
    made = table("cheaper for requests of", *(f"than {name}" for name in against))
    for design in dict.fromkeys(crossover.design for crossover in found.crossovers):
        sizes = {c.against: c.sizes for c in found.crossovers if c.design == design}
        made.add_row(design, *(_sizes(sizes[name], found.setup.page_size) for name in against))
    return made


def _sizes(sizes: BreakEven, page: int) -> str:
    best, worst = (_crossing(crossing, page) for crossing in (sizes.best, sizes.worst))
    return best if best == worst else f"{best} .. {worst}"


def _crossing(crossing: Crossing, page: int) -> str:
    return crossing.kind if crossing.units is None else f"{crossing.kind} {in_bytes(crossing.units * page)}"


def _count(value: Any) -> str:
    """A number as a person would write it: whole where it is, two digits behind the point at most."""
    if not isinstance(value, int | float):
        return "-"
    if 0 < value < 0.01:
        return "<0.01"
    return f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:,.3g}"


def cost_text(ns: Interval | None) -> str:
    """In us; - for what does not work."""
    return "-" if ns is None else str(ns.times(1 / US))


def _signed(by: Interval) -> str:
    """A difference: +8.3..+80.6 us, in ns below one of them."""
    unit, name = (1.0, "ns") if max(map(abs, by)) < US else (US, "us")
    ends = [f"{'+' if end >= 0 else '-'}{Interval(abs(end) / unit, abs(end) / unit)}" for end in by]
    return f"{ends[0]} {name}" if by.exact else f"{'..'.join(ends)} {name}"


def compared(found: Comparison) -> Compared:
    """The same for programs."""
    load, setup = found.workload, found.setup
    return Compared(
        workload=Load(
            name=load.name, requests=load.requests, bytes=load.bytes, format=load.format, skipped=dict(load.skipped)
        ),
        notes=found.notes, depth=load.depth, jobs=list(map(_job, found.jobs)),
        policy=setup.policy.name, profile=setup.profile.name, designs=list(map(design_cost, found.results)),
        break_even=[_break_even_size(crossover, setup.page_size) for crossover in found.crossovers],
        cheapest=found.cheapest, contenders=list(found.contenders),
    )  # fmt: skip


def _job(found: Comparison) -> Job:
    load = found.workload
    return Job(
        name=load.name, requests=load.requests, bytes=load.bytes, depth=load.depth,
        designs=list(map(design_cost, found.results)), cheapest=found.cheapest,
    )  # fmt: skip


def design_cost(result: DesignResult) -> DesignCost:
    """A design of the comparison."""
    return DesignCost(
        name=result.name, per_request=convert(result.per_request, Shares),
        total=convert(result.total, Totals), failed=result.failed,
        refusal=str(result.refusal) if result.refusal else None,
        ns_per_request=_middle(result.ns), ns_per_request_range=result.ns,
        mib_per_s=_middle(result.mib_per_s), mib_per_s_range=result.mib_per_s,
        once=convert(result.once, Totals), once_ns_range=result.once_ns, ns_by_price=dict(result.bill),
    )  # fmt: skip


def _middle(value: Interval | None) -> float | None:
    return None if value is None else (value.low + value.high) / 2


def _break_even_size(found: Crossover, page: int) -> BreakEvenSize:
    best, worst = (None if end.units is None else end.units * page for end in (found.sizes.best, found.sizes.worst))
    return BreakEvenSize(
        design=found.design, against=found.against, bytes=best if found.sizes.exact else None,
        kinds=(found.sizes.best.kind, found.sizes.worst.kind), bytes_range=(best, worst),
    )  # fmt: skip
