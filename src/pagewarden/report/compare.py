"""The comparison for people and for programs."""

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import convert
from rich.console import Console
from rich.table import Table

from pagewarden.cost import BreakEven, Cache, Crossing, Interval, Profile
from pagewarden.report.console import in_bytes, prose, table
from pagewarden.report.documents.base import Pair
from pagewarden.report.documents.compare import (
    BreakEvenSize,
    Compared,
    DesignCost,
    Job,
    Load,
    PricedDocument,
    Shares,
    Totals,
)  # fmt: skip
from pagewarden.studies.compare.comparison import PROPOSED, Comparison, Crossover, DesignResult, Setup

WIDE = {
    "hops": "hops", "access_syscalls": "syscalls", "guest_copies": "guest copies", "host_copies": "host copies",
    "hyp_pte_set": "hyp PTE set", "hyp_pte_clear": "clear", "host_pte_set": "host PTE set", "host_pte_clear": "clear",
    "guest_pte_set": "guest PTE set", "guest_pte_clear": "clear", "io_pte_set": "I/O PTE set", "io_pte_clear": "clear",
    "tlbi": "TLBI", "faults": "faults", "pins": "pins", "notifications": "notices", "injections": "injections",
    "allocations": "frames", "scrubs": "scrubs", "hyp_copies": "hyp copies", "hypercalls": "hypercalls",
}  # fmt: skip
"""Counts that `--wide` shows, where a design has any of them: all that have a price, but the copied bytes."""
ALWAYS = ("hops", "access_syscalls", "guest_copies", "host_copies", "hyp_pte_set", "hyp_pte_clear", "tlbi")
US = 1e3
"""ns."""
MARKS = {"~": "another one is cheaper at some prices of the profile", "=": "another one costs the same at every price"}


def print_comparison(found: Comparison, out: Console, wide: bool = False) -> None:
    """The answer, what decides it, a table of at most 80 columns (wide: of all counts), and the break-even sizes."""
    setup, workload = found.setup, found.workload
    if much := mostly_left_out(workload.requests, workload.skipped):
        prose(out, much)
    prose(out, _answer(found))
    prose(
        out,
        f"\n{workload.name}: {workload.requests:,} requests, {in_bytes(workload.bytes)} ({workload.format})\n"
        f"policy {policy_text(setup)}\n"
        f"{conditions(setup.profile.name, setup.cache, setup.settings)}; of each request:\n",
    )
    out.print(_wide(found) if wide else _narrow(found))
    for line in _remarks(found):
        prose(out, line)
    if found.jobs:
        out.print()
        out.print(_by_job(found))
        for line in explained_marks(found.jobs):
            prose(out, line)
    if found.crossovers:
        out.print()
        out.print(_break_even(found))
    for reason, lines in () if much else workload.skipped.items():
        prose(out, f"left out of the workload: {lines:,} x {reason}")
    for note in found.notes:
        prose(out, f"note: {note}")


def policy_text(setup: Setup) -> str:
    """Its name, and whether it is only proposed."""
    return f"{setup.policy.name}{' (proposed, in no kernel)' if setup.policy.name in PROPOSED else ''}"


def conditions(profile: str, cache: Cache, settings: Mapping[str, str]) -> str:
    """By which prices, and with what changed."""
    changed = assignments({name: value for name, value in settings.items() if name != "cache"})
    return f"profile {profile}{f' with {changed}' * bool(changed)}, {cache} caches"


def assignments(settings: Mapping[str, str]) -> str:
    """As --set takes them."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def facts(found: PricedDocument) -> str:
    """What a document's costs depend on, for its page and its text."""
    return f"policy {found.policy}, {conditions(found.profile, found.cache, found.settings)}"


def priced_by(setup: Setup) -> dict[str, Any]:
    """The same for programs: the keys of `PricedDocument`."""
    return {
        "policy": setup.policy.name, "profile": setup.profile.name, "cache": setup.cache,
        "settings": dict(setup.settings), "prices": prices_of(setup.profile),
    }  # fmt: skip


def prices_of(profile: Profile) -> dict[str, Pair]:
    """From and to, ns or ns a byte, by the setting that changes it."""
    return {price.setting: price.value for price in profile.prices.values()}


def mostly_left_out(requests: int, skipped: Mapping[str, int]) -> str:
    """What is to be said before all else where a tenth of the lines or more is no request; else nothing."""
    left = sum(skipped.values())
    if not left or left * 9 < requests:
        return ""
    why = few([f"{lines:,} x {reason}" for reason, lines in skipped.items()])
    return f"{left / (left + requests):.0%} of the lines are left out: {why}."


def verdict(cheapest: str | None, ties: Sequence[str], rivals: Sequence[str]) -> str:
    """In words: which design is the cheapest, or between which it is open."""
    if cheapest is None:
        return "no design completes it"
    same = f" ({', '.join(ties)} cost{'s' * (len(ties) == 1)} the same)" if ties else ""
    if rivals:
        return f"open between {cheapest}{same} and {', '.join(rivals)}"
    return f"{cheapest}{same}, at every price of the profile"


def by_answer(verdicts: Iterable[tuple[str, str]]) -> list[str]:
    """Of jobs and their verdicts a line each answer: one, if all have the same."""
    names: dict[str, list[str]] = {}
    for name, said in verdicts:
        names.setdefault(said, []).append(name)
    if len(names) == 1:
        return [f"{said}, in each job." for said in names]
    return [f"{few(those)}: {said}." for said, those in names.items()]


def sentence(cheapest: str | None, ties: Sequence[str], rivals: Sequence[str]) -> str:
    """The same, whole."""
    said = verdict(cheapest, ties, rivals)
    if cheapest is None:
        return "No design completes the workload."
    return f"It is {said}, by prices that are not known well." if rivals else f"The cheapest is {said}."


def _answer(found: Comparison) -> str:
    """The cheapest design, whether at every price, and by how much the next one is dearer; of experiments that have
    nothing to do with each other, which jobs have which answer."""
    said = f"{verdict(found.cheapest, found.ties, found.rivals)}{': prices that are open decide' * bool(found.rivals)}."
    if found.next:
        said += f" Next: {found.next[0]}, {_signed(found.next[1])} a request."
    if found.jobs and found.workload.independent:
        some = by_answer((job.workload.name, verdict(job.cheapest, job.ties, job.rivals)) for job in found.jobs)
        lines = [f"Answer: {some[0]}"] if len(some) == 1 else ["Answer: it differs by job.", *some]
        lines += ["Its jobs are experiments of their own; all together, which is only their sum:", said]
    else:
        lines = [f"Answer: {said}"]
    unknown = {term.price.setting: term.price.value for name in found.rivals for term in found.doubts(name)}
    known = ", ".join(f"{setting} ({value})" for setting, value in unknown.items())
    lines += [
        f"These decide: {known}.",
        "Fix one with --set, or measure yours: pagewarden calibrate.",
    ] * bool(unknown)
    return "\n".join(lines)


def few(names: Sequence[str], most: int = 3) -> str:
    """The first of them, and how many there are besides."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


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
    if result.not_applicable:
        return ["", result.name, *["-"] * len(cells), "does not apply"]
    mark = "*" if result.name == found.cheapest else "~" * (result.name in found.rivals)
    mark = "=" if result.name in found.ties else mark
    return [mark, result.name, *cells, cost]


def _remarks(found: Comparison) -> Iterator[str]:
    """What the marks and the missing numbers mean, where there are any."""
    copying = {result.name for result in found.results if result.ns and not result.not_applicable}
    marks = {"~ cheaper at some prices": found.rivals, "= costs the same": found.ties}
    if shown := [mark for mark, names in marks.items() if names]:
        yield "   ".join(["* cheapest at middle prices", *shown])
    yield from left_out(list(map(design_cost, found.results)), found.workload.requests)
    once = [(result.name, result.once_ns) for result in found.results if result.once_ns and result.once_ns.high]
    if once:
        paid = ", ".join(f"{name} {cost_text(ns)} us" for name, ns in once)
        yield f"once, when pages are first used: {paid}"
    if {"dma-buffer", "bounce"} <= copying:
        yield "dma-buffer's guest copy is the one its user space asks for; bounce's is extra."


def left_out(designs: Sequence[DesignCost], requests: int) -> Iterator[str]:
    """Why designs have no numbers, each reason once; where its sources are is said, not what they are."""
    names: dict[str, list[str]] = {}
    for one in designs:
        if one.refusal is not None:
            why = f"{one.failed:,} of {requests:,} requests fail. {one.refusal.partition(' [')[0]}"
            names.setdefault(why, []).append(one.name)
        elif one.not_applicable:
            yield f"{one.name} does not apply: {one.not_applicable}."
    yield from (f"{', '.join(those)}: {why}" for why, those in names.items())
    if names:
        yield f"--explain {next(iter(names.values()))[0]} shows the step that is refused, and its sources."


def marked(found: Comparison) -> str:
    """The cheapest design, and whether another one may be cheaper, or costs the same."""
    return f"{found.cheapest or 'none'}{'=' * bool(found.ties)}{'~' * bool(found.rivals)}"


def explained_marks(found: Sequence[Comparison]) -> list[str]:
    """What the marks mean that some of them have."""
    return [f"{mark} {means}" for mark, means in MARKS.items() if any(mark in marked(each) for each in found)]


def _by_job(found: Comparison) -> Table:
    made = table("job", "requests", "mean size", "depth", "cheapest", "cost, us", left=1)
    for job in found.jobs:
        best = next((result for result in job.results if result.name == job.cheapest), None)
        load = job.workload
        made.add_row(
            load.name, f"{load.requests:,}", in_bytes(load.bytes / load.requests), str(load.depth),
            marked(job), cost_text(best.ns if best else None),
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
        notes=found.notes, depth=load.depth, independent=load.independent, jobs=list(map(_job, found.jobs)),
        designs=list(map(design_cost, found.results)), **priced_by(setup),
        break_even=[_break_even_size(crossover, setup.page_size) for crossover in found.crossovers],
        cheapest=found.cheapest, contenders=list(found.contenders), ties=list(found.ties),
    )  # fmt: skip


def _job(found: Comparison) -> Job:
    load = found.workload
    return Job(
        name=load.name, requests=load.requests, bytes=load.bytes, depth=load.depth,
        designs=list(map(design_cost, found.results)), cheapest=found.cheapest, contenders=list(found.contenders),
        ties=list(found.ties),
    )  # fmt: skip


def design_cost(result: DesignResult) -> DesignCost:
    """A design of the comparison."""
    return DesignCost(
        name=result.name, per_request=convert(result.per_request, Shares),
        total=convert(result.total, Totals), failed=result.failed,
        refusal=result.why, not_applicable=result.not_applicable,
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
