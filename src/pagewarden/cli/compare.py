"""`pagewarden compare`."""

from typing import Annotated, Any

import typer

from pagewarden.cli.given import Json, Repeated


def compare(
    workload: Annotated[
        Repeated,
        typer.Argument(
            help="A file of requests (docs/workloads.md), - for standard input, -- fio OPTIONS; none: one 4 KiB write."
        ),
    ] = None,
    design: Annotated[Repeated, typer.Option(help="Only this design; may be given several times.")] = None,
    policy: Annotated[str, typer.Option(help="What kind of backing store holds the guest's memory.")] = "hybrid",
    profile: Annotated[str, typer.Option(help="Prices: a shipped profile, this-host, or a file.")] = "vmx-skylake",
    set_: Annotated[
        Repeated,
        typer.Option("--set", metavar="KEY=VALUE", help="A price (tlbi_ns=500, =300..900) or an option (batch=false)."),
    ] = None,
    section: Annotated[
        Repeated, typer.Option(metavar="NAME", help="Only this job of a fio job file; repeatable.")
    ] = None,
    requests: Annotated[
        int, typer.Option(min=1, help="Requests of a fio job whose size only its device would tell.")
    ] = 10_000,
    columns: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Of a CSV trace: time, op, offset, size, sector, sectors, -.")
    ] = None,
    driver: Annotated[
        str, typer.Option(metavar="NAME", help="linux-virtio-blk: count the DMA mappings that a stock driver makes.")
    ] = "listing",
    explain: Annotated[
        str | None, typer.Option(metavar="NAME", help="One request of a design, or another procedure, step by step.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Bytes of the request when no workload is given: 4096.")
    ] = None,
    wide: Annotated[bool, typer.Option("--wide", help="All counts, in as many columns as it takes.")] = False,
    json: Json = False,
) -> None:
    """What each I/O design costs on a workload: transitions, syscalls, copies, PTEs, TLB invalidations, time.

    \b
    pagewarden compare examples/randrw.iolog
    pagewarden compare -- fio --name=a --rw=randread --bs=4k --size=1g --direct=1
    pagewarden compare --columns time,op,offset,size trace.csv
    pagewarden compare --policy pkvm --profile arm64-kunpeng --set cache=cold --set tlbi_ns=310..890
    pagewarden compare --explain window
    """
    from pagewarden.cli.options import setup
    from pagewarden.cli.progress import ProgressBars
    from pagewarden.cost import load_profile
    from pagewarden.designs import DESIGNS, design_named
    from pagewarden.law import policy_named
    from pagewarden.report.compare import compared, print_comparison
    from pagewarden.report.console import console, print_document
    from pagewarden.studies.compare.comparison import compare as study
    from pagewarden.vocab import UserMistake
    from pagewarden.workload.dma_mappings import DmaMappings
    from pagewarden.workload.load import Reading

    made = setup(policy_named(policy), load_profile(profile), set_ or [])
    if workload and size is not None:
        raise UserMistake("--size is for a single request: with a workload it would have no effect")
    if explain is not None:
        if workload:
            raise UserMistake("--explain shows one request, of --size bytes: it takes no workload")
        _explain(made, explain, size or 4096, json)
        return
    reading = Reading(requests, tuple(section or ()), tuple(columns.split(",")) if columns else ())
    with ProgressBars() as progress:
        wanted = _wanted(workload or [], size or 4096, reading, progress)
        if driver != "listing" or isinstance(wanted, DmaMappings):
            _mappings(wanted, driver, json)
            return
        found = study(made, wanted, [design_named(name) for name in design or DESIGNS], progress)
    if json:
        print_document(compared(found))
    else:
        print_comparison(found, console(), wide)


def _wanted(words: list[str], size: int, reading: Any, progress: Any) -> Any:
    """The workload that the words name."""
    from pagewarden.vocab import UserMistake
    from pagewarden.workload import single
    from pagewarden.workload.load import load_any, of_fio

    if not words:
        return single(size)
    if words[0] == "fio" or words[0].startswith("--"):
        return of_fio(words, reading)
    if len(words) > 1:
        raise UserMistake(f"one workload at a time: {words[0]}, or fio's command line behind `-- fio`")
    return load_any(words[0], progress.of(f"reading {words[0]}"), reading)


def _mappings(wanted: Any, driver: str, json: bool) -> None:
    """A trace's mappings, or those that a driver makes of requests."""
    from pagewarden.report.console import console, print_document
    from pagewarden.report.mappings import mappings_document, print_mappings
    from pagewarden.studies.compare.mappings import mapping_counts
    from pagewarden.vocab import UserMistake, one_of
    from pagewarden.workload.dma_mappings import DmaMappings
    from pagewarden.workload.driver import DRIVERS, VirtioBlk, mappings_of

    traced = isinstance(wanted, DmaMappings)
    if traced and driver != "listing":
        raise UserMistake("--driver makes mappings of requests: a trace of mappings has its driver's own")
    if not traced:
        one_of("driver", driver, ("listing", *DRIVERS))
        wanted = mappings_of(wanted, VirtioBlk())
    found = mapping_counts(wanted, timed=traced)
    if json:
        print_document(mappings_document(wanted, found))
    else:
        print_mappings(wanted, found, console())


def _explain(made: Any, name: str, size: int, json: bool) -> None:
    from pagewarden.report.console import console, print_document
    from pagewarden.report.explain import explained, print_listing
    from pagewarden.studies.compare.explain import explain, procedure_named

    found = explain(made, procedure_named(made, name), size)
    policy, profile = made.policy.name, made.profile.name
    if json:
        print_document(explained(found, name, policy, profile))
    else:
        out = console()
        out.print(f"{name}, {size:,} bytes, policy {policy}, profile {profile}\n")
        print_listing(found, out)
    if found.refusal is not None:
        raise typer.Exit(1)
