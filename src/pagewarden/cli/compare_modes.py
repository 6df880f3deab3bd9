"""What `pagewarden compare` does besides comparing designs on a workload."""

from pathlib import Path
from typing import Any

import typer

_SETUP = ("platform", "policy", "profile", "plugin", "set_", "json")
_READING = ("workload", "section", "requests", "columns")
_COUNTED = "on DMA mappings, which are counted and not priced (pagewarden pool FILE says how big a pool they need)"
EFFECTIVE = {
    "explain": ("with --explain, which shows one request of --size bytes", (*_SETUP, "explain", "size")),
    "sizes": ("with --sizes", (*_SETUP, "design", "sizes", "csv", "html")),
    "single": ("without a workload", (*_SETUP, "design", "size", "csv", "wide", "driver", "html", "decide")),
    "workload": ("here", (*_SETUP, *_READING, "design", "csv", "wide", "driver", "html", "decide")),
    "driver": ("with --driver", (*_READING, "size", "driver", "json")),
    "mappings": (_COUNTED, (*_READING, "size", "driver", "json")),
}
"""What is asked for, in words, and the parameters that matter there."""


def mappings(wanted: Any, driver: str, json: bool) -> None:
    """A trace's mappings, or those that a driver makes of requests."""
    from pagewarden.report.mappings import mappings_document, print_mappings
    from pagewarden.report.pages import answer
    from pagewarden.studies.compare.mappings import mapping_counts
    from pagewarden.vocab import UserMistake, one_of
    from pagewarden.workload.dma_mappings import DmaMappings
    from pagewarden.workload.driver import DRIVERS, VirtioBlk, mappings_of

    traced = isinstance(wanted, DmaMappings)
    if traced and driver != "listing":
        raise UserMistake("--driver makes mappings of requests: a trace of mappings has its driver's own; leave it out")
    if not traced:
        one_of("driver", driver, ("listing", *DRIVERS))
        wanted = mappings_of(wanted, VirtioBlk())
    found = mapping_counts(wanted, timed=traced)
    answer(lambda: mappings_document(wanted, found), lambda out: print_mappings(wanted, found, out), json)


def explain_one(made: Any, name: str, size: int, json: bool, own: Any) -> None:
    """One request of a design, or another procedure, step by step; status 1 where the law refuses a step."""
    from pagewarden.report.compare import conditions
    from pagewarden.report.explain import explained, print_listing
    from pagewarden.report.pages import answer
    from pagewarden.studies.compare.explain import explain, procedure_named

    found = explain(made, procedure_named(made, name, own), size)
    asked = conditions(made.profile.name, made.cache, made.settings)
    title = f"{name}, {size:,} bytes, policy {made.policy.name}, {asked}\n"
    answer(lambda: explained(found, name, made), lambda out: print_listing(found, title, out), json)
    if found.refusal is not None:
        raise typer.Exit(1)


def by_size(made: Any, sizes: list[int], designs: Any, json: bool, csv: bool, html: Path | None) -> None:
    """One request of each size."""
    from pagewarden.report.pages import answer
    from pagewarden.report.sizes import print_csv, print_sizes, sizes_document
    from pagewarden.studies.compare.comparison import compare
    from pagewarden.workload import single

    found = [compare(made, single(size), designs) for size in sizes]
    answer(lambda: sizes_document(found), lambda out: print_csv(found) if csv else print_sizes(found, out), json, html)
