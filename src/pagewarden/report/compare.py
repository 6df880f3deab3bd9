"""The comparison for people and for programs."""

from typing import Any

from rich.console import Console

from pagewarden.cost import BreakEven, Crossing, Interval
from pagewarden.report.console import table
from pagewarden.studies.compare.comparison import Comparison, Result

COLUMNS = {
    "hops": "hops", "access_syscalls": "syscalls", "guest_copies": "guest copies", "host_copies": "host copies",
    "hyp_pte_set": "hyp PTE set", "hyp_pte_clear": "clear", "host_pte_set": "host PTE set", "host_pte_clear": "clear",
    "tlbi": "TLBI", "faults": "faults",
}  # fmt: skip
_ALWAYS = ("hops", "access_syscalls", "guest_copies", "host_copies", "hyp_pte_set", "hyp_pte_clear", "tlbi")


def print_comparison(found: Comparison, out: Console) -> None:
    """One table, the winner marked, the break-even sizes under it."""
    setup, workload = found.setup, found.workload
    out.print(
        f"{workload.name}: {workload.requests:,} requests, {workload.bytes:,} bytes ({workload.format})\n"
        f"policy {setup.policy.name}, profile {setup.profile.name}, {setup.cache} caches; counts and ns per request\n"
    )
    shown = [key for key in COLUMNS if key in _ALWAYS or any(result.total.get(key) for result in found.results)]
    made = table("", "design", *(COLUMNS[key] for key in shown), "ns", "MiB/s", left=2)
    contenders = found.contenders
    for result in found.results:
        counts = result.per_request
        cells = [_count(counts.get(key)) for key in shown] if result.total else ["-"] * len(shown)
        made.add_row(_mark(result, found, contenders), result.name, *cells, _range(result.ns), _range(result.mib_per_s))
    out.print(made)
    out.print(_verdict(found, contenders))
    _print_refusals(found, out)
    if found.crossovers:
        _print_crossovers(found, out)
    for reason, lines in workload.skipped.items():
        out.print(f"left out of the workload: {lines:,} x {reason}")
    for note in workload.notes:
        out.print(f"note: {note}")
    out.print("In dma-buffer the guest copy is the one its own user space asks for; in bounce it is an extra one.")


def _mark(result: Result, found: Comparison, contenders: tuple[str, ...]) -> str:
    if result.name == found.cheapest:
        return "*"
    return "~" if result.name in contenders else ""


def _count(value: Any) -> str:
    return f"{float(value):.4g}" if isinstance(value, int | float) else "-"


def _range(value: Interval | None) -> str:
    return "-" if value is None else str(value)


def _verdict(found: Comparison, contenders: tuple[str, ...]) -> str:
    if found.cheapest is None:
        return "No design completes this workload."
    others = {name: found.doubts(name) for name in contenders if name != found.cheapest}
    ties = "".join(f" {name} costs the same." for name, doubts in others.items() if not doubts)
    open_ones = [name for name, doubts in others.items() if doubts]
    if not open_ones:
        return f"\n* {found.cheapest} is the cheapest at every price of the profile.{ties}"
    unknown = {term.price.setting: term.price.value for doubts in others.values() for term in doubts}
    known = ", ".join(f"{setting} ({value})" for setting, value in unknown.items())
    return (
        f"\n* {found.cheapest} is the cheapest at middle prices.{ties}"
        f" Not dearer at every price: ~ {', '.join(open_ones)}."
        f"\nWhat decides is not known for this hardware: {known}. Fix it with --set, or measure yours with calibrate."
    )


def _print_refusals(found: Comparison, out: Console) -> None:
    for result in found.results:
        if result.ns is None and result.requests:
            why = result.refusal or "the request has to wait for what it does not get (pool exhausted)"
            out.print(f"{result.name}: {result.failed:,} of {result.requests:,} requests fail. {why}")


def _print_crossovers(found: Comparison, out: Console) -> None:
    against = list(dict.fromkeys(crossover.against for crossover in found.crossovers))
    made = table("break-even", *(f"against {name}" for name in against))
    for design in dict.fromkeys(crossover.design for crossover in found.crossovers):
        sizes = {c.against: c.sizes for c in found.crossovers if c.design == design}
        made.add_row(design, *(_sizes(sizes[name], found.setup.page_size) for name in against))
    out.print()
    out.print(made)


def _sizes(sizes: BreakEven, page: int) -> str:
    best, worst = (_size(crossing, page) for crossing in (sizes.best, sizes.worst))
    return best if best == worst else f"{best} .. {worst}"


def _size(crossing: Crossing, page: int) -> str:
    return crossing.kind if crossing.units is None else f"{crossing.kind} {crossing.units * page // 1024:,} KiB"


def comparison_json(found: Comparison) -> dict[str, Any]:
    """schema 1: as docs/json.md says."""
    return {
        "schema": 1, "verb": "compare", "backend": "model",
        "workload": {
            "name": found.workload.name, "requests": found.workload.requests, "bytes": found.workload.bytes,
            "format": found.workload.format, "skipped": dict(found.workload.skipped),
        },
        "policy": found.setup.policy.name, "profile": found.setup.profile.name,
        "designs": [design_json(result) for result in found.results],
        "break_even": [
            {"design": c.design, "against": c.against, **_break_even_json(c.sizes, found.setup.page_size)}
            for c in found.crossovers
        ],
        "cheapest": found.cheapest, "contenders": list(found.contenders),
    }  # fmt: skip


def design_json(result: Result) -> dict[str, Any]:
    """A design of the comparison."""
    return {
        "name": result.name, "per_request": result.per_request, "total": dict(result.total), "failed": result.failed,
        "refusal": str(result.refusal) if result.refusal else None,
        "ns_per_request": _middle(result.ns), "ns_per_request_range": _pair(result.ns),
        "mib_per_s": _middle(result.mib_per_s), "mib_per_s_range": _pair(result.mib_per_s),
    }  # fmt: skip


def _middle(value: Interval | None) -> float | None:
    return None if value is None else (value.low + value.high) / 2


def _pair(value: Interval | None) -> list[float] | None:
    return None if value is None else [value.low, value.high]


def _break_even_json(sizes: BreakEven, page: int) -> dict[str, Any]:
    ends = [None if crossing.units is None else crossing.units * page for crossing in (sizes.best, sizes.worst)]
    kinds = [sizes.best.kind, sizes.worst.kind]
    return {"bytes": ends[0] if sizes.exact else None, "kinds": kinds, "bytes_range": ends}
