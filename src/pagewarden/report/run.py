"""A run for people and for programs."""

from pathlib import Path
from typing import Any

from msgspec import convert
from rich.console import Console

from pagewarden.report.compare import design_cost
from pagewarden.report.console import table
from pagewarden.report.documents.run import (
    AllDesigns,
    CheckedCounts,
    CountedDesign,
    CountPair,
    DesignRun,
    HostFailure,
    OneRun,
    Refusal,
    Searched,
)  # fmt: skip
from pagewarden.report.times import run_times
from pagewarden.studies.run.all_designs import PROFILE, DesignAnswer
from pagewarden.studies.run.canary import Sight
from pagewarden.studies.run.measure import KEYS, Check, DesignCounts
from pagewarden.studies.run.one import Run
from pagewarden.vocab.timeline import Timeline


def print_run(found: Run, out: Console) -> None:
    """What was done, how it went, what each request cost, what the host saw."""
    labels = found.labels
    if found.host_error:
        out.print(f"The host failed, so nothing is known of the guest's I/O: {found.host_error}\n")
    out.print(f"design   {found.plan.design}, {found.plan.batch} request(s) a doorbell at most")
    out.print(f"CPU      {labels.cpu}, {labels.level} ({labels.cpu_why})")
    out.print(f"backing  {labels.backing}: {labels.why}")
    if labels.kept:
        kept = labels.kept
        out.print(f"kept     pages sealed away: {kept['gone']:,}, back: {kept['came']:,}, faults: {kept['faults']:,}")
    if found.plan.restore is not None:
        out.print(f"restored from {found.plan.restore}: these are the requests that were left")
    if found.plan.snapshot is not None:
        out.print(f"sealed   into {found.plan.snapshot} behind doorbell {found.batches:,}: --restore does the others")
    out.print(f"disk     {labels.disk}\n")
    made = table("counts", "in all", "a request", "start and end")
    for key, count in found.counts.items():
        made.add_row(key, f"{count:,}", f"{count / found.requests:.4g}", f"{found.overhead[key]:,}")
    out.print(made)
    mib = found.bytes / found.seconds / (1 << 20)
    out.print(
        f"\n{found.requests:,} requests, {found.bytes:,} bytes in {found.seconds:.3f} s: {found.per_second:,.0f} "
        f"requests/s, {mib:,.1f} MiB/s on {labels.cpu} ({labels.level})"
    )
    if found.restarts:
        out.print(f"The device process died and was started again {found.restarts} time(s); the I/O went on.")
    out.print(_checked(found))
    if found.sight is not None:
        print_sight(found.sight, out)


def _checked(found: Run) -> str:
    bad = found.outcome.failures
    guest = (
        f"The guest found {bad:,} of its requests wrong, number {found.outcome.first_failure:,} first."
        if bad
        else "The guest checked every byte that it read through its private side: all right."
    )
    if found.differs is None:
        return guest
    disk = (
        f"{found.differs:,} sectors of the disk, or buffers, are not as the requests must have left them."
        if found.differs
        else "What it wrote is on the disk, byte by byte, and the last buffers are right."
    )
    return f"{guest}\n{disk}"


def print_sight(sight: Sight, out: Console) -> None:
    """What a search of the host found of the guest's secret."""
    found = _verdict(sum(sight.hits.values()), sight.cut)
    out.print(
        f"\nThe host ({sight.whose}): {sight.bytes:,} bytes in {sight.mappings} mappings searched for a secret "
        f"of the guest, {found}."
    )
    for name, hits in sight.hits.items():
        out.print(f"  LEAK: {hits:,} in {name}")
    if sight.core is None:
        out.print(f"Its core dump: not searched ({sight.core_why}).")
    else:
        out.print(
            f"{'LEAK: its' if sight.core_hits else 'Its'} core dump: {sight.core:,} bytes searched, "
            f"{_verdict(sight.core_hits, sight.core_cut)}."
        )


def _verdict(hits: int, cut: str) -> str:
    """None found is said only of what was searched to its end."""
    return f"{hits:,} found" if hits or not cut else f"but NOT SEARCHED WHOLE, so none found says nothing: {cut}"


def one_run(found: Run, recorded: Timeline | None = None) -> OneRun:
    """The same for programs, with the times of a run that was recorded."""
    labels, outcome, error = found.labels, found.outcome, found.host_error
    return OneRun(
        design=found.plan.design, cpu=labels.cpu, level=labels.level, cpu_why=labels.cpu_why, backing=labels.backing,
        backing_why=labels.why, kept=labels.kept, snapshot=_name(found.plan.snapshot),
        restored=_name(found.plan.restore), isolated=found.plan.isolated, disk=labels.disk,
        batch=found.plan.batch,
        requests=found.requests, bytes=found.bytes, doorbells=found.batches, seconds=found.seconds,
        requests_per_s=found.per_second, bytes_per_s=found.bytes / found.seconds, failures=outcome.failures,
        first_failure=outcome.first_failure if outcome.failures else None, differs=found.differs,
        restarts=found.restarts, host_error=convert(error, HostFailure, from_attributes=True) if error else None,
        total=found.counts, per_request={key: n / found.requests for key, n in found.counts.items()},
        start_and_end=found.overhead, sight=_searched(found.sight) if found.sight else None, good=found.good,
        times=None if recorded is None else run_times(recorded),
    )  # fmt: skip


def _name(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _searched(sight: Sight) -> Searched:
    """No number of canaries where none was found and the search was not whole."""
    core_known = sight.core is not None and (sight.core_hits or not sight.core_cut)
    return Searched(
        whose=sight.whose, mappings=sight.mappings, bytes=sight.bytes, unreadable=sight.unreadable, hits=sight.hits,
        cut=sight.cut or None, core_bytes=sight.core, core_hits=sight.core_hits if core_known else None,
        core_why=sight.core_why or None, core_cut=sight.core_cut or None, whole=sight.whole,
        leaks=sight.leaks if sight.leaks or sight.whole else None,
    )  # fmt: skip


ALL_KEYS = ("exits", "hypercalls", "access_syscalls", "host_copies", "hyp_pte_set", "hyp_pte_clear", "tlbi")


EXITS = "An exit is there and back: `compare` counts it as two hops, and the way to the host and back as two more."


def print_all(rows: list[DesignAnswer], out: Console) -> None:
    """Each design's counts a request, live and as the model has them, then how fast it was."""
    runs = [row.run for row in rows if row.run]
    if runs:
        first = runs[0]
        out.print(
            f"{first.requests:,} requests, {first.bytes:,} bytes, one a doorbell; live {first.labels.cpu} "
            f"({first.labels.level}) on {first.labels.backing}, model {first.labels.policy}; a request: live | "
            f"model\n"
        )
    made = table("design", *ALL_KEYS, "live us", "requests/s", f"model us ({PROFILE})")
    for row in rows:
        made.add_row(row.design, *_pairs(row))
    out.print(made)
    for row in rows:
        if row.refused:
            out.print(f"{row.design}: not to be had on this backing. {row.why or (row.model and row.model.refusal)}")
        elif not row.good:
            out.print(f"{row.design}: FAILED. {row.why or (row.run and _checked(row.run))}")
        if row.run and row.run.sight and row.run.sight.leaks:
            out.print(f"{row.design}: LEAK: {row.run.sight.leaks:,} of the guest's secret found in the host.")
    out.print(
        "Counts are to be compared, times are not: live is a whole request here, guest, device and disk included; "
        f"model is the access alone at {PROFILE}'s prices. {EXITS} Ledgers count here; --check-counts asks the kernel."
    )


def _pairs(row: DesignAnswer) -> list[str]:
    if row.refused or row.run is None or row.model is None:
        return ["-"] * (len(ALL_KEYS) + 3)
    live, model = row.run, row.model.per_request
    hops: Any = model["hops_by_edge"]
    wanted: dict[str, Any] = {**model, "exits": hops["guest>hyp"]}
    cells = [f"{live.counts[key] / live.requests:.4g} | {wanted[key]:.4g}" for key in ALL_KEYS]
    ns = row.model.ns
    return [
        *cells,
        f"{1e6 / live.per_second:,.1f}",
        f"{live.per_second:,.0f}",
        "-" if ns is None else f"{(ns.low + ns.high) / 2000:,.2f}",
    ]


def all_designs(rows: list[DesignAnswer]) -> AllDesigns:
    """The same for programs."""
    return AllDesigns(profile=PROFILE, good=all(row.good for row in rows), designs=list(map(_design_run, rows)))


def _design_run(row: DesignAnswer) -> DesignRun:
    return DesignRun(
        name=row.design, refused=row.refused, why=row.why or None, live=one_run(row.run) if row.run else None,
        model=design_cost(row.model) if row.model else None,
    )  # fmt: skip


def print_check(found: Check, requests: str, out: Console) -> None:
    """Predicted and measured, design by design; then what the kernel adds."""
    out.print(f"{requests}; all requests together: predicted = measured, or predicted != measured\n")
    made = table("CPU", "backing", "design", *KEYS, "", left=3)
    for result in found.results:
        made.add_row(result.cpu, result.backing, result.design, *_checked_cells(result))
    out.print(made)
    if found.no_kernel:
        out.print(f"All counts are the library's own ledger's: {found.no_kernel}")
    else:
        words = "; ".join(f"{', '.join(keys)} ({cpu})" for cpu, keys in _by_kernel(found).items())
        out.print(f"\nCounted by the kernel: {words}. The rest by the library's ledger, interpreted by the law.")
    _print_added(found, out)
    for cpu, why in found.missing.items():
        out.print(f"{cpu}: not tried. {why}")
    out.print("All counts are as predicted." if found.good else "Counts DIFFER from the model.")


def _checked_cells(result: DesignCounts) -> list[str]:
    if not result.lines:
        words = ["taken" if not refused else "refused" for refused in result.refused]
        return [*["-"] * len(KEYS), f"model: {words[0]}, live: {words[1]}"]
    cells = [
        f"{line.measured:,}" if line.equal else f"{line.predicted:,} != {line.measured:,}" for line in result.lines
    ]
    return [*cells, "" if result.good else "DIFFERS"]


def _by_kernel(found: Check) -> dict[str, list[str]]:
    return {
        result.cpu: [line.key for line in result.lines if line.source == "kernel"]
        for result in found.results
        if any(line.source == "kernel" for line in result.lines)
    }


def _print_added(found: Check, out: Console) -> None:
    """The kernel's additions, designs with the same ones on one line."""
    out.print("\nBeside the listing, all requests together:")
    alike: dict[str, list[str]] = {}
    for result in found.results:
        words = ", ".join(f"{count:,} {what}" for what, count in result.added.items())
        if words:
            alike.setdefault(words, []).append(f"{result.cpu} {result.design}")
    for words, whose in alike.items():
        out.print(f"  {'; '.join(whose)}: {words}")
    if not alike:
        out.print("  nothing that was counted")


def checked_counts(found: Check) -> CheckedCounts:
    """The same for programs."""
    return CheckedCounts(
        good=found.good, missing=found.missing, no_kernel=found.no_kernel or None,
        results=list(map(_counted_design, found.results)),
    )  # fmt: skip


def _counted_design(found: DesignCounts) -> CountedDesign:
    return CountedDesign(
        design=found.design, cpu=found.cpu, level=found.level, backing=found.backing, requests=found.requests,
        good=found.good, counts=[convert(line, CountPair, from_attributes=True) for line in found.lines],
        added=found.added, refused=Refusal(*found.refused),
    )  # fmt: skip
