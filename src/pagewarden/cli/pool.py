"""`pagewarden pool`."""

from dataclasses import replace
from typing import Annotated

import typer

from pagewarden.cli.given import Html, Json, given


def pool(
    context: typer.Context,
    load: Annotated[
        str, typer.Argument(metavar="TRACE|WORKLOAD", help="Trace of dma:* events, or requests (docs/workloads.md); -.")
    ],
    slots: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Slots of 2 KiB to try, as in swiotlb=SLOTS: 32768, the default of a guest that is not encrypted.",
        ),
    ] = None,
    areas: Annotated[
        int | None,
        typer.Option(min=1, max=8192, help="Areas, as in swiotlb=,AREAS: the guest's CPUs; else those seen."),
    ] = None,
    align: Annotated[int, typer.Option(min=1, max=1 << 18, help="The device's alignment in bytes: 4096 for NVMe.")] = 1,
    base: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where the pool of the trace begins: replay it exactly.")
    ] = None,
    depth: Annotated[
        int | None, typer.Option(min=1, max=1 << 20, help="Requests of a workload in flight: its own, or 1.")
    ] = None,
    contiguous: Annotated[
        int, typer.Option(min=512, max=1 << 32, help="Bytes of a workload's buffers that lie together in memory.")
    ] = 4096,
    html: Html = None,
    json: Json = False,
) -> None:
    """How big swiotlb, the bounce pool, must be for what a guest maps; status 1 where it is too small.

    \b
    pagewarden pool trace.txt
    pagewarden pool trace.txt --slots 4096 --areas 2
    pagewarden pool examples/randrw.iolog --depth 32
    """
    from pagewarden.cli import sizes
    from pagewarden.cli.progress import ProgressBars
    from pagewarden.report.compare import mostly_left_out
    from pagewarden.report.pages import answer
    from pagewarden.report.pool import pool_document, print_pool
    from pagewarden.studies.pool import pool_fit
    from pagewarden.vocab import PAGE_SIZE, UserMistake
    from pagewarden.workload.dma_mappings import DmaMappings
    from pagewarden.workload.driver import VirtioBlk, mappings_of
    from pagewarden.workload.load import load_any

    try:
        start = None if base is None else int(base, 0)
        if start is not None and (not 0 <= start < 1 << 64 or start % PAGE_SIZE):
            raise ValueError
    except ValueError:
        raise UserMistake(f"--base {base}: expected the address of a page, such as 0x7d000000") from None
    tried = None if slots is None else sizes.slots(slots)
    with ProgressBars() as progress:
        found = load_any(load, progress.of(f"reading {load}"))
    if isinstance(found, DmaMappings):
        if depth is not None:
            raise UserMistake("--depth is for a workload: a trace of mappings has its own; leave it out")
        if given(context, "contiguous"):
            raise UserMistake("--contiguous is for a workload: a trace says where buffers lie; leave it out")
    else:
        if start is not None:
            raise UserMistake("--base is for a trace of mappings: a workload has no addresses; leave it out")
        much = mostly_left_out(found.requests, found.skipped)
        found = mappings_of(found, VirtioBlk(contiguous=contiguous), depth)
        found = replace(found, notes=(much, *found.notes)) if much else found
    fit = pool_fit(found, tried, areas, align, start)
    answer(lambda: pool_document(fit), lambda out: print_pool(fit, out), json, html)
    if not fit.fits:
        raise typer.Exit(1)
