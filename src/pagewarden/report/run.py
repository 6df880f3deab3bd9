"""A run for people and for programs."""

from typing import Any

from rich.console import Console

from pagewarden.report.console import table
from pagewarden.studies.run import Run
from pagewarden.studies.run_canary import Sight


def print_run(found: Run, out: Console) -> None:
    """What was done, how it went, what each request cost, what the host saw."""
    labels = found.labels
    out.print(f"design   {found.plan.design}, {found.plan.batch} request(s) a doorbell at most")
    out.print(f"CPU      {labels.cpu}, {labels.level} ({labels.cpu_why})")
    out.print(f"backing  {labels.backing}: {labels.why}")
    out.print(f"disk     {labels.disk}\n")
    made = table("counts", "in all", "a request", "start and end")
    for key, count in found.counts.items():
        made.add_row(key, f"{count:,}", f"{count / found.requests:.4g}", f"{found.overhead[key]:,}")
    out.print(made)
    mib = found.bytes / found.seconds / (1 << 20)
    out.print(f"\n{found.requests:,} requests, {found.bytes:,} bytes in {found.seconds:.3f} s: {found.per_second:,.0f} "
              f"requests/s, {mib:,.1f} MiB/s on {labels.cpu} ({labels.level})")
    if found.restarts:
        out.print(f"The device process died and was started again {found.restarts} time(s); the I/O went on.")
    out.print(_checked(found))
    if found.sight is not None:
        print_sight(found.sight, out)


def _checked(found: Run) -> str:
    bad = found.outcome.failures
    guest = (f"The guest found {bad:,} of its requests wrong, number {found.outcome.first_failure:,} first."
             if bad else "The guest checked every byte that it read through its private side: all right.")
    if found.differs is None:
        return guest
    disk = (f"{found.differs:,} sectors of the disk, or buffers, are not as the requests must have left them."
            if found.differs else "What it wrote is on the disk, byte by byte, and the last buffers are right.")
    return f"{guest}\n{disk}"


def print_sight(sight: Sight, out: Console) -> None:
    """What a search of the host found of the guest's secret."""
    out.print(f"\nThe host ({sight.whose}): {sight.bytes:,} bytes in {sight.mappings} mappings searched for a secret "
              f"of the guest, {sum(sight.hits.values()):,} found.")
    for name, hits in sight.hits.items():
        out.print(f"  LEAK: {hits:,} in {name}")
    if sight.core is None:
        out.print(f"Its core dump: none ({sight.core_why}).")
    else:
        out.print(f"{'LEAK: its' if sight.core_hits else 'Its'} core dump: {sight.core:,} bytes searched, "
                  f"{sight.core_hits:,} found.")


def run_json(found: Run) -> dict[str, Any]:
    """schema 1: as docs/json.md says."""
    return {"schema": 1, "verb": "run", **run_body(found)}


def run_body(found: Run) -> dict[str, Any]:
    """One run, as it stands in any document."""
    labels, outcome = found.labels, found.outcome
    return {
        "design": found.plan.design, "cpu": labels.cpu, "level": labels.level, "cpu_why": labels.cpu_why,
        "backing": labels.backing, "backing_why": labels.why, "isolated": found.plan.isolated, "disk": labels.disk,
        "batch": found.plan.batch, "requests": found.requests, "bytes": found.bytes, "doorbells": found.batches,
        "seconds": found.seconds, "requests_per_s": found.per_second, "bytes_per_s": found.bytes / found.seconds,
        "failures": outcome.failures, "first_failure": outcome.first_failure if outcome.failures else None,
        "differs": found.differs, "restarts": found.restarts,
        "total": dict(found.counts), "per_request": {key: n / found.requests for key, n in found.counts.items()},
        "start_and_end": dict(found.overhead),
        "sight": None if found.sight is None else _sight_json(found.sight), "good": found.good,
    }  # fmt: skip


def _sight_json(sight: Sight) -> dict[str, Any]:
    return {"whose": sight.whose, "mappings": sight.mappings, "bytes": sight.bytes, "unreadable": sight.unreadable,
            "hits": dict(sight.hits), "core_bytes": sight.core, "core_hits": sight.core_hits,
            "core_why": sight.core_why or None, "leaks": sight.leaks}
